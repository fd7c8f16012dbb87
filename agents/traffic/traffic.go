// Package traffic keeps what the sidecars of the mesh have counted: who calls
// whom, how it went, and how it was protected.
//
// It owns what a report of one task adds to the whole, through new starts of its
// Envoy, and what of a report is believed. It must not know streams, nor how
// Envoy counts (sidecar/traffic). Start reading at [Ledger.Report].
package traffic

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"patchbay/agentapi"
	"patchbay/mesh"
)

// Edge is the traffic of one workload to one service, over all of its tasks
// that are connected here.
type Edge struct {
	Workload string // namespace/name
	Service  string
	Flow
	P50, P99 float64 // milliseconds, of the slowest task's last interval
	TLS      bool    // its sidecars speak TLS to it
}

// Flow counts requests and connections.
type Flow struct {
	Requests, Errors            uint64
	Connections, Failed         uint64 // Failed are among Connections
	TLS13, TLSOlder, Unverified uint64
	RequestRate, ErrorRate      float64 // per second, over the last interval
	Refused                     uint64  // at an ingress: handshakes that failed
	Denied, WouldDeny           uint64  // at an ingress: calls that no rule of an authorization allows; the latter in a dry run
	Limited                     uint64  // at an ingress: calls above a rateLimit
	Undeclared                  uint64  // connections to a service that has no TLS
	Plain                       uint64  // connections without TLS to a service that has it
	// Exposed, Distrusted, Knocked and DeniedAt are when Plain or TLSOlder,
	// Unverified, Refused, and Denied or WouldDeny last grew; zero: not since this process started. Handshakes that
	// somebody was asked to make ([Ledger.Expect]) don't count.
	Exposed, Distrusted, Knocked, DeniedAt time.Time
}

// Ingress is what came to the tasks of one workload.
type Ingress struct {
	Workload string
	Flow
}

// Ledger keeps what tasks have counted. It is safe for concurrent use.
type Ledger struct {
	store *mesh.Store

	mu     sync.Mutex
	tasks  map[string]*account // by node id: of connected tasks
	totals map[string]*Flow    // by service: of all tasks, since this process started
	split  map[revision]*Flow  // of these, by revision
	served Flow                // of all tasks, likewise
	due    map[string]expected // by node id: refusals that we cause ourselves
}

// account is the newest report of a task.
type account struct {
	workload string
	traffic  *agentapi.Traffic
	at       time.Time
	edges    map[string]Flow // by service: as last reported
	split    map[revision]Flow
	served   Flow
}

// New is a ledger of the services in store.
func New(store *mesh.Store) *Ledger {
	return &Ledger{store: store, tasks: map[string]*account{}, totals: map[string]*Flow{}, split: map[revision]*Flow{}, due: map[string]expected{}}
}

// Report books what a task has counted, but not before the services are known
// that it may name: counters go on from there. t is the ledger's from now on.
func (l *Ledger) Report(n mesh.Node, t *agentapi.Traffic) {
	snap := l.store.Snapshot()
	if !snap.Synced[n.Workload.Namespace] {
		return
	}
	clean(t, snap, n.Workload.Namespace)
	l.report(n.ID(), n.Workload.String(), t, time.Now())
}

// report books a task's counters. What they grew by is added to the totals; a
// new start of its Envoy begins at zero.
func (l *Ledger) report(node, workload string, t *agentapi.Traffic, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.tasks[node]
	first := old == nil
	if first || !old.traffic.GetEpoch().AsTime().Equal(t.GetEpoch().AsTime()) {
		old = &account{edges: map[string]Flow{}, at: now.Add(-5 * time.Second)}
	}
	next := &account{workload: workload, traffic: t, at: now, edges: map[string]Flow{}}
	next.split = l.divide(old.split, t)
	apart := max(now.Sub(old.at).Seconds(), 1)
	for _, c := range t.GetCalled() {
		f := Flow{
			Requests: c.GetRequests(), Errors: c.GetErrors(), Connections: c.GetConnections(), Failed: c.GetFailed(),
			TLS13: c.GetTls13(), TLSOlder: c.GetTlsOlder(), Unverified: c.GetUnverified(),
		}
		was := old.edges[c.GetService()]
		switch encrypted := f.TLS13 + f.TLSOlder; {
		case !c.GetTls():
			f.Undeclared = c.GetEstablished()
		case c.GetEstablished() > encrypted:
			f.Plain = c.GetEstablished() - encrypted
		}
		f.Plain, f.Undeclared = max(f.Plain, was.Plain), max(f.Undeclared, was.Undeclared) // its two sources are not of one moment
		grown := f.minus(was)
		f.Exposed, f.Distrusted = was.Exposed, was.Distrusted
		if !first { // else it grew since nobody knows when
			f.RequestRate, f.ErrorRate = float64(grown.Requests)/apart, float64(grown.Errors)/apart
			if grown.Plain+grown.TLSOlder > 0 {
				f.Exposed = now
			}
			if grown.Unverified > 0 {
				f.Distrusted = now
			}
		}
		next.edges[c.GetService()] = f
		if l.totals[c.GetService()] == nil {
			l.totals[c.GetService()] = &Flow{}
		}
		l.totals[c.GetService()].Add(grown)
	}
	v := t.GetServed()
	next.served = Flow{Requests: v.GetRequests(), Errors: v.GetErrors(), Connections: v.GetConnections(), TLS13: v.GetTls13(), TLSOlder: v.GetTlsOlder(), Refused: v.GetRefused(), Denied: v.GetDenied(), WouldDeny: v.GetWouldDeny(), Limited: v.GetLimited()}
	grown := next.served.minus(old.served)
	next.served.RequestRate, next.served.ErrorRate = float64(grown.Requests)/apart, float64(grown.Errors)/apart
	next.served.Knocked, next.served.DeniedAt = old.served.Knocked, old.served.DeniedAt
	if !first && grown.Denied+grown.WouldDeny > 0 {
		next.served.DeniedAt = now
	}
	caused := uint64(0)
	if d := l.due[node]; now.Sub(d.at) < expectFor {
		caused = min(grown.Refused, d.refusals)
		l.due[node] = expected{d.refusals - caused, d.at}
	}
	if !first && grown.Refused > caused {
		next.served.Knocked = now
	}
	l.served.Add(grown)
	l.tasks[node] = next
}

// Forget takes a task out whose stream has ended.
func (l *Ledger) Forget(node string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.tasks, node)
	delete(l.due, node)
}

// probeRefusals are what one probe of package verify makes an ingress refuse:
// older TLS, and plain text.
const probeRefusals = 2

// expectFor is how long they may take to be reported.
const expectFor = 20 * time.Second

type expected struct {
	refusals uint64
	at       time.Time
}

// Expect announces a probe of a task's port: what its ingress refuses of it is no
// stranger's attempt. certificate says that the port requires one, which a probe
// has not.
func (l *Ledger) Expect(node string, certificate bool) {
	refusals := uint64(probeRefusals)
	if certificate {
		refusals++
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	d := l.due[node]
	if now.Sub(d.at) > expectFor {
		d.refusals = 0
	}
	l.due[node] = expected{d.refusals + refusals, now}
}

func (f Flow) minus(o Flow) Flow {
	less := func(a, b uint64) uint64 {
		if a < b {
			return a // it has begun again
		}
		return a - b
	}
	return Flow{
		Requests: less(f.Requests, o.Requests), Errors: less(f.Errors, o.Errors), Connections: less(f.Connections, o.Connections), Failed: less(f.Failed, o.Failed),
		TLS13: less(f.TLS13, o.TLS13), TLSOlder: less(f.TLSOlder, o.TLSOlder), Unverified: less(f.Unverified, o.Unverified), Refused: less(f.Refused, o.Refused), Denied: less(f.Denied, o.Denied), WouldDeny: less(f.WouldDeny, o.WouldDeny), Limited: less(f.Limited, o.Limited), Undeclared: less(f.Undeclared, o.Undeclared), Plain: less(f.Plain, o.Plain),
	}
}

// Add adds up two flows.
func (f *Flow) Add(o Flow) {
	f.Requests += o.Requests
	f.Errors += o.Errors
	f.Connections += o.Connections
	f.Failed += o.Failed
	f.TLS13 += o.TLS13
	f.TLSOlder += o.TLSOlder
	f.Unverified += o.Unverified
	f.Refused += o.Refused
	f.Denied += o.Denied
	f.WouldDeny += o.WouldDeny
	f.Limited += o.Limited
	f.Undeclared += o.Undeclared
	f.Plain += o.Plain
	f.RequestRate += o.RequestRate
	f.ErrorRate += o.ErrorRate
	f.Exposed, f.Distrusted, f.Knocked = later(f.Exposed, o.Exposed), later(f.Distrusted, o.Distrusted), later(f.Knocked, o.Knocked)
	f.DeniedAt = later(f.DeniedAt, o.DeniedAt)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// Current is what connected tasks count: edges sorted by workload and service,
// ingresses by workload.
func (l *Ledger) Current() ([]Edge, []Ingress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keep(l.store.Snapshot())
	edges, ingresses := map[[2]string]*Edge{}, map[string]*Ingress{}
	now := time.Now()
	for _, a := range l.tasks {
		stale := now.Sub(a.at) > 15*time.Second // nothing has changed since: no traffic
		for _, c := range a.traffic.GetCalled() {
			key := [2]string{a.workload, c.GetService()}
			if edges[key] == nil {
				edges[key] = &Edge{Workload: a.workload, Service: c.GetService()}
			}
			e, f := edges[key], a.edges[c.GetService()]
			if stale {
				f.RequestRate, f.ErrorRate = 0, 0
			}
			e.Add(f)
			e.P50, e.P99, e.TLS = max(e.P50, c.GetP50Ms()), max(e.P99, c.GetP99Ms()), e.TLS || c.GetTls()
		}
		if ingresses[a.workload] == nil {
			ingresses[a.workload] = &Ingress{Workload: a.workload}
		}
		f := a.served
		if stale {
			f.RequestRate, f.ErrorRate = 0, 0
		}
		ingresses[a.workload].Add(f)
	}
	var out []Edge
	for _, e := range edges {
		out = append(out, *e)
	}
	var in []Ingress
	for _, i := range ingresses {
		in = append(in, *i)
	}
	slices.SortFunc(out, func(a, b Edge) int {
		return cmp.Or(cmp.Compare(a.Workload, b.Workload), cmp.Compare(a.Service, b.Service))
	})
	slices.SortFunc(in, func(a, b Ingress) int { return cmp.Compare(a.Workload, b.Workload) })
	return out, in
}

// Totals is what all tasks have counted since this process started: of calls,
// by service that the mesh has, and of what came to ingresses.
func (l *Ledger) Totals() (map[string]Flow, Flow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keep(l.store.Snapshot())
	out := map[string]Flow{}
	for name, f := range l.totals {
		out[name] = *f
	}
	return out, l.served
}
