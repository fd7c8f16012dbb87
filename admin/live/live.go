// Package live watches the mesh for people who look at the page: it compares
// each status with the one before, keeps what changed as events, and sends both
// to whoever is connected.
//
// It owns the stream of GET /events. It must not know where a status
// comes from, and never holds a key. Start reading at [Watch.Run].
package live

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"patchbay/admin/api"
	"patchbay/diagnose"
	"patchbay/internal/count"
)

const (
	// busy is how often the mesh is looked at while somebody watches, idle
	// otherwise.
	busy = time.Second
	idle = 5 * time.Second
	// eventsMost is how many events are kept.
	eventsMost = 200
	// beat keeps proxies from closing a quiet stream.
	beat = 15 * time.Second
	// writeLimit is how long one write to a watcher may take: who does not read
	// has left.
	writeLimit = 30 * time.Second
)

// View is one message of the stream.
type View struct {
	Status   api.Status         `json:"status"`
	Traffic  api.Traffic        `json:"traffic"`
	Findings []diagnose.Finding `json:"findings"`
	Events   []api.Event        `json:"events"` // newest first
}

// Watch is a mesh that is watched. It is safe for concurrent use.
type Watch struct {
	Status  func() api.Status
	Traffic func() api.Traffic
	Log     *slog.Logger

	mu       sync.Mutex
	last     *View
	sent     []byte // last, as JSON
	events   []api.Event
	watchers map[chan []byte]bool
	wake     chan struct{}
	mute     bool // the newest view can't be encoded; it is logged once
}

// New makes a watch of what the two functions say.
func New(status func() api.Status, traffic func() api.Traffic, log *slog.Logger) *Watch {
	return &Watch{Status: status, Traffic: traffic, Log: log, watchers: map[chan []byte]bool{}, wake: make(chan struct{}, 1)}
}

// Run looks at the mesh until ctx ends, and returns its cause.
func (w *Watch) Run(ctx context.Context) error {
	for {
		w.look()
		pace := idle
		if w.watched() {
			pace = busy
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-w.wake:
		case <-time.After(pace):
		}
	}
}

// Findings are those of the newest look.
func (w *Watch) Findings() []diagnose.Finding {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil {
		return nil
	}
	return w.last.Findings
}

func (w *Watch) watched() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.watchers) > 0
}

// look takes a status, notes what changed and sends it.
func (w *Watch) look() {
	st := w.Status()
	v := &View{Status: st, Traffic: w.Traffic()}
	v.Findings = diagnose.Check(&diagnose.Facts{Now: st.At, Status: &st, Traffic: &v.Traffic})
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last != nil {
		for _, e := range changes(w.last, v) {
			w.events = append([]api.Event{e}, w.events...)
		}
		w.events = w.events[:min(len(w.events), eventsMost)]
	}
	w.last, v.Events = v, append([]api.Event{}, w.events...)
	if len(w.watchers) == 0 {
		w.sent = nil
		return
	}
	b, err := json.Marshal(v)
	if err != nil && !w.mute {
		w.Log.Error("the mesh can't be shown: it can't be encoded", "error", err)
	}
	if w.mute = err != nil; w.mute {
		return
	}
	w.sent = b
	for c := range w.watchers {
		select {
		case c <- b:
		default: // it is slow: the next view has all that it misses
		}
	}
}

// ServeHTTP is GET /events: server-sent events, a whole [View] each.
func (w *Watch) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	c := make(chan []byte, 1)
	w.mu.Lock()
	w.watchers[c] = true
	if w.sent != nil {
		c <- w.sent
	}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.watchers, c)
	}()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	rw.Header().Set("Content-Type", "text/event-stream")
	rw.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(rw)
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		var err error
		_ = out.SetWriteDeadline(time.Now().Add(beat + writeLimit)) // not every connection can: then it has none
		select {
		case <-r.Context().Done():
			return
		case b := <-c:
			_, err = fmt.Fprintf(rw, "event: mesh\ndata: %s\n\n", b)
		case <-tick.C:
			_, err = fmt.Fprint(rw, ": still here\n\n")
		}
		if err != nil || out.Flush() != nil {
			return
		}
	}
}

// changes are the events between two views, in no order that matters.
func changes(old, now *View) []api.Event {
	var out []api.Event
	add := func(subject, format string, args ...any) {
		out = append(out, api.Event{At: now.Status.At, Subject: subject, Text: fmt.Sprintf(format, args...)})
	}
	services := map[string]api.Service{}
	for _, s := range old.Status.Services {
		services[s.Name] = s
	}
	for _, s := range now.Status.Services {
		was, known := services[s.Name]
		delete(services, s.Name)
		if !known {
			add(s.Name, "the service appeared")
			continue
		}
		serviceChanges(was, s, add)
	}
	for name := range services {
		add(name, "the service is gone")
	}
	sidecars := map[string]bool{}
	for _, s := range old.Status.Sidecars {
		sidecars[s.Node] = true
	}
	for _, s := range now.Status.Sidecars {
		if !sidecars[s.Node] {
			add(s.Node, "the sidecar joined")
		}
		delete(sidecars, s.Node)
	}
	for node := range sidecars {
		add(node, "the sidecar left")
	}
	for _, f := range now.Findings {
		if !slices.ContainsFunc(old.Findings, same(f)) {
			out = append(out, api.Event{At: now.Status.At, Subject: f.Subject, Text: f.Code + " " + f.Title, Bad: true})
		}
	}
	for _, f := range old.Findings {
		if !slices.ContainsFunc(now.Findings, same(f)) {
			add(f.Subject, "over: %s %s", f.Code, f.Title)
		}
	}
	return out
}

func same(f diagnose.Finding) func(diagnose.Finding) bool {
	return func(o diagnose.Finding) bool { return o.Code == f.Code && o.Subject == f.Subject }
}

func serviceChanges(was, s api.Service, add func(string, string, ...any)) {
	a, b := was.Endpoints["HEALTHY"]+was.Endpoints["UNKNOWN"], s.Endpoints["HEALTHY"]+s.Endpoints["UNKNOWN"]
	if a != b {
		add(s.Name, "%s can be called, it was %d", count.Of(b, "endpoint"), a)
	}
	if was.TLS != nil && s.TLS != nil && was.TLS.Serial != s.TLS.Serial {
		add(s.Name, "new certificate %s, until %s", s.TLS.Serial, s.TLS.NotAfter.UTC().Format("15:04 MST"))
	}
	if (was.TLS == nil) != (s.TLS == nil) {
		add(s.Name, "%s", map[bool]string{true: "TLS is on", false: "TLS is off"}[s.TLS != nil])
	}
}
