package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"patchbay/config"
	"patchbay/internal/envoytest"
	"patchbay/internal/testca"
)

// TestTargetsAndTracesOfTheFile: a control plane in a process of its own, whose
// file names a target outside the mesh and a collector; a task calls the one,
// and its spans reach the other.
func TestTargetsAndTracesOfTheFile(t *testing.T) {
	dir := t.TempDir()
	ca := testca.New(t)
	partner := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s by TLS 1.%d", r.TLS.ServerName, r.TLS.Version-tls.VersionTLS10)
	}))
	partner.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{ca.Certificate(t, "localhost")}}
	partner.StartTLS()
	t.Cleanup(partner.Close)
	var spans atomic.Int64
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if b, err := io.ReadAll(r.Body); err == nil && r.URL.Path == "/v1/traces" && bytes.Contains(b, []byte("frontend.demo")) {
			spans.Add(1)
		}
	}))
	t.Cleanup(collector.Close)

	alias := uint16(freePort(t))
	roots, strange, file := filepath.Join(dir, "partner.pem"), filepath.Join(dir, "strange.pem"), filepath.Join(dir, "patchbay.yaml")
	text := fmt.Sprintf(`
trustDomain: %s
namespaces: [demo]
createNamespaces: true
data: %s
registry: {listen: "127.0.0.1:%d"}
xds: {listen: "127.0.0.1:%d"}
agent: {listen: "127.0.0.1:%d"}
admin: {listen: "127.0.0.1:%d"}
external:
  - name: payments-api
    protocol: http
    alias: {port: %d}
    addresses: ["localhost:%d"]
    tls: {caFile: %s, minimumVersion: "1.3"}
  - name: distrusted
    protocol: http
    alias: {port: %d}
    addresses: ["localhost:%d"]
    tls: {caFile: %s}
tracing: {collector: "127.0.0.1:%d", protocol: http}
`, testDomain, filepath.Join(dir, "data"), freePort(t), freePort(t), freePort(t), freePort(t), alias, portOf(partner), roots, alias, portOf(partner), strange, portOf(collector))
	for name, content := range map[string][]byte{roots: ca.RootPEM, strange: testca.New(t).RootPEM, file: []byte(text)} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	p := &plane{t: t, cfg: cfg}
	p.process(file)

	front := p.sidecar(p.joinDir("frontend"), "f1", clientOnly)
	front.until(serving)
	front.answers("payments-api.demo", alias, "localhost by TLS 1.3")
	envoytest.Eventually(t, 20*time.Second, func() error {
		if spans.Load() == 0 {
			return fmt.Errorf("the collector has no span of frontend.demo")
		}
		return nil
	})
	p.prints(exitDone, `payments-api\.demo .*outside: localhost:`+strconv.Itoa(portOf(partner)), "status")
	p.prints(exitDone, `✓ tls +since its Envoy started, \d+ handshakes? stood, none failed`, "explain", "frontend", fmt.Sprintf("payments-api.demo:%d", alias))
	p.prints(exitProblems, `(?s)✗ tls +localhost:\d+: its certificate does not chain.*\n✗ PB1208 .*fail_verify_error.*caFile`, "explain", "frontend", fmt.Sprintf("distrusted.demo:%d", alias), "--live")
	p.prints(exitDone, `\? tls +since its Envoy started, 0 handshakes stood; \d+ handshakes? failed`, "explain", "frontend", fmt.Sprintf("distrusted.demo:%d", alias))
}

func portOf(s *httptest.Server) int {
	return int(netip.MustParseAddrPort(s.Listener.Addr().String()).Port())
}

// process runs `patchbay serve` in a process of its own until the test ends,
// and waits until it is ready. It must end well.
func (p *plane) process(file string) {
	t := p.t
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "patchbay") // by which TestMain knows that it is the program
	if err := os.Symlink(program, name); err != nil {
		t.Fatal(err)
	}
	log := &lockedBuffer{}
	cmd := exec.Command(name, "serve", "--config", file)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // Wait tells
		if err := cmd.Wait(); err != nil {
			t.Errorf("it ended with %v", err)
		}
		if t.Failed() {
			t.Logf("control plane:\n%s", log)
		}
	})
	envoytest.Eventually(t, 30*time.Second, func() error {
		resp, err := http.Get("http://" + p.cfg.Admin.Listen + "/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
			return fmt.Errorf("not ready: %s %w", body, err)
		}
		return nil
	})
}
