// Package registry is a server that speaks the AWS Cloud Map API (awsJson1_1,
// all 30 operations), so that unchanged AWS SDKs, the AWS CLI and boto3 work
// against it. Beyond Cloud Map it knows leases and a watch:
// docs/reference/registry.md.
//
// It owns what each operation does. It must not know the mesh nor Envoy. The
// rooms below it: cloudmap is what can be said, protocol how, sigv4 by whom;
// state and store are what is kept, lease is when silence is an end, watch
// tells of changes.
//
// Start reading at [New], then dispatch.go, which lists the operations, and
// work.go, which carries out those that are asynchronous.
package registry

import (
	"cmp"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"patchbay/registry/cloudmap"
	"patchbay/registry/lease"
	"patchbay/registry/metrics"
	"patchbay/registry/protocol"
	"patchbay/registry/replica"
	"patchbay/registry/sigv4"
	"patchbay/registry/state"
	"patchbay/registry/store"
	"patchbay/registry/watch"
)

// Options of a [Server]. The zero value is ready.
type Options struct {
	Region  string // in ARNs; default us-east-1
	Account string // in ARNs, twelve digits; default 000000000000
	// Keys are who may call. Nil lets everybody in: for loopback only.
	Keys sigv4.Keys
	// OperationDelay is how long asynchronous operations take, half of it
	// SUBMITTED and half PENDING. AWS takes seconds; the default is to carry
	// them out at once.
	OperationDelay time.Duration
	// HealthDelay is how long a new custom health takes to be seen. AWS takes
	// about 30 s; default none.
	HealthDelay time.Duration
	Log         *slog.Logger     // nil: nobody is told
	Metrics     *metrics.Metrics // nil: nothing is counted
}

// events is how many changes the watch remembers for readers that fall behind
// or reconnect. A longer gap costs them one full reading.
const events = 16384

// Server answers the Cloud Map API at any host and any path. It is safe for
// concurrent use. Nothing that it has acknowledged is lost as far as its store
// keeps it. Asynchronous operations and leases make progress while Run runs.
type Server struct {
	o      Options
	db     *state.DB
	leases *lease.Book
	events *watch.Log
	one    *replica.Replica
	wake   chan struct{} // of Run
	grant  sync.Once
	http   *protocol.Handler
}

// New makes a server of what is in the store. It reads the store at the first
// use, and does not close it.
func New(s store.Store, o Options) *Server {
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	if o.Account == "" {
		o.Account = "000000000000"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = metrics.New(nil)
	}
	v := &Server{o: o, db: state.New(s, o.Log), leases: lease.NewBook(), events: watch.NewLog(events), wake: make(chan struct{}, 1)}
	v.one = &replica.Replica{DB: v.db, Leases: v.leases, Events: v.events, Poke: v.poke}
	v.db.Observe(v.one.Foreign())
	o.Metrics.WatchSilence(v.db.Silence)
	v.http = &protocol.Handler{
		Operations: v.operations(), Keys: o.Keys, Others: map[string]http.Handler{watch.Path: v.events}, Ready: v.Load, Fit: v.one.Fit, Log: o.Log,
		Count: o.Metrics.Answered,
	}
	return v
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.http.ServeHTTP(w, r) }

// Load reads the store now, for who wants to know early whether that works.
// Its error is that of everything else too. It matches store.ErrUnavailable if
// a later call may succeed.
func (s *Server) Load() error {
	return s.db.View(func(v *state.View) {
		s.grant.Do(func() {
			for i := range v.Leased() {
				s.leases.Grant(i.Key(), i.ServiceID, i.Period(), i.Expired, time.Now())
			}
		})
	})
}

func (s *Server) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// view reads; f's error is returned. Before it is, the others' writes are
// asked for: what isn't there may just have been made. f may then run again.
func (s *Server) view(f func(v *state.View) error) error {
	err := s.look(f)
	if err == nil {
		return nil
	}
	if changed, e := s.db.Sync(); e != nil || !changed {
		return cmp.Or(e, err)
	}
	return s.look(f)
}

func (s *Server) look(f func(v *state.View) error) (err error) {
	if e := s.db.View(func(v *state.View) { err = f(v) }); e != nil {
		return e
	}
	return err
}

// tell has the watch say, once tx is durable, that something of a service has
// changed; of its namespace if service is empty.
func (s *Server) tell(tx *state.Tx, kind watch.Kind, n *state.Namespace, service string) {
	e := watch.Event{Kind: kind, Service: service}
	if n != nil {
		e.Namespace = n.HTTPName
	}
	tx.After(func() { s.events.Append(e) })
}

// tellOf is tell for a service that is there.
func (s *Server) tellOf(tx *state.Tx, kind watch.Kind, v *state.Service) {
	s.tell(tx, kind, tx.Namespaces.Get(v.NamespaceID), v.Name)
}

// health is what is reported of an instance: UNKNOWN where nobody sets it, and
// UNHEALTHY, whatever was set, once its lease has run out.
func health(v *state.Service, i *state.Instance) string {
	switch {
	case i.Expired:
		return cloudmap.Unhealthy
	case v.Custom != nil:
		return i.Health
	default:
		return cloudmap.UnknownHealth
	}
}
