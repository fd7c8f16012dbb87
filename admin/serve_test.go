package admin

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"patchbay/identity/strangers"
	"patchbay/internal/health"
)

func well() []health.Problem { return nil }

// pipes is a listener of connections within this process.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

func (p pipes) dial() net.Conn {
	c, other := net.Pipe()
	p <- other
	return c
}

// A connection ends that stays without asking, or whose body does not come,
// whoever it is of; a stream that is read stays.
func TestNobodyHoldsAConnectionForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		o := Options{Token: "sesame", Metrics: prometheus.NewRegistry(), Ready: well, Alive: well, Handlers: map[string]http.Handler{
			"GET /events": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusOK)
				http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}),
		}}
		l, ended := make(pipes), make(chan error)
		go func() { ended <- Serve(ctx, l, Handler(o), slog.New(slog.DiscardHandler)) }()
		for _, c := range []struct {
			name, request string
			most          time.Duration
		}{
			{"says nothing", "GET /healthz HTTP/1.1\r\n", headerTime},
			{"asks once", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", idleTime},
			{"a stranger's body", "POST /api/v1/rotate HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n", bodyTime},
			{"a chunked one", "POST /api/v1/rotate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", bodyTime},
		} {
			conn, began := l.dial(), time.Now()
			go io.WriteString(conn, c.request)
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			if took := time.Since(began); took > c.most+time.Second {
				t.Errorf("%s: it was there for %s; at most %s", c.name, took, c.most)
			}
		}
		conn := l.dial()
		go io.WriteString(conn, "GET /events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sesame\r\n\r\n")
		if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
			t.Errorf("%q, %v", line, err)
		}
		closed := make(chan struct{})
		go func() {
			io.Copy(io.Discard, conn)
			close(closed)
		}()
		select {
		case <-closed:
			t.Error("a stream has ended by itself")
		case <-time.After(24 * time.Hour):
		}
		stop()
		close(l)
		<-ended
		<-closed
	})
}

// Those who were let through are no strangers: others make room for others.
func TestStrangersTakeNoMoreThanTheirPart(t *testing.T) {
	o := Options{Token: "sesame", Metrics: prometheus.NewRegistry(), Ready: well, Alive: well}
	s := &http.Server{Handler: Handler(o), ReadHeaderTimeout: time.Minute}
	limit(s, strangers.New(2))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	ask := func(path, more string) (net.Conn, *bufio.Reader) {
		t.Helper()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(c)
		again(t, c, in, path, more)
		return c, in
	}
	friend, answers := ask("/metrics", "Authorization: Bearer sesame\r\n")
	_, first := ask("/healthz", "")
	for range 5 {
		ask("/healthz", "")
	}
	if _, err := first.ReadByte(); err != io.EOF && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the first stranger is still there: %v", err)
	}
	again(t, friend, answers, "/metrics", "Authorization: Bearer sesame\r\n")
}

// again asks on a connection, and reads the answer.
func again(t *testing.T, c net.Conn, in *bufio.Reader, path, more string) {
	t.Helper()
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n"+more+"\r\n"); err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(in, nil)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v, %v", path, r, err)
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		t.Fatal(err)
	}
}
