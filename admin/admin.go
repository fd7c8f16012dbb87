// Package admin is the operator's HTTP interface of the control plane:
// /healthz, /readyz with reasons, /metrics, and /api/v1/… .
//
// It owns who may ask, and the shape of the answers. It must not know keys,
// Envoy or Cloud Map: what it shows are values that others hand it, and a
// value that could hold a secret must not be handed over. Start reading at
// [Handler].
package admin

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"patchbay/internal/health"
)

// Options say what the interface shows and who may use it.
type Options struct {
	// Token is asked for as `Authorization: Bearer TOKEN`: for everything but
	// /healthz and /readyz when Open is false, else for actions only. A client
	// certificate that the server has verified (see [TLS]) stands for it.
	Token string
	// Open lets callers on loopback read without the token. Set it only if
	// the listener is bound to loopback.
	Open bool
	// Trusted lets every caller read and act without the token. Set it only if
	// the listener is a Unix socket that the token's owner alone may open.
	Trusted bool
	// Ready lists what keeps the control plane from being ready, in a stable
	// order; Alive lists what only a restart would cure. Empty means well.
	Ready, Alive func() []health.Problem
	// Parts are what GET /api/v1/NAME answers, as JSON. They are called
	// concurrently.
	Parts map[string]func() any
	// Queries are what GET /api/v1/NAME answers where the question has
	// parameters. An [Invalid] error is answered with 400, any other with 502.
	Queries map[string]func(context.Context, url.Values) (any, error)
	// Actions are what POST /api/v1/NAME does, with the query's values. An
	// [Invalid] error is answered with 400, a [Conflict] with 409, any other with 502.
	Actions map[string]func(context.Context, url.Values) (any, error)
	// Handlers serve other patterns of http.ServeMux. They only read, and are
	// guarded as all reading is.
	Handlers map[string]http.Handler
	// Acting serve other patterns, too, and are guarded as all acting is.
	Acting map[string]http.Handler
	// Page is everything else below /, for everybody: it must hold no data of
	// the mesh. Nil: there is none.
	Page http.Handler
	// Metrics are served at /metrics.
	Metrics prometheus.Gatherer
	Log     *slog.Logger // nil: nobody hears of answers that can't be made
}

// Invalid marks an error of an action as the caller's.
type Invalid struct{ Err error }

func (e Invalid) Error() string { return e.Err.Error() }
func (e Invalid) Unwrap() error { return e.Err }

// Conflict marks an error of an action that another one was faster than.
type Conflict struct{ Err error }

func (e Conflict) Error() string { return e.Err.Error() }
func (e Conflict) Unwrap() error { return e.Err }

// Handler serves the interface.
func Handler(o Options) http.Handler {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /healthz", health.Handler("ok", o.Alive))
	mux.Handle("GET /readyz", health.Handler("ready", o.Ready))
	mux.Handle("GET /metrics", o.guard(false, promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{EnableOpenMetrics: true})))
	if o.Page != nil {
		mux.Handle("GET /", o.Page)
	}
	mux.Handle("GET /api/v1/{part}", o.guard(false, http.HandlerFunc(o.part)))
	mux.Handle("POST /api/v1/{action}", o.guard(true, http.HandlerFunc(o.action)))
	for pattern, h := range o.Acting {
		mux.Handle(pattern, o.guard(true, h))
	}
	for pattern, h := range o.Handlers {
		mux.Handle(pattern, o.guard(false, h))
	}
	return mux
}

func (o Options) part(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("part")
	if f, ok := o.Parts[name]; ok {
		o.answer(w, http.StatusOK, f())
		return
	}
	f, ok := o.Queries[name]
	if !ok {
		o.refuse(w, http.StatusNotFound, "there is no "+r.URL.Path+"; GET /api/v1/ has: "+names(o.Parts)+", "+names(o.Queries))
		return
	}
	o.run(w, r, f)
}

func (o Options) action(w http.ResponseWriter, r *http.Request) {
	f, ok := o.Actions[r.PathValue("action")]
	if !ok {
		o.refuse(w, http.StatusNotFound, "there is no "+r.URL.Path+"; POST /api/v1/ has: "+strings.Join(o.posts(), ", "))
		return
	}
	o.run(w, r, f)
}

// posts are the names of everything that is asked for by POST, sorted.
func (o Options) posts() []string {
	all := slices.Collect(maps.Keys(o.Actions))
	for _, more := range []map[string]http.Handler{o.Acting, o.Handlers} {
		for pattern := range more {
			if name, is := strings.CutPrefix(pattern, "POST /api/v1/"); is {
				all = append(all, name)
			}
		}
	}
	slices.Sort(all)
	return all
}

func (o Options) run(w http.ResponseWriter, r *http.Request, f func(context.Context, url.Values) (any, error)) {
	v, err := f(r.Context(), r.URL.Query())
	if invalid, is := errors.AsType[Invalid](err); is {
		o.refuse(w, http.StatusBadRequest, invalid.Error())
		return
	}
	if conflict, is := errors.AsType[Conflict](err); is {
		o.refuse(w, http.StatusConflict, conflict.Error())
		return
	}
	if err != nil {
		o.refuse(w, http.StatusBadGateway, err.Error())
		return
	}
	o.answer(w, http.StatusOK, v)
}

// guard lets a request through if it carries the token or came with a verified
// client certificate, or if it only reads,
// from loopback, and names a loopback host (a web page that had its name
// rebound to 127.0.0.1 still sends its own).
func (o Options) guard(acts bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		hasToken := o.Token != "" && subtle.ConstantTimeCompare([]byte(given), []byte(o.Token)) == 1
		certified := r.TLS != nil && len(r.TLS.VerifiedChains) > 0
		if hasToken || certified || o.Trusted || o.Open && !acts && loopback(r.RemoteAddr) && loopback(r.Host) {
			known(r.Context())
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="patchbay"`)
		o.refuse(w, http.StatusUnauthorized, "send the admin token: Authorization: Bearer TOKEN (the file admin-token in the data directory, or admin.tokenFile); or, with admin.tls.clientCAFile, show a client certificate of that CA")
	})
}

func loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

func names[V any](m map[string]V) string {
	all := make([]string, 0, len(m))
	for k := range m {
		all = append(all, k)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func (o Options) refuse(w http.ResponseWriter, status int, text string) {
	o.answer(w, status, map[string]string{"error": text})
}

func (o Options) answer(w http.ResponseWriter, status int, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		o.Log.Error("an answer can't be encoded", "error", err)
		status, b = http.StatusInternalServerError, []byte(`{"error": "the answer can't be encoded: the control plane's log says why"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the client may have left
}
