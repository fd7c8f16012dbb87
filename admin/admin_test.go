package admin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"patchbay/internal/health"
)

func TestWhoMayAsk(t *testing.T) {
	o := Options{
		Token: "sesame", Open: true, Metrics: prometheus.NewRegistry(),
		Ready: func() []health.Problem { return nil }, Alive: func() []health.Problem { return nil },
		Parts:    map[string]func() any{"sidecars": func() any { return []string{"a"} }},
		Handlers: map[string]http.Handler{"POST /v3/ask": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "told") })},
		Queries: map[string]func(context.Context, url.Values) (any, error){
			"service": func(_ context.Context, v url.Values) (any, error) {
				if v.Get("name") == "" {
					return nil, Invalid{errors.New("which one?")}
				}
				return v.Get("name") + "!", nil
			},
		},
		Actions: map[string]func(context.Context, url.Values) (any, error){
			"rotate": func(_ context.Context, v url.Values) (any, error) {
				if v.Get("service") == "" {
					return nil, Invalid{errors.New("service is missing")}
				}
				return "done", nil
			},
		},
	}
	trusted := o
	trusted.Trusted = true
	closed := o
	closed.Open = false
	unready := o
	unready.Ready = func() []health.Problem { return []health.Problem{{What: "namespace demo", Reason: "not listed yet"}} }
	stuck := o
	stuck.Alive = unready.Ready
	for _, c := range []struct {
		name, method, path, token, host, from string
		o                                     Options
		want                                  int
		body                                  string
	}{
		{"alive", "GET", "/healthz", "", "evil.example", "10.0.0.9:1", closed, 200, "ok"},
		{"stuck", "GET", "/healthz", "", "127.0.0.1", "10.0.0.9:1", stuck, 503, "not listed yet"},
		{"ready", "GET", "/readyz", "", "127.0.0.1", "10.0.0.9:1", closed, 200, `"ready": true`},
		{"not ready", "GET", "/readyz", "", "127.0.0.1", "127.0.0.1:1", unready, 503, "namespace demo"},
		{"loopback reads", "GET", "/api/v1/sidecars", "", "localhost:18002", "127.0.0.1:1", o, 200, `"a"`},
		{"another protocol", "POST", "/v3/ask", "", "localhost:18002", "127.0.0.1:1", o, 200, "told"},
		{"another protocol, from elsewhere", "POST", "/v3/ask", "", "127.0.0.1", "10.0.0.9:1", o, 401, "token"},
		{"a rebound name", "GET", "/api/v1/sidecars", "", "evil.example", "127.0.0.1:1", o, 401, "token"},
		{"another machine", "GET", "/metrics", "", "127.0.0.1", "10.0.0.9:1", o, 401, "token"},
		{"not open", "GET", "/metrics", "", "127.0.0.1", "127.0.0.1:1", closed, 401, "token"},
		{"with token", "GET", "/metrics", "sesame", "x", "10.0.0.9:1", closed, 200, ""},
		{"wrong token", "GET", "/metrics", "sesam", "x", "10.0.0.9:1", closed, 401, ""},
		{"unknown part", "GET", "/api/v1/nothing", "sesame", "x", "10.0.0.9:1", closed, 404, "sidecars"},
		{"action without token", "POST", "/api/v1/rotate?service=a", "", "127.0.0.1", "127.0.0.1:1", o, 401, "token"},
		{"action", "POST", "/api/v1/rotate?service=a", "sesame", "127.0.0.1", "127.0.0.1:1", o, 200, "done"},
		{"query", "GET", "/api/v1/service?name=a", "", "localhost", "127.0.0.1:1", o, 200, "a!"},
		{"bad query", "GET", "/api/v1/service", "", "localhost", "127.0.0.1:1", o, 400, "which"},
		{"by socket", "POST", "/api/v1/rotate?service=a", "", "localhost", "@", trusted, 200, "done"},
		{"not by socket", "POST", "/api/v1/rotate?service=a", "", "localhost", "@", o, 401, "token"},
		{"bad action", "POST", "/api/v1/rotate", "sesame", "127.0.0.1", "127.0.0.1:1", o, 400, "service is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), c.method, c.path, nil)
			r.Host, r.RemoteAddr = c.host, c.from
			if c.token != "" {
				r.Header.Set("Authorization", "Bearer "+c.token)
			}
			w := httptest.NewRecorder()
			Handler(c.o).ServeHTTP(w, r)
			body, _ := io.ReadAll(w.Body)
			if w.Code != c.want || !strings.Contains(string(body), c.body) {
				t.Errorf("%d %s, want %d with %q", w.Code, body, c.want, c.body)
			}
		})
	}
}

func TestNoTokenLetsNobodyAct(t *testing.T) {
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/rotate", nil)
	r.Header.Set("Authorization", "Bearer ")
	Handler(Options{Metrics: prometheus.NewRegistry()}).ServeHTTP(w, r)
	if w.Code != http.StatusUnauthorized {
		t.Fatalf("status %d with an empty token", w.Code)
	}
}

// TestAnAnswerThatCantBeMade: it is an error, and somebody hears of it; never an
// empty success.
func TestAnAnswerThatCantBeMade(t *testing.T) {
	var said strings.Builder
	o := Options{Trusted: true, Metrics: prometheus.NewRegistry(), Log: slog.New(slog.NewTextHandler(&said, nil)),
		Parts: map[string]func() any{"traffic": func() any { return math.NaN() }}}
	w := httptest.NewRecorder()
	Handler(o).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/traffic", nil))
	if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "can't be encoded") || !strings.Contains(said.String(), "NaN") {
		t.Errorf("%d %q; said %q", w.Code, w.Body, &said)
	}
}
