// Package etcdtest runs a real etcd for a test: one server, or a cluster with
// TLS.
package etcdtest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"patchbay/internal/etcdclient"
)

// Server is one etcd: a cluster of one, or a member of several. Its methods are
// for the test's goroutine.
type Server struct {
	URL string

	t    testing.TB
	args []string
	as   etcdclient.Options // how its clients are let in
	log  bytes.Buffer
	cmd  *exec.Cmd
}

// Start runs one until the test ends. Its data do not survive the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s := member(t, "one", "http")
	peer := "http://" + free(t)
	s.args = append(s.args, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "one="+peer,
		"--heartbeat-interval", "50", "--election-timeout", "250")
	s.Up()
	return s
}

// member is not started yet.
func member(t testing.TB, name, scheme string) *Server {
	t.Helper()
	if _, err := exec.LookPath("etcd"); err != nil {
		t.Fatal("etcd is missing; install it with: make test-needs")
	}
	s := &Server{t: t, URL: scheme + "://" + free(t)}
	s.args = []string{"--name", name, "--data-dir", t.TempDir(), "--listen-client-urls", s.URL, "--advertise-client-urls", s.URL,
		"--unsafe-no-fsync", "--logger", "zap", "--log-level", "warn"}
	t.Cleanup(s.Kill)
	return s
}

func free(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// In is the same server for another test, which does not start or end it.
func (s *Server) In(t testing.TB) *Server { return &Server{URL: s.URL, as: s.as, t: t} }

// Up starts it, again after Kill, and waits until it answers.
func (s *Server) Up() {
	s.t.Helper()
	s.start()
	s.answers()
}

func (s *Server) start() {
	s.t.Helper()
	s.cmd = exec.Command("etcd", s.args...) //nolint:gosec // a test's own
	s.cmd.Env = append(os.Environ(), "ETCD_UNSUPPORTED_ARCH="+runtime.GOARCH)
	s.cmd.Stderr, s.cmd.Stdout = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) answers() {
	s.t.Helper()
	c := s.Client()
	for deadline := time.Now().Add(60 * time.Second); ; {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		_, err := c.Get(ctx, "ready")
		if cancel(); err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.Kill()
			s.t.Fatal(fmt.Errorf("etcd does not answer: %w\n%s", err, s.log.String()))
		}
	}
}

// Kill ends it at once. What it has acknowledged is in its directory.
func (s *Server) Kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill() // it has ended already if this fails
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// Client is a new client, closed at the end of the test.
func (s *Server) Client() *clientv3.Client {
	s.t.Helper()
	o := s.as
	o.Endpoints = []string{s.URL}
	return client(s.t, o)
}

func client(t testing.TB, o etcdclient.Options) *clientv3.Client {
	t.Helper()
	c, err := etcdclient.Dial(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Compact forgets everything older than what is there now.
func (s *Server) Compact() {
	s.t.Helper()
	c := s.Client()
	out, err := c.Get(s.t.Context(), "ready")
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := c.Compact(s.t.Context(), out.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		s.t.Fatal(err)
	}
}
