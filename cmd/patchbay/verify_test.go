package main

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"patchbay/diagnose/verify"
	"patchbay/internal/envoytest"
)

// TestVerify proves the encryption of a service by the agents of its mesh, with
// real Envoys and a real CA, and does not prove what is not encrypted.
func TestVerify(t *testing.T) {
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
	p.prints(exitFailed, `service "nobody" is not in the mesh`, "verify", "nobody")

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
	for file, text := range map[string][]byte{roots: []byte(detail.RootsPem), foreign: envoytest.NewCA(t).RootPEM} {
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
