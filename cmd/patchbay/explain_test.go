package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestExplainAndBundle is the commands for people, on a real mesh; and no key
// of it is in anything that an operator can ask for.
func TestExplainAndBundle(t *testing.T) {
	t.Parallel()
	p := startPlane(t)
	_, port := listen(t, "hello")
	alias := uint16(freePort(t))
	front := p.sidecar(p.joinDir("frontend"), "f1", clientOnly)
	back := p.sidecar(p.joinDir("backend", "backend"), "b1", offering(t, "backend", port, alias))
	front.until(serving)
	back.until(serving)
	front.answers("backend.demo", alias, "hello")

	url := fmt.Sprintf("http://backend.demo:%d/", alias)
	out := p.prints(exitDone, `(?s)every hop looks right`, "explain", "f1", url, "--live")
	for _, want := range []string{
		"✓ name         backend.demo is 127.", "✓ tls          127.0.0.1:", "TLS 1.3, backend.demo until", "200 by the application",
		"demo/frontend/f1 counted", "demo/backend/b1 counted", "http.ingress.downstream_rq_total",
		"retries          max 2, on connect-failure,", "(preset ecs)", "timeout          perRequest 15s, idle 5m0s (default)",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("not printed: %s\n%s", want, out)
		}
	}
	p.prints(exitDone, `"member": "retries.max",\s+"value": 2,\s+"from": "preset ecs"`, "explain", "f1", url, "-o", "json")
	p.prints(exitUsage, `port "99999"`, "explain", "f1", "http://backend.demo:99999")
	p.prints(exitDone, `(?s)✓ control plane .*✓ traffic .*1 handshake, 1 of them in order.*nothing is wrong`, "doctor")

	bundle := filepath.Join(t.TempDir(), "report.tar.gz")
	p.prints(exitDone, "written: .*report", "doctor", "--bundle", bundle)
	p.prints(exitDone, "nothing is wrong", "doctor", "--from", bundle)
	p.prints(exitUsage, "is no .tar.gz", "doctor", "--from", os.Args[0])
	p.prints(exitDone, "# PB1401: an application does not listen", "doctor", "--code", "pb1401")
	p.prints(exitUsage, `no code "PB9"`, "doctor", "--code", "PB9")

	p.noSecretIsShown(front, back, alias, map[string][]byte{"bundle": unpacked(t, bundle)})
}

// offering declares a task that uses the port of its own alias: its Envoy then
// leaves the address to the frontend's, which is in the same network here.
func offering(t *testing.T, name string, port, alias uint16) string {
	t.Helper()
	return strings.Replace(declares(name, port, uint16(freePort(t)), alias), `"portMappings": [`, fmt.Sprintf(`"portMappings": [{"containerPort": %d}, `, alias), 1)
}

func unpacked(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	names := []string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		if _, err := io.Copy(&all, r); err != nil {
			t.Fatal(err)
		}
	}
	if len(names) != 4 {
		t.Errorf("the bundle has %v", names)
	}
	return all.Bytes()
}
