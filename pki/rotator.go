// Package pki gets a certificate for every service that has TLS, keeps it
// fresh, and publishes it and the trust in its issuer into a [mesh.Store].
//
// It owns when a certificate is renewed and in which order trust and leaves go
// out; what every issuer does is in pki/issue, where secrets rest in pki/secret.
// It must not know how a sidecar receives a certificate (xds) nor where services
// come from (discovery).
//
// Its promise: no failure of ours takes away a certificate or a root that still
// works. Start reading at [Rotator.Run].
package pki

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"patchbay/audit"
	"patchbay/mesh"
	"patchbay/pki/issue"
	"patchbay/pki/lane"
	"patchbay/pki/secret"
)

// RotatorOptions tune a [Rotator]. Zero values are the defaults.
type RotatorOptions struct {
	TrustDomain string // of the SPIFFE IDs; required
	// CallersIssuer is the name of the issuer of the certificates that
	// workloads call with.
	CallersIssuer string
	KMSKeys       bool          // the secret store keeps a service's certificate under the KMS key that it asks for
	BundleRefresh time.Duration // how often an issuer's roots are asked for; 1 min
	Rate          float64       // certificates a second, of each issuer without a limit of its own; 20
	Parallel      int           // certificates asked for at once, of each issuer without a limit of its own; 4
	// TrustLead is how long a new root of an issuer that had others before is
	// published ahead of the first leaf that needs it; 10 s.
	TrustLead time.Duration
	// Unacked names the connected nodes that have not accepted the newest
	// bundle of an issuer. While there are any, no leaf that needs a new root
	// is published, unless the service has nothing else to live on. nil: there
	// are none.
	Unacked func(issuer string) []string
	// IssueTimeout bounds one attempt; 30 s.
	IssueTimeout time.Duration
	// Audit is told of every certificate that an issuer gave, and of every
	// service whose certificate it refused; nil: nobody is.
	Audit func(audit.Event)
	// Stored is told of every leaf in use that rests in the secret store, and as
	// which generation, so that it tells the other replicas ([Rotator.Stored]).
	// It must not block. nil: nobody is.
	Stored func(service mesh.ServiceName, generation uint64)
	// Self names this replica in what it prepares, and Gone reports whether
	// another one, by its name, was heard and no longer is: what such a one
	// prepared is finished at once. Empty and nil: nothing is known of others.
	Self string
	Gone func(replica string) bool
}

// When a leaf is renewed, as parts of its life from issue to end, unless its
// issuer says otherwise.
const (
	renewFrom  = 0.60
	renewTo    = 0.75
	alarmAbove = 0.90
)

// Rotator keeps the leaf of every service that has TLS and of every workload
// that needs one to call with, and the trust bundle of every issuer, in a
// mesh.Store. Its methods are safe for concurrent use.
type Rotator struct {
	store   *mesh.Store
	secrets secret.Store
	o       RotatorOptions
	log     *slog.Logger

	trusts   map[string]*trust // by issuer; fixed
	loads    lane.Lane
	requests chan rotateRequest
	wake     chan struct{} // something was told
	landed   chan landing

	mu       sync.Mutex // guards what follows and the lanes; only Run's loop changes them
	known    []*mesh.Service
	callers  []mesh.Workload
	services map[mesh.ServiceName]*service
	told     map[mesh.ServiceName]uint64 // generations that others have stored, to be looked for
}

type rotateRequest struct {
	name  mesh.ServiceName
	reply chan<- rotateReply // buffered
}

type rotateReply struct {
	leaf *mesh.Leaf
	err  error
}

// NewRotator returns a rotator for the services in store; issuers are keyed by
// the name that a service's `tls` block gives. Nothing happens before Run.
func NewRotator(store *mesh.Store, issuers map[string]issue.Issuer, secrets secret.Store, o RotatorOptions, log *slog.Logger) *Rotator {
	o.BundleRefresh = cmp.Or(o.BundleRefresh, time.Minute)
	o.Rate = cmp.Or(o.Rate, 20)
	o.Parallel = cmp.Or(o.Parallel, 4)
	o.TrustLead = cmp.Or(o.TrustLead, 10*time.Second)
	o.IssueTimeout = cmp.Or(o.IssueTimeout, 30*time.Second)
	r := &Rotator{
		store: store, secrets: secrets, o: o, log: log,
		trusts:   map[string]*trust{},
		loads:    lane.New(math.Inf(1), o.Parallel),
		requests: make(chan rotateRequest),
		wake:     make(chan struct{}, 1),
		services: map[mesh.ServiceName]*service{},
		told:     map[mesh.ServiceName]uint64{},
	}
	flights := r.loads.Parallel
	for name, issuer := range issuers {
		t := newTrust(name, issuer, r)
		r.trusts[name] = t
		flights += t.issues.Parallel
	}
	r.landed = make(chan landing, flights)
	if r.o.Unacked == nil {
		r.o.Unacked = func(string) []string { return nil }
	}
	if r.o.Gone == nil {
		r.o.Gone = func(string) bool { return false }
	}
	if r.o.Audit == nil {
		r.o.Audit = func(audit.Event) {}
	}
	if r.o.Stored == nil {
		r.o.Stored = func(mesh.ServiceName, uint64) {}
	}
	return r
}

// Run serves until ctx ends, and returns its error when all work has stopped.
// It first publishes what the secret store holds, so a restart needs no CA.
func (r *Rotator) Run(ctx context.Context) error {
	for _, name := range r.issuers() {
		r.trusts[name].load(ctx)
	}
	var work sync.WaitGroup
	for _, t := range r.trusts {
		work.Go(func() { t.run(ctx) })
	}
	for ctx.Err() == nil {
		snap := r.store.Snapshot()
		wait := r.step(ctx, snap, &work)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-r.wake:
		case <-r.store.Changed(snap.Generation):
		case l := <-r.landed:
			r.land(l)
			for range len(r.landed) { // those that came at the same time
				r.land(<-r.landed)
			}
		case q := <-r.requests:
			r.force(q)
		}
		timer.Stop()
	}
	work.Wait()
	return ctx.Err()
}

// Rotate gives a service a new leaf now, or joins the rotation that is under
// way, and returns the leaf when it is published. When it fails the service
// keeps the one that it has. It waits until Run takes it up.
func (r *Rotator) Rotate(ctx context.Context, name mesh.ServiceName) (*mesh.Leaf, error) {
	reply := make(chan rotateReply, 1)
	select {
	case r.requests <- rotateRequest{name, reply}:
	case <-ctx.Done():
		return nil, fmt.Errorf("rotate %s: %w", name, ctx.Err())
	}
	select {
	case a := <-reply:
		if a.err != nil {
			return nil, fmt.Errorf("rotate %s: %w", name, a.err)
		}
		return a.leaf, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("rotate %s: %w", name, ctx.Err())
	}
}

// Stored says that another replica has stored a certificate of a service, and
// as which generation. If that is newer than the one in use, it is looked for at
// once. It is a hint: nothing is lost if it is missing or wrong.
func (r *Rotator) Stored(name mesh.ServiceName, generation uint64) {
	r.mu.Lock()
	r.told[name] = max(r.told[name], generation)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// step brings the services in line with snap, starts whatever is due, and
// returns how long nothing else will be due.
func (r *Rotator) step(ctx context.Context, snap *mesh.Snapshot, work *sync.WaitGroup) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if !sameSlice(r.known, snap.Services) || !sameSlice(r.callers, snap.Callers) {
		r.reconcile(snap)
		r.known, r.callers = snap.Services, snap.Callers
	}
	r.heed(now)
	due, wait := r.due(now)
	for _, s := range due {
		l := r.lane(s, now)
		if l.Full() {
			continue // a landing wakes us
		}
		if d := l.Delay(now); d > 0 {
			wait = min(wait, d)
			continue
		}
		l.Start()
		s.flying = l
		f := s.flight(now)
		work.Go(func() { r.landed <- r.fly(ctx, f) })
	}
	return wait
}

// due lists the services that need a flight now, the most urgent first, and
// how long it is until the next one does. r.mu is held.
func (r *Rotator) due(now time.Time) ([]*service, time.Duration) {
	var due []*service
	wait := time.Hour // whatever lands or changes before wakes us
	for _, s := range r.services {
		if s.flying != nil || s.gone {
			continue
		}
		r.watchFloor(s, now)
		if s.awaited > 0 && !s.impatient(now) && r.o.Gone(s.awaitedBy) {
			s.awaits, s.due = now.Add(-patience), now // it will not come
		}
		l := r.lane(s, now)
		if l == nil || l.Full() {
			continue
		}
		if d := s.next().Sub(now); d > 0 {
			wait = min(wait, d)
			continue
		}
		due = append(due, s)
	}
	slices.SortFunc(due, (*service).compare)
	return due, wait
}

// sameSlice reports whether a and b are one slice: the store makes a new one
// for each change.
func sameSlice[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// compare orders by urgency: those not loaded yet first, then the earliest
// expiry. Among equals each replica has an order of its own, so that replicas
// rarely meet.
func (s *service) compare(o *service) int {
	if s.loaded != o.loaded {
		if o.loaded {
			return -1
		}
		return 1
	}
	return cmp.Or(s.notAfter().Compare(o.notAfter()), cmp.Compare(s.order, o.order))
}

// newBackoff draws delays with full jitter: uniformly from 0 to a bound that
// doubles from a second up to longest.
func newBackoff(longest time.Duration) *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = min(500*time.Millisecond, longest/2)
	b.MaxInterval = longest / 2
	b.RandomizationFactor = 1
	b.Multiplier = 2
	b.Reset()
	return b
}
