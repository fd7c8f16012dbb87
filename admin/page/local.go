package page

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// Local serves the page to browsers of this machine for a control plane that
// they can't reach themselves: events opens its GET /events, service is what its
// GET /api/v1/service answers. Nothing else of that control plane can be had
// through it. Serve it on loopback only: it asks
// for no token. A request that names another host is refused, so that no page
// that had its own name rebound to 127.0.0.1 can read it.
func Local(events func(context.Context) (io.ReadCloser, error), service func(ctx context.Context, name string) (any, error)) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /", Handler())
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) {
		stream, err := events(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer stream.Close()
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-store")
		copyAtOnce(w, stream)
	})
	mux.HandleFunc("GET /api/v1/service", func(w http.ResponseWriter, r *http.Request) {
		v, err := service(r.Context(), r.URL.Query().Get("name"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(v) //nolint:errcheck // the browser has left
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !loopback(r.Host) {
			http.Error(w, "ask for it as localhost or 127.0.0.1", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// copyAtOnce passes on what comes as it comes, until one of both ends.
func copyAtOnce(w http.ResponseWriter, from io.Reader) {
	out := http.NewResponseController(w)
	for buf := make([]byte, 64<<10); ; {
		n, err := from.Read(buf)
		if n > 0 {
			if _, failed := w.Write(buf[:n]); failed != nil || out.Flush() != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func loopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && a.IsLoopback()
}

// ErrNotLoopback is returned for an address that others could reach.
var ErrNotLoopback = errors.New("the page is shown without a token, so on 127.0.0.1 or [::1] only")

// Listen opens a port of this machine alone; port 0 is any.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	if !loopback(address) {
		return nil, ErrNotLoopback
	}
	return new(net.ListenConfig).Listen(ctx, "tcp", address)
}

// Serve answers on l until ctx ends, and returns its cause.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { s.Close() })()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return context.Cause(ctx)
}
