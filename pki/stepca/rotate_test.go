package stepca_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"patchbay/mesh"
	"patchbay/pki"
	"patchbay/pki/issue"
	"patchbay/pki/secret"
)

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// mesh with one service, served by a rotator until stop.
type control struct {
	store *mesh.Store
	*pki.Rotator
	stop func()
}

func startControl(t *testing.T, a *authority, dir string, log *logBuffer) *control {
	t.Helper()
	c := &control{store: mesh.NewStore()}
	c.store.SetServices("prod", []*mesh.Service{{
		Name: backend, Protocol: mesh.HTTP, TLS: &mesh.ServiceTLS{Issuer: "default"},
		Aliases: []mesh.Alias{{DNSName: "backend", Port: 80}},
	}})
	c.Rotator = pki.NewRotator(c.store, map[string]issue.Issuer{"default": a.client(nil)},
		secret.NewFile(secret.FileOptions{Dir: dir}), pki.RotatorOptions{TrustDomain: "mesh.test"}, slog.New(slog.NewJSONHandler(log, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()
	c.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(c.stop)
	return c
}

// until waits for a snapshot that is as ok wants it.
func (c *control) until(t *testing.T, what string, ok func(*mesh.Snapshot) bool) *mesh.Snapshot {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		s := c.store.Snapshot()
		if ok(s) {
			return s
		}
		select {
		case <-c.store.Changed(s.Generation):
		case <-deadline:
			t.Fatalf("%s: status %+v", what, c.Status())
		}
	}
}

func TestRotatorOverARealAuthority(t *testing.T) {
	a, dir, log := newAuthority(t), filepath.Join(t.TempDir(), "secrets"), &logBuffer{}
	c := startControl(t, a, dir, log) // before its CA
	a.start()
	snap := c.until(t, "first leaf", func(s *mesh.Snapshot) bool { return s.Leaves[backend] != nil })
	first := snap.Leaves[backend]
	chain := parse(t, first.ChainPEM)
	inter := x509.NewCertPool()
	inter.AddCert(chain[1])
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: snap.Bundles["default"].Pool(), Intermediates: inter, DNSName: "backend.prod"}); err != nil {
		t.Error(err)
	}
	second, err := c.Rotate(t.Context(), backend)
	if err != nil || second.Serial == first.Serial || bytes.Equal(second.KeyPEM, first.KeyPEM) {
		t.Fatalf("rotated %v to %v, %v", first, second, err)
	}
	if got := c.store.Snapshot().Leaves[backend]; got != second {
		t.Errorf("published %v; rotated to %v", got, second)
	}
	a.stop()
	if _, err := c.Rotate(t.Context(), backend); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("with the CA away: %v", err)
	}
	if left, ok := c.Survivable(time.Now()); !ok || left < 23*time.Hour {
		t.Errorf("survivable %s, %v", left, ok)
	}
	c.stop()
	c = startControl(t, a, dir, log) // a restart while the CA is away
	snap = c.until(t, "leaf from the store", func(s *mesh.Snapshot) bool { return s.Leaves[backend] != nil })
	if !snap.Leaves[backend].Equal(second) || snap.Bundles["default"] == nil {
		t.Errorf("serves %v, bundle %v", snap.Leaves[backend], snap.Bundles["default"])
	}
	a.start()
	third, err := c.Rotate(t.Context(), backend)
	if err != nil || third.Serial == second.Serial {
		t.Errorf("with the CA back: %v, %v", third, err)
	}
	c.stop()
	for _, l := range []*mesh.Leaf{first, second, third} {
		for line := range strings.Lines(string(l.KeyPEM)) {
			if strings.Contains(log.String(), strings.TrimSpace(line)) {
				t.Errorf("the log tells %q of a key", line[:5])
			}
		}
	}
	if !strings.Contains(log.String(), second.Serial) {
		t.Error("the log does not name the serial")
	}
}
