//go:build guides

package main

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"patchbay/config"
	"patchbay/internal/envoytest"
	"patchbay/internal/testca"
)

// fileOf is the control plane's file that a guide shows.
func fileOf(t *testing.T, page string) config.Config {
	t.Helper()
	text, err := os.ReadFile("../../docs/guides/" + page)
	if err != nil {
		t.Fatal(err)
	}
	yaml := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(text)
	if yaml == nil {
		t.Fatal("the page has no file")
	}
	file := filepath.Join(t.TempDir(), "patchbay.yaml")
	if err := os.WriteFile(file, yaml[1], 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestExternalGuide has the targets of the page on this machine, each with a
// certificate of the name that it has there.
func TestExternalGuide(t *testing.T) {
	targets := fileOf(t, "external.md").External
	ca := testca.New(t)
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, ca.RootPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	ports := map[string]uint16{"8080": uint16(freePort(t)), "5432": uint16(freePort(t))}
	for i := range targets {
		e := &targets[i]
		host, _, err := net.SplitHostPort(e.Addresses[0])
		if err != nil {
			t.Fatal(err)
		}
		e.TLS.SNI, e.TLS.CAFile, e.Alias.Port = host, roots, ports[fmt.Sprint(e.Alias.Port)]
		secure := &tls.Config{Certificates: []tls.Certificate{ca.Certificate(t, host)}} //nolint:gosec // what servers have
		if e.Protocol == "http" {
			e.Host = host
			e.Addresses = []string{partner(t, secure)}
		} else {
			e.Addresses = []string{database(t, secure)}
		}
	}
	p := startPlane(t, func(c *config.Config) { c.External = targets })
	g := p.guide("external.md", ports)
	var now *member
	task := ""
	g.in = func(workload string) *member {
		if task != workload && now != nil { // both Envoys would have the aliases: this machine is one task
			if err := now.stop(); err != nil {
				t.Error(err)
			}
		}
		if task != workload {
			task, now = workload, p.sidecar(p.joinDir(workload), workload+"-1", clientOnly, "--drain-time", "1s")
			now.until(serving)
		}
		return now
	}
	g.run(4)
}

// partner is somebody's API, which says what it was asked, and how.
func partner(t *testing.T, c *tls.Config) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s of %s by %s\n", r.Method, r.URL.Path, r.Host, tls.VersionName(r.TLS.Version))
	}))
	s.TLS = c
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// database takes connections, and says nothing.
func database(t *testing.T, c *tls.Config) string {
	t.Helper()
	lis, err := tls.Listen("tcp", "127.0.0.1:0", c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lis.Close() })
	go func() {
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.Copy(io.Discard, conn) //nolint:errcheck // until the other end has enough
			}()
		}
	}()
	return lis.Addr().String()
}

// TestTracingGuide has the collector of the page on this machine: it must get
// the spans of both sidecars.
func TestTracingGuide(t *testing.T) {
	tracing := *fileOf(t, "tracing.md").Tracing
	var mu sync.Mutex
	var got bytes.Buffer
	collector := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		mu.Lock()
		got.Write(body)
		mu.Unlock()
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		w.Write(make([]byte, 5)) //nolint:errcheck // an empty message
		w.Header().Set("Grpc-Status", "0")
	}))
	collector.Config.Protocols = &http.Protocols{}
	collector.Config.Protocols.SetUnencryptedHTTP2(true)
	collector.Start()
	t.Cleanup(collector.Close)
	tracing.Collector = collector.Listener.Addr().String()
	calls(t, "tracing.md", func(c *config.Config) { c.Tracing = &tracing }).run(1)
	trace, err := hex.DecodeString("0af7651916cd43dd8448eb211c80319c")
	if err != nil {
		t.Fatal(err)
	}
	envoytest.Eventually(t, time.Minute, func() error {
		mu.Lock()
		defer mu.Unlock()
		if n := bytes.Count(got.Bytes(), trace); n < 2 || !bytes.Contains(got.Bytes(), []byte("frontend.demo")) || !bytes.Contains(got.Bytes(), []byte("backend.demo")) {
			return fmt.Errorf("%d spans of the trace, in\n%q", n, got.Bytes())
		}
		return nil
	})
}
