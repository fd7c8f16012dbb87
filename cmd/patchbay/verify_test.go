package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"patchbay/audit"
	"patchbay/cmd/patchbay/cli"
	"patchbay/diagnose/verify"
	"patchbay/internal/testca"
)

// TestVerify proves the encryption of a service by the agents of its mesh, with
// real Envoys and a real CA, and does not prove what is not encrypted.
func TestVerify(t *testing.T) {
	t.Parallel()
	p := startPlane(t)
	_, port := listen(t, "hello")
	ingress := uint16(freePort(t))
	p.prints(exitFailed, "no service of the mesh has TLS", "verify")
	front := p.sidecar(p.joinDir("frontend"), "f1", clientOnly)
	back := p.sidecar(p.joinDir("backend", "backend"), "b1", declares("backend", port, ingress, uint16(freePort(t))))
	front.until(serving)
	back.until(serving)

	out := p.prints(exitDone, `encrypted: 1 endpoint of backend\.demo`, "verify", "backend.demo")
	if strings.Count(out, "✓") != 11 || !strings.Contains(out, "TLS 1.3, TLS_AES_") || !strings.Contains(out, "seen from demo/") {
		t.Errorf("%s", out)
	}
	p.prints(exitDone, `seen from demo/frontend/f1`, "verify", "--from", "demo/frontend/f1")
	p.prints(exitProblems, `no agent of this node is connected`, "verify", "--from", "demo/frontend/f2")
	p.prints(exitUsage, `service "nobody" is not in the mesh`, "verify", "nobody")

	// The audit log tells of the certificate; another log, and one that somebody
	// has edited, do not.
	log, edited, other := audit.File(p.cfg.Data), filepath.Join(t.TempDir(), "edited"), filepath.Join(t.TempDir(), "other")
	p.prints(exitDone, `✓ the audit log tells of its issue +[0-9a-f]+, for this key and name`, "verify", "backend.demo", "--audit", log)
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for file, b := range map[string][]byte{edited: bytes.Replace(text, []byte("backend.demo"), []byte("packend.demo"), 1), other: nil} {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.prints(exitProblems, `✗ the audit log tells of its issue +the log proves nothing: \d+ problems?, the first: line \d+: its content is not`, "verify", "backend.demo", "--audit", edited)
	p.prints(exitProblems, `✗ the audit log tells of its issue +it tells of 0 certificates`, "verify", "backend.demo", "--audit", other)
	p.prints(exitUsage, `no such file`, "verify", "backend.demo", "--audit", other+"2")

	// --watch goes on while all is well, and ends with the first check that fails.
	watched := make(chan string, 1)
	limited := http.NewServeMux()
	var looks atomic.Int32
	limited.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/service" && looks.Add(1) > 3 {
			io.WriteString(w, `{"name": "backend.demo", "instances": []}`) // nothing is left to prove
			return
		}
		httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: p.cfg.Admin.Listen}).ServeHTTP(w, r)
	})
	front2 := httptest.NewServer(limited)
	defer front2.Close()
	go func() {
		root := newRoot()
		var b bytes.Buffer
		root.SetOut(&b)
		root.SetErr(&b)
		root.SetArgs([]string{"verify", "backend.demo", "--watch", "--interval", "10ms", "--admin", front2.URL})
		err := root.ExecuteContext(t.Context())
		watched <- fmt.Sprintf("%s\nexit %d: %v", b.String(), cli.Code(err), err)
	}()
	select {
	case got := <-watched:
		if strings.Count(got, "encrypted: 1 endpoint of backend.demo") != 3 || !strings.Contains(got, "there is no endpoint to verify") || !strings.Contains(got, fmt.Sprintf("exit %d: 1 failed check", exitProblems)) {
			t.Errorf("%s", got)
		}
	case <-time.After(30 * time.Second):
		t.Error("verify --watch does not end")
	}

	out = p.prints(exitDone, `"ok": true`, "verify", "backend.demo", "-o", "json")
	var reports []verify.Report
	if err := json.Unmarshal([]byte(out), &reports); err != nil || len(reports) != 1 || reports[0].Endpoints[0].Leaf.Key != "ECDSA P-256" {
		t.Errorf("%v %+v", err, reports)
	}
	out = p.prints(exitDone, "<testsuites>", "verify", "-o", "junit")
	if err := xml.Unmarshal([]byte(out), new(struct{ XMLName xml.Name })); err != nil {
		t.Error(err)
	}

	// Ports that patchbay does not manage: the right CA and name prove it, a
	// foreign CA, a foreign name and a port without TLS do not.
	roots, foreign := filepath.Join(t.TempDir(), "roots.pem"), filepath.Join(t.TempDir(), "foreign.pem")
	detail := struct{ RootsPem string }{}
	if err := json.Unmarshal(p.get("/api/v1/service?name=backend.demo"), &detail); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string][]byte{roots: []byte(detail.RootsPem), foreign: testca.New(t).RootPEM} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at := fmt.Sprintf("127.0.0.1:%d", ingress)
	p.prints(exitDone, `encrypted:`, "verify", "--endpoint", at, "--name", "backend.demo", "--ca", roots)
	p.prints(exitProblems, `(?s)✗ callers trust the certificate +x509.*1 failed check`, "verify", "--endpoint", at, "--name", "backend.demo", "--ca", foreign)
	p.prints(exitProblems, `✗ the certificate names other\.demo`, "verify", "--endpoint", at, "--name", "other.demo", "--ca", roots)
	plain := httptest.NewServer(nil)
	defer plain.Close()
	p.prints(exitProblems, `✗ plain text is refused +accepted: it answered "HTTP/1.1 404 Not Found"`, "verify", "--endpoint", strings.TrimPrefix(plain.URL, "http://"), "--name", "x", "--ca", roots)
	p.prints(exitUsage, `--name`, "verify", "--endpoint", at)
}
