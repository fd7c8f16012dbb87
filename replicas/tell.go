package replicas

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"net/http"
	"time"

	"patchbay/mesh"
)

// Limits of what another replica may ask for.
const (
	maxLine    = 4 << 20
	maxWaiting = 10_000 // hints that one may leave unread
	writeTime  = 5 * time.Second
)

// message is one line of what a replica tells. Every line is a sign of life and
// a promise: it asks about its own services among View.
type message struct {
	Replica string    `json:"replica"`
	View    []string  `json:"view"`
	Saw     []saw     `json:"saw,omitempty"`
	Stored  []stored  `json:"stored,omitempty"`
	Leaving []leaving `json:"leaving,omitempty"`
	Content string    `json:"content,omitempty"`
}

type saw struct {
	Namespace string `json:"namespace"`
	Service   string `json:"service"`
	Mark      uint64 `json:"mark,string"`
}

type stored struct {
	Namespace  string `json:"namespace"`
	Service    string `json:"service"`
	Generation uint64 `json:"generation,string"`
}

type leaving struct {
	Namespace string `json:"namespace"`
	Service   string `json:"service"`
	Instance  string `json:"instance"`
}

// ear is one replica that listens here.
type ear struct {
	saw     map[mesh.ServiceName]uint64
	stored  map[mesh.ServiceName]uint64
	leaving []leaving
	wake    chan struct{}
	full    bool
}

// Saw tells the others of an answer of the registry.
func (r *Replicas) Saw(s mesh.ServiceName, mark uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old, known := r.marks[s]; known && old == mark {
		return
	}
	r.marks[s] = mark
	for e := range r.ears {
		e.saw[s] = mark
		e.poke()
	}
}

// Stored tells the others that a service's certificate rests in the secret
// store, and as which generation.
func (r *Replicas) Stored(s mesh.ServiceName, generation uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if generation <= r.stored[s] {
		return
	}
	r.stored[s] = generation
	for e := range r.ears {
		e.stored[s] = generation
		e.poke()
	}
}

// Leaving tells the others that an instance has announced its end.
func (r *Replicas) Leaving(s mesh.ServiceName, instance string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for e := range r.ears {
		if e.full = e.full || len(e.leaving) >= maxWaiting; !e.full {
			e.leaving = append(e.leaving, leaving{s.Namespace, s.DiscoveryName, instance})
		}
		e.poke()
	}
}

func (e *ear) poke() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// serve answers the other replicas.
func (r *Replicas) serve(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/hear", r.tell)
	mux.HandleFunc("POST /v1/removed", r.removed)
	mux.HandleFunc("POST /v1/used", r.used)
	s := &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10, IdleTimeout: time.Minute,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	defer context.AfterFunc(ctx, func() { s.Close() })()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return context.Cause(ctx)
}

// tell writes lines until the other end goes.
func (r *Replicas) tell(w http.ResponseWriter, req *http.Request) {
	e := &ear{wake: make(chan struct{}, 1)}
	r.mu.Lock()
	e.saw, e.stored = maps.Clone(r.marks), maps.Clone(r.stored)
	r.ears[e] = struct{}{}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.ears, e)
	}()
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	out := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	for {
		m, news, ok := r.say(e)
		if !ok {
			return // it has not read for so long that it may as well begin anew
		}
		if errors.Join(out.SetWriteDeadline(time.Now().Add(writeTime)), enc.Encode(m), out.Flush()) != nil {
			return
		}
		select {
		case <-beat.C:
		case <-e.wake:
		case <-news:
		case <-req.Context().Done():
			return
		}
	}
}

func (r *Replicas) say(e *ear) (m message, news <-chan struct{}, ok bool) {
	content := r.content()
	r.mu.Lock()
	defer r.mu.Unlock()
	m = message{Replica: r.o.Self, View: r.view(), Leaving: e.leaving, Content: content}
	for s, mark := range e.saw {
		m.Saw = append(m.Saw, saw{s.Namespace, s.DiscoveryName, mark})
	}
	for s, generation := range e.stored {
		m.Stored = append(m.Stored, stored{s.Namespace, s.DiscoveryName, generation})
	}
	e.saw, e.stored, e.leaving = map[mesh.ServiceName]uint64{}, map[mesh.ServiceName]uint64{}, nil
	return m, r.changed, !e.full
}
