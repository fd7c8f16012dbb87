// Package envoytest runs the real Envoy in tests.
//
// It owns the process: where the binary is, its start, its admin interface and
// its end. It must not know what the configuration means. Start reading at
// [Start].
package envoytest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Binary finds Envoy: $PATCHBAY_ENVOY, .tools/bin/envoy beside go.mod, PATH.
// A machine without one fails the test and says how to get it.
func Binary(t testing.TB) string {
	t.Helper()
	if p := os.Getenv("PATCHBAY_ENVOY"); p != "" {
		return p
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		p := filepath.Join(dir, ".tools/bin/envoy")
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	p, err := exec.LookPath("envoy")
	if err != nil {
		t.Fatal("no Envoy: run scripts/envoy.sh, or set PATCHBAY_ENVOY")
	}
	return p
}

// Envoy is a running process. It is stopped at the end of the test.
type Envoy struct {
	cmd    *exec.Cmd
	log    *bytes.Buffer
	client *http.Client
	done   chan struct{}
}

// Start runs Envoy with a bootstrap whose admin interface is the Unix socket
// admin, inside the network namespace netns unless that is empty. When the
// test fails, the end of Envoy's log is printed.
func Start(t testing.TB, bootstrap []byte, admin, netns string, args ...string) *Envoy {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bootstrap.json")
	if err := os.WriteFile(file, bootstrap, 0o600); err != nil {
		t.Fatal(err)
	}
	line := append([]string{Binary(t), "-c", file, "--disable-hot-restart", "--concurrency", "1", "-l", "info"}, args...)
	if netns != "" {
		line = append([]string{"ip", "netns", "exec", netns}, line...)
	}
	e := &Envoy{cmd: exec.Command(line[0], line[1:]...), log: &bytes.Buffer{}, done: make(chan struct{})}
	e.cmd.Stdout, e.cmd.Stderr = e.log, e.log
	e.client = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", admin)
	}}}
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { e.cmd.Wait(); close(e.done) }()
	t.Cleanup(func() {
		e.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-e.done:
		case <-time.After(5 * time.Second):
			e.cmd.Process.Kill()
			<-e.done
		}
		if t.Failed() {
			lines := strings.Split(e.log.String(), "\n")
			t.Logf("Envoy's log, the end:\n%s", strings.Join(lines[max(0, len(lines)-40):], "\n"))
		}
	})
	return e
}

// Eventually tries f every 10 ms until it succeeds; after limit the test
// fails with the last error.
func Eventually(t testing.TB, limit time.Duration, f func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %v", limit, err)
		}
		<-tick.C
	}
}

// Ready waits until Envoy has its configuration.
func (e *Envoy) Ready(t testing.TB) {
	t.Helper()
	Eventually(t, 20*time.Second, func() error {
		body, err := e.Get("/ready")
		if err == nil && strings.TrimSpace(body) != "LIVE" {
			err = fmt.Errorf("Envoy is %s", strings.TrimSpace(body))
		}
		return err
	})
}

// Get is the body of a page of the admin interface.
func (e *Envoy) Get(path string) (string, error) {
	resp, err := e.client.Get("http://envoy" + path) //nolint:noctx // the client has a limit
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// Stats are the counters and gauges by name.
func (e *Envoy) Stats(t testing.TB) map[string]float64 {
	t.Helper()
	body, err := e.Get("/stats?format=json")
	if err != nil {
		t.Fatal(err)
	}
	var all struct {
		Stats []struct {
			Name  string
			Value any // a number, or the words of a text readout
		}
	}
	if err := json.Unmarshal([]byte(body), &all); err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, s := range all.Stats {
		if n, ok := s.Value.(float64); ok {
			out[s.Name] = n
		}
	}
	return out
}
