// Package fault breaks a local mesh on purpose, for a while: to see what its
// applications make of it.
//
// It owns which faults there are, that each ends by itself, and that none is
// made where others would be harmed. It must not know how a fault reaches an
// Envoy. Nothing of it is ever written: a control plane that restarts has
// forgotten it. Start reading at [Injector.ServeHTTP].
package fault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"patchbay/internal/suggest"
	"patchbay/mesh"
	"patchbay/mesh/policy"
)

// The kinds of faults.
const (
	Delay    = "delay"    // requests to a service wait
	Abort    = "abort"    // requests to a service are answered with an error
	Drop     = "drop"     // an endpoint of a service is not shown to callers
	Throttle = "throttle" // the registry refuses calls
	Restart  = "restart"  // the control plane ends and starts again
	Expire   = "expire"   // the certificate of a service ends and is not renewed
)

var kinds = []string{Delay, Abort, Drop, Expire, Throttle, Restart}

const (
	// DefaultTime is how long a fault lasts.
	DefaultTime = 30 * time.Second
	// MaxTime is how long it may.
	MaxTime  = 10 * time.Minute
	maxDelay = time.Minute
	// DefaultLife is how long a certificate lasts that is to expire.
	DefaultLife = 15 * time.Second
)

// Injector makes faults. It is safe for concurrent use.
type Injector struct {
	Store *mesh.Store
	// Refused says why no faults are made here; empty: they are.
	Refused string
	// Restart ends the control plane and starts it again.
	Restart func()
	// Brief has a leaf made for a service that lasts no longer than life.
	Brief func(ctx context.Context, s mesh.ServiceName, life time.Duration) (*mesh.Leaf, error)
	Log   *slog.Logger

	throttled atomic.Uint32 // percent of the registry's calls
	refused   atomic.Uint64 // of them, so far
	expiring  sync.Map      // mesh.ServiceName → *mesh.Leaf that is shown
}

// Event is what a fault says of itself: when it begins, and when it ends.
type Event struct {
	At    time.Time `json:"at"`
	Event string    `json:"event"` // began, expired, ended
	Text  string    `json:"text"`
}

// Wanted is a fault that is asked for.
type Wanted struct {
	Kind     string
	Service  string
	Endpoint string        // IP:port, of Drop
	Percent  uint32        // of the requests or calls, 1 to 100
	Delay    time.Duration // of [Delay]
	Abort    uint32        // HTTP status, of [Abort]
	Life     time.Duration // of the certificate, of [Expire]
	For      time.Duration
}

// Query is the form in which it is asked for.
func (w Wanted) Query() url.Values {
	return url.Values{
		"kind": {w.Kind}, "service": {w.Service}, "endpoint": {w.Endpoint}, "percent": {fmt.Sprint(w.Percent)},
		"delay": {w.Delay.String()}, "abort": {fmt.Sprint(w.Abort)}, "life": {w.Life.String()}, "for": {w.For.String()},
	}
}

// parse reads a query and checks it. The error lists every problem.
func parse(v url.Values) (Wanted, error) {
	w := Wanted{Kind: v.Get("kind"), Service: v.Get("service"), Endpoint: v.Get("endpoint")}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	number := func(key string, least, most uint64) uint32 {
		n, err := strconv.ParseUint(v.Get(key), 10, 32)
		if err != nil || n < least || n > most {
			bad("%s %q; allowed: %d to %d", key, v.Get(key), least, most)
		}
		return uint32(n)
	}
	span := func(key string, most time.Duration) time.Duration {
		d, err := time.ParseDuration(v.Get(key))
		if err != nil || d <= 0 || d > most {
			bad("%s %q; allowed: up to %v", key, v.Get(key), most)
		}
		return d
	}
	w.For = span("for", MaxTime)
	switch w.Kind {
	case Delay:
		w.Percent, w.Delay = number("percent", 1, 100), span("delay", maxDelay)
	case Abort:
		w.Percent, w.Abort = number("percent", 1, 100), number("abort", 200, 599)
	case Throttle:
		w.Percent = number("percent", 1, 100)
	case Expire:
		if w.Life = span("life", MaxTime); w.For > 0 && w.Life >= w.For {
			bad("life %q; allowed: less than the %v that the fault lasts", v.Get("life"), w.For)
		}
	case Drop, Restart:
	default:
		bad("kind %q; allowed: %s", w.Kind, strings.Join(kinds, ", "))
	}
	return w, errors.Join(errs...)
}

// ServeHTTP makes the fault of the query, says so as a server-sent event, and
// ends it after its time, or when the caller leaves.
func (i *Injector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if i.Refused != "" {
		refuse(w, http.StatusConflict, i.Refused)
		return
	}
	want, err := parse(r.URL.Query())
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	made, err := i.begin(r.Context(), want)
	if errors.As(err, new(busy)) {
		refuse(w, http.StatusConflict, err.Error())
		return
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	text, undo := made.text, sync.OnceFunc(made.undo)
	defer undo()
	ctx, cancel := context.WithTimeout(r.Context(), want.For)
	defer cancel()
	i.Log.WarnContext(ctx, "a fault is made on purpose", "fault", text, "lasts", want.For.String())
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	say := func(e Event) bool {
		b, err := json.Marshal(e)
		if err == nil {
			_, err = fmt.Fprintf(w, "event: fault\ndata: %s\n\n", b)
		}
		return err == nil && out.Flush() == nil
	}
	if !say(Event{At: time.Now(), Event: "began", Text: text}) {
		return
	}
	if want.Kind == Restart {
		i.Restart()
	}
	var expired <-chan time.Time
	if want.Kind == Expire {
		expired = time.After(time.Until(made.expires))
	}
	select {
	case <-ctx.Done():
	case <-expired:
		say(Event{At: time.Now(), Event: "expired", Text: "the certificate of " + want.Service + ": connections that stand go on, new ones are refused"})
		<-ctx.Done()
	}
	undo()
	i.Log.InfoContext(r.Context(), "a fault has ended", "fault", text)
	say(Event{At: time.Now(), Event: "ended", Text: text})
}

// fault is what the callers' Envoys are told.
func (w Wanted) fault() *policy.Fault {
	if w.Kind == Delay {
		return &policy.Fault{Delay: &policy.Delay{Duration: policy.Duration(w.Delay), Percent: w.Percent}}
	}
	return &policy.Fault{Abort: &policy.Abort{Status: w.Abort, Percent: w.Percent}}
}

// made is a fault that has begun.
type made struct {
	text    string
	undo    func()
	expires time.Time // when its certificate ends, of [Expire]
}

// busy is an error of a fault that can be made later.
type busy string

func (b busy) Error() string { return string(b) }

func (i *Injector) begin(ctx context.Context, w Wanted) (made, error) {
	switch w.Kind {
	case Throttle:
		if !i.throttled.CompareAndSwap(0, w.Percent) {
			return made{}, busy("the registry is throttled already")
		}
		return made{text: fmt.Sprintf("the registry refuses %d %% of its calls", w.Percent), undo: func() { i.throttled.Store(0) }}, nil
	case Restart:
		return made{text: "the control plane ends and starts again", undo: func() {}}, nil
	}
	s, err := i.service(w.Service)
	if err != nil {
		return made{}, err
	}
	w.Service = s.Name.String()
	if w.Kind == Expire {
		return i.expire(ctx, s, w)
	}
	text, show, err := w.show(s)
	if err != nil {
		return made{}, err
	}
	undo, ok := i.Store.Override(s.Name, show)
	if !ok {
		return made{}, busy(w.Service + " has a fault already: one at a time")
	}
	return made{text: text, undo: undo}, nil
}

// show is how a service is shown with the fault, and that in words.
func (w Wanted) show(s *mesh.Service) (text string, show func(*mesh.Service) *mesh.Service, err error) {
	switch {
	case w.Kind == Drop:
		return drop(s, w.Endpoint)
	case !s.Protocol.L7():
		return "", nil, fmt.Errorf("%s speaks %s: only requests of http, http2 and grpc can be harmed; `patchbay fault drop` takes an endpoint away", w.Service, s.Protocol)
	case w.Kind == Delay:
		text = fmt.Sprintf("%d %% of the requests to %s wait %v", w.Percent, w.Service, w.Delay)
	default:
		text = fmt.Sprintf("%d %% of the requests to %s are answered with %d", w.Percent, w.Service, w.Abort)
	}
	return text, func(v *mesh.Service) *mesh.Service {
		c, p := *v, policy.Policy{}
		if v.Policy != nil {
			p = *v.Policy
		}
		p.Fault, c.Policy = w.fault(), &p
		return &c
	}, nil
}

func (i *Injector) service(name string) (*mesh.Service, error) {
	services := map[string]*mesh.Service{}
	for _, s := range i.Store.Snapshot().Services {
		services[s.Name.String()] = s
	}
	full, err := suggest.Service(name, slices.Collect(maps.Keys(services)))
	return services[full], err
}

// drop shows a service without one endpoint: the named one, or the first.
func drop(s *mesh.Service, endpoint string) (string, func(*mesh.Service) *mesh.Service, error) {
	var all []string
	for _, e := range s.Endpoints {
		all = append(all, e.Addr.String())
	}
	if endpoint == "" && len(all) > 0 {
		endpoint = all[0]
	}
	if !slices.Contains(all, endpoint) {
		return "", nil, fmt.Errorf("endpoint %q is not one of %s; there are: %s", endpoint, s.Name, strings.Join(all, ", "))
	}
	text := fmt.Sprintf("%s is not shown as an endpoint of %s (%d are left)", endpoint, s.Name, len(all)-1)
	return text, func(v *mesh.Service) *mesh.Service {
		c := *v
		c.Endpoints = slices.DeleteFunc(slices.Clone(v.Endpoints), func(e mesh.Endpoint) bool { return e.Addr.String() == endpoint })
		return &c
	}, nil
}

// Registry stands before the registry's calls and refuses those that the
// throttle says, in Cloud Map's words.
func (i *Injector) Registry(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		percent := uint64(i.throttled.Load())
		if percent == 0 || r.Header.Get("X-Amz-Target") == "" || (i.refused.Add(1)*percent)%100 >= percent {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"__type":"RequestLimitExceeded","message":"patchbay fault throttle"}`) //nolint:errcheck // the caller has gone
	})
}

func refuse(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"error": text}) //nolint:errcheck // the caller has gone
}
