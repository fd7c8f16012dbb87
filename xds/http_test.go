package xds

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"patchbay/mesh"
)

// What HTTP/1 promises, through two Envoys.

func TestTrailersOfHTTP1(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		n, err := io.Copy(w, r.Body)
		w.Header().Set("X-Sum", fmt.Sprint(n, " ", r.Trailer.Get("X-Check"), " ", err))
	}))
	t.Cleanup(app.Close)
	startPair(t, mesh.HTTP, netip.MustParseAddrPort(app.Listener.Addr().String()).Port()).each(t, func(t *testing.T, a mesh.Alias) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+vip(a), io.MultiReader(strings.NewReader("hello")))
		if err != nil {
			t.Fatal(err)
		}
		req.Trailer = http.Header{"X-Check": {"abc"}}
		resp, err := oneCall.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if got := resp.Trailer.Get("X-Sum"); err != nil || string(body) != "hello" || got != "5 abc <nil>" {
			t.Errorf("%q with the trailer %q, %v", body, got, err)
		}
	})
}

// A client of HTTP/1.0, as nginx is by default.
func TestClientsOfHTTP10(t *testing.T) {
	startPair(t, mesh.HTTP, backend(t, "ok").Port()).each(t, func(t *testing.T, a mesh.Alias) {
		conn, err := net.Dial("tcp", vip(a))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second)) //nolint:errcheck // a TCP connection has deadlines
		fmt.Fprint(conn, "GET / HTTP/1.0\r\nHost: api\r\n\r\n")
		if got, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(got), "HTTP/1.") || !strings.HasSuffix(string(got), "\r\n\r\nok") {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// Endpoints are called in turn: on one connection of an application, each gets
// as many requests as any other.
func TestEndpointsAreCalledInTurn(t *testing.T) {
	c := startControl(t, 0)
	api := freeAlias(t, "api")
	c.store.SetServices("prod", []*mesh.Service{aliased("api", api, time.Minute, backend(t, "a"), backend(t, "b"), backend(t, "c"))})
	c.task(t, "prod/web/1", "")
	shares(t, api, 3) // connections are made
	if got := shares(t, api, 30); got["a"] != 10 || got["b"] != 10 || got["c"] != 10 {
		t.Errorf("of 30 requests: %v", got)
	}
}
