// Package xds brings the mesh to the Envoys: it translates what changed, and
// publishes it in the views that connected sidecars see.
//
// It owns when something is pushed, and which view and which private resources a
// node has. It must not know how the protocol works (xds/delta), what a resource
// looks like (xds/translate) or may not look like (xds/valid), nor what of a
// node's word is believed (xds/claim).
//
// Start reading at [Pusher.Run], the only push loop, then [Pusher.Open].
package xds

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"patchbay/mesh"
	"patchbay/xds/delta"
	"patchbay/xds/journey"
	"patchbay/xds/leds"
	"patchbay/xds/translate"
	"patchbay/xds/views"
)

const (
	// A change after a quiet time is pushed at once; what follows within the
	// gap is merged. The gap doubles while changes keep coming, and beyond
	// gapBusy while many streams have not been written to.
	gapMin  = 10 * time.Millisecond
	gapBusy = 50 * time.Millisecond
	gapMax  = 500 * time.Millisecond

	// holdMax is how long one sidecar that does not answer may hold up the
	// second half of a change that must follow the first everywhere.
	holdMax = 10 * time.Second

	// viewLife is how long a view without streams is kept.
	viewLife = 5 * time.Minute
)

// Pusher publishes a store in a cache. It implements [delta.Opener].
type Pusher struct {
	store    *mesh.Store
	cache    *delta.Cache
	identify func(context.Context) (mesh.Node, error)
	log      *slog.Logger
	leds     leds.Mode
	tracing  views.Tracing
	identity translate.Identity // of callers; without a leaf
	journeys *journey.Tracer    // nil: changes are not followed

	streams atomic.Uint64 // of nodes that have no task of their own
	begun   atomic.Int64  // when the push began that is under way, in ns since 1970; 0: none is
	crowded chan struct{} // capacity 1: a crowd has changed

	mu     sync.Mutex
	views  map[views.View]*view
	nodes  map[*delta.Stream]*node
	trust  map[string]trust // by issuer
	crowds map[string]crowd // by workload: of tasks that offer nothing
	// callers are the workloads that need a certificate to call with, by its
	// name, and when one of their nodes was last connected.
	callers map[mesh.ServiceName]time.Time
	pushed  *mesh.Snapshot // every view shows at least this
	news    chan struct{}  // closed when pushed is replaced
	// leafWaits says that a leaf of pushed has not been sent: its issuer is not
	// trusted everywhere yet.
	leafWaits bool
}

// NewPusher returns a pusher. identify says whose connection a context is; nil
// means that connections prove nothing and node.id is believed, which
// [Server.Run] allows on loopback only.
func NewPusher(store *mesh.Store, cache *delta.Cache, identify func(context.Context) (mesh.Node, error), log *slog.Logger, opts ...Option) *Pusher {
	p := &Pusher{
		store: store, cache: cache, identify: identify, log: log,
		views: map[views.View]*view{}, nodes: map[*delta.Stream]*node{}, trust: map[string]trust{}, callers: map[mesh.ServiceName]time.Time{},
		crowds: map[string]crowd{}, crowded: make(chan struct{}, 1),
		pushed: store.Snapshot(), news: make(chan struct{}), leds: leds.Off,
	}
	for _, o := range opts {
		o(p)
	}
	return p
}

// Option changes a [Pusher].
type Option func(*Pusher)

// Collections sets in which cases endpoints travel in collections of their own
// (LEDS), to Envoys that can take them.
func Collections(mode leds.Mode) Option { return func(p *Pusher) { p.leds = mode } }

// Tracing has all sidecars send spans; t.Service is set for each.
func Tracing(t views.Tracing) Option { return func(p *Pusher) { p.tracing = t } }

// Journeys has t follow each change from the registry to the last ACK.
func Journeys(t *journey.Tracer) Option { return func(p *Pusher) { p.journeys = t } }

// Run pushes until ctx ends, and returns its cause. What woke it never
// matters: it compares the newest snapshot with what each view shows.
func (p *Pusher) Run(ctx context.Context) error {
	sweep := time.NewTicker(viewLife / 5)
	defer sweep.Stop()
	gap := gapMin
	for {
		gen, held := p.push()
		changed := p.store.Changed(gen)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(gap):
		}
		select {
		case <-changed:
			gap = p.grow(gap)
			continue
		default:
			gap = gapMin // quiet: the next change goes out at once
		}
		if held {
			continue // and until then, whether what is held may go
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		case <-p.crowded:
		case now := <-sweep.C:
			p.sweep(now)
		}
	}
}

func (p *Pusher) grow(gap time.Duration) time.Duration {
	// A few slow readers must not slow down the others.
	if behind, streams := p.cache.Behind(); behind*4 > streams {
		return min(2*gap, gapMax)
	}
	return min(2*gap, gapBusy)
}

// push brings every view and every node to the newest snapshot, and returns
// its generation. held says that something waits for ACKs and push must be
// called again soon: a view shows an interim, or a leaf its trust.
func (p *Pusher) push() (gen uint64, held bool) {
	p.begun.Store(time.Now().UnixNano())
	defer p.begun.Store(0)
	p.mu.Lock()
	defer p.mu.Unlock()
	snap := p.store.Snapshot()
	change := p.journeys.Begin(p.pushed, snap)
	for _, v := range p.views {
		p.show(v, snap, change)
	}
	change.Shown()
	if p.leafWaits || !sameMap(p.pushed.Leaves, snap.Leaves) || !sameMap(p.pushed.Bundles, snap.Bundles) {
		p.leafWaits = p.renew(snap)
	}
	p.wantAll()
	p.unveil(snap)
	for _, v := range p.views {
		held = held || len(v.held) > 0
	}
	held = held || p.leafWaits
	p.pushed = snap
	close(p.news)
	p.news = make(chan struct{})
	return snap.Generation, held
}

// Busy reports whether a push is under way, and since when. It waits for
// nothing.
func (p *Pusher) Busy() (since time.Time, yes bool) {
	begun := p.begun.Load()
	return time.Unix(0, begun), begun != 0
}

// renew gives newer leaves to the nodes that they are for. It reports whether
// one has to wait until its issuer is trusted everywhere.
func (p *Pusher) renew(snap *mesh.Snapshot) (waits bool) {
	untrusted := p.untrusted(snap, time.Now())
	for s, n := range p.nodes {
		switch outdated, wait := n.outdated(snap, untrusted); {
		case wait:
			waits = true
		case outdated:
			s.SetPrivate(n.private(snap, p.log))
		}
	}
	return waits
}

// sameMap reports whether two snapshots share a map: a store makes a new one at
// each change, and never changes one.
func sameMap[K comparable, V any](a, b map[K]V) bool {
	return reflect.ValueOf(a).UnsafePointer() == reflect.ValueOf(b).UnsafePointer()
}

// show brings a view to a snapshot; change may be nil.
func (p *Pusher) show(v *view, snap *mesh.Snapshot, change *journey.Change) {
	begun := time.Now()
	for name, h := range v.held {
		h.over = !v.quiet[name] && !slices.ContainsFunc(v.clusters(name), func(c string) bool { return len(p.cache.Unacked(delta.ClusterType, c)) > 0 })
	}
	entries, removed := v.update(snap, begun, p.log)
	if len(entries)+len(removed) > 0 {
		p.cache.Apply(v.key, entries, removed, change.Translated(v.key, begun))
	}
}

// trust is a bundle, and since when it is shown.
type trust struct {
	bundle *mesh.Bundle
	since  time.Time
}

// untrusted are the issuers whose newest bundle has not reached every sidecar:
// a leaf below a new root would be refused there.
func (p *Pusher) untrusted(snap *mesh.Snapshot, now time.Time) map[string]bool {
	out := map[string]bool{}
	for issuer, b := range snap.Bundles {
		t := p.trust[issuer]
		if t.bundle != b {
			t = trust{b, now}
			p.trust[issuer] = t
		}
		if now.Sub(t.since) < holdMax && len(p.cache.Unacked(delta.SecretType, translate.BundleSecret(issuer))) > 0 {
			out[issuer] = true
		}
	}
	return out
}

// sweep drops views that nobody has seen for a while.
func (p *Pusher) sweep(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, v := range p.views {
		if v.users == 0 && now.Sub(v.left) >= viewLife && p.cache.Drop(v.key) {
			delete(p.views, key)
		}
	}
}

// Removed waits until every view shows name without addr, and every connected
// sidecar that subscribes to name has accepted that. It returns the node ids of
// those that had not when ctx ended, sorted. An error means that the removal
// was not even published by then: the registry still lists the address.
func (p *Pusher) Removed(ctx context.Context, name mesh.ServiceName, addr netip.AddrPort) (missing []string, err error) {
	for {
		listed, assignments, news := p.lists(name, addr)
		if !listed {
			for _, a := range assignments {
				missing = append(missing, p.cache.WaitAcked(ctx, delta.EndpointType, a)...)
			}
			slices.Sort(missing)
			return slices.Compact(missing), nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the removal of %s from %s: %w", addr, name, context.Cause(ctx))
		}
	}
}

// lists reports whether any view shows name with addr, and returns the
// assignments that may have had it, and a channel that is closed when that may
// have changed.
func (p *Pusher) lists(name mesh.ServiceName, addr netip.AddrPort) (bool, []string, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	listed, assignments := lists(p.pushed.Service(name), addr), []string{name.String()}
	for _, v := range p.views {
		listed = listed || lists(v.services[name].shown, addr)
		assignments = append(assignments, v.clusters(name)...)
	}
	slices.Sort(assignments)
	return listed, slices.Compact(assignments), p.news
}

func lists(s *mesh.Service, addr netip.AddrPort) bool {
	return s != nil && slices.ContainsFunc(s.Endpoints, func(e mesh.Endpoint) bool { return e.Addr == addr })
}
