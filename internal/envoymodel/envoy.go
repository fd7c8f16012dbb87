// Package envoymodel is a model of an Envoy's side of incremental ADS, for
// tests of protocol and scale: what it subscribes to and when, warming, ACKs
// that are withheld, what a rejection does to others, what survives a
// reconnect. It was written from experiments with Envoy 1.40.0, and holds what
// an Envoy would route to.
//
// It owns that behaviour. It must not know the control plane under test. It
// has no goroutine but the one that reads the stream, and uses no clock but
// time.Now: a test says when it takes in what came ([Envoy.Step]) and when it
// looks at its deadlines ([Envoy.Tick]).
//
// Start reading at [Envoy.Connect] and [Envoy.Step].
package envoymodel

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statusv3 "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
)

const prefix = "type.googleapis.com/"

// The types that an Envoy asks for.
const (
	Cluster  = prefix + "envoy.config.cluster.v3.Cluster"
	Endpoint = prefix + "envoy.config.endpoint.v3.ClusterLoadAssignment"
	Member   = prefix + "envoy.config.endpoint.v3.LbEndpoint"
	Secret   = prefix + "envoy.extensions.transport_sockets.tls.v3.Secret"
	Listener = prefix + "envoy.config.listener.v3.Listener"
	Route    = prefix + "envoy.config.route.v3.RouteConfiguration"
)

// order is that of the first requests of a stream.
var order = []string{Cluster, Endpoint, Secret, Member, Listener, Route}

// Patience is the initial_fetch_timeout of everything but clusters and
// listeners.
const Patience = 5 * time.Second

// Envoy is one. It is not safe for concurrent use. What it has survives a
// reconnect.
type Envoy struct {
	node *corev3.Node
	// Routes is told the hosts of a cluster whenever they change, sorted.
	Routes func(cluster string, hosts []string)
	// Refuse says why a resource can't be taken; "" takes it. May be nil.
	Refuse func(typeURL string, r *discoveryv3.Resource) string

	stream  grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]
	cancel  context.CancelFunc
	inbox   *inbox
	started bool // listeners have been asked for

	types    map[string]*subscription
	clusters map[string]*cluster
	secrets  map[string]bool
	routes   map[string]bool
	waiting  map[string]*listener // that wait for routes or secrets
	open     map[string]*listener
	held     []string // nonces of clusters that are not acknowledged yet

	// Rejected counts responses that were rejected, Harmed what lost its hosts
	// or its wait to somebody else's rejection, and Timeouts what was waited for
	// in vain.
	Rejected, Harmed, Timeouts int
}

// subscription is what an Envoy keeps of a type.
type subscription struct {
	want     map[string]bool   // by name; nil for a wildcard
	versions map[string]string // of what it holds; never of members of a collection
}

// inbox is what came and was not taken in.
type inbox struct {
	mu  sync.Mutex
	all []*discoveryv3.DeltaDiscoveryResponse
	err error
}

// New returns an Envoy that has nothing.
func New(node *corev3.Node) *Envoy {
	e := &Envoy{node: node, types: map[string]*subscription{}, clusters: map[string]*cluster{}, secrets: map[string]bool{},
		routes: map[string]bool{}, waiting: map[string]*listener{}, open: map[string]*listener{}, inbox: &inbox{}}
	for _, t := range order {
		e.types[t] = &subscription{versions: map[string]string{}}
		if t != Cluster && t != Listener {
			e.types[t].want = map[string]bool{}
		}
	}
	return e
}

// Connect opens a stream and asks for everything again.
func (e *Envoy) Connect(ctx context.Context, conn grpc.ClientConnInterface) error {
	ctx, e.cancel = context.WithCancel(ctx)
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	in := &inbox{}
	e.stream, e.inbox, e.held = s, in, nil
	go in.read(s)
	node := e.node
	for _, t := range order {
		sub := e.types[t]
		if t == Listener && !e.started || sub.want != nil && len(sub.want) == 0 {
			continue
		}
		r := &discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: t, ResourceNamesSubscribe: slices.Sorted(maps.Keys(sub.want))}
		if t != Member {
			r.InitialResourceVersions = sub.versions
		}
		e.send(r)
		node = nil
	}
	return nil
}

// Disconnect ends the stream. What was sent and not taken in is lost.
func (e *Envoy) Disconnect() {
	if e.cancel != nil {
		e.cancel()
	}
}

func (in *inbox) read(s grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]) {
	for {
		r, err := s.Recv()
		in.mu.Lock()
		if err != nil {
			in.err = err
			in.mu.Unlock()
			return
		}
		in.all = append(in.all, r)
		in.mu.Unlock()
	}
}

// Ended is why the stream has ended; nil if it has not.
func (e *Envoy) Ended() error {
	e.inbox.mu.Lock()
	defer e.inbox.mu.Unlock()
	return e.inbox.err
}

// Step takes in the oldest response that came and answers it. It reports
// whether there was one.
func (e *Envoy) Step() bool {
	e.inbox.mu.Lock()
	if len(e.inbox.all) == 0 {
		e.inbox.mu.Unlock()
		return false
	}
	r := e.inbox.all[0]
	e.inbox.all = e.inbox.all[1:]
	e.inbox.mu.Unlock()
	if problem := e.take(r); problem != "" {
		e.Rejected++
		e.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce(), ErrorDetail: &statusv3.Status{Code: 13, Message: problem}})
	} else if r.GetTypeUrl() == Cluster {
		e.held = append(e.held, r.GetNonce())
	} else {
		e.ack(r.GetTypeUrl(), r.GetNonce())
	}
	e.settle()
	return true
}

// settle does what follows when nothing is warming: clusters are acknowledged,
// and listeners asked for.
func (e *Envoy) settle() {
	for _, c := range e.clusters {
		if c.warming != nil {
			return
		}
	}
	for _, nonce := range e.held {
		e.ack(Cluster, nonce)
	}
	answered := len(e.held) > 0
	e.held = nil
	if answered && !e.started {
		e.started = true
		e.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: Listener})
	}
}

func (e *Envoy) ack(typeURL, nonce string) {
	e.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResponseNonce: nonce})
}

// send ignores errors: Ended tells.
func (e *Envoy) send(r *discoveryv3.DeltaDiscoveryRequest) { e.stream.Send(r) } //nolint:errcheck // see above

// watch changes the subscription of a type.
func (e *Envoy) watch(typeURL string, add, drop []string) {
	s := e.types[typeURL]
	add = slices.DeleteFunc(add, func(n string) bool { return s.want[n] })
	drop = slices.DeleteFunc(drop, func(n string) bool { return !s.want[n] })
	for _, n := range add {
		s.want[n] = true
	}
	for _, n := range drop {
		delete(s.want, n)
		delete(s.versions, n)
	}
	if len(add)+len(drop) > 0 {
		e.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesSubscribe: add, ResourceNamesUnsubscribe: drop})
	}
}

// take applies a response as far as it can be, and returns why it is rejected.
func (e *Envoy) take(r *discoveryv3.DeltaDiscoveryResponse) string {
	if problem := malformed(r); problem != "" {
		return problem
	}
	switch r.GetTypeUrl() {
	case Cluster:
		return e.takeClusters(r)
	case Endpoint:
		return e.takeEndpoints(r)
	case Member:
		return e.takeMembers(r)
	case Listener:
		return e.takeListeners(r)
	case Route, Secret:
		return e.takeNamed(r)
	}
	return ""
}

func malformed(r *discoveryv3.DeltaDiscoveryResponse) string {
	seen := map[string]bool{}
	for _, x := range r.GetResources() {
		if seen[x.GetName()] {
			return "duplicate name " + x.GetName()
		}
		if x.GetResource().GetTypeUrl() != r.GetTypeUrl() {
			return fmt.Sprintf("%s is a %s", x.GetName(), x.GetResource().GetTypeUrl())
		}
		seen[x.GetName()] = true
	}
	for _, n := range r.GetRemovedResources() {
		if seen[n] {
			return n + " is added and removed"
		}
	}
	return ""
}

func (e *Envoy) refuse(typeURL string, x *discoveryv3.Resource) string {
	if e.Refuse == nil {
		return ""
	}
	return e.Refuse(typeURL, x)
}

// Hosts are what each cluster routes to, sorted.
func (e *Envoy) Hosts() map[string][]string {
	out := map[string][]string{}
	for name, c := range e.clusters {
		if c.active != nil {
			out[name] = c.active.list()
		}
	}
	return out
}

// Warming lists the clusters that wait.
func (e *Envoy) Warming() (all []string) {
	for name, c := range e.clusters {
		if c.warming != nil {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// Open lists the listeners that take connections, by name; the value says
// whether their routes are there.
func (e *Envoy) Open() map[string]bool {
	out := map[string]bool{}
	for name, l := range e.open {
		out[name] = !slices.ContainsFunc(l.routes, func(n string) bool { return !e.routes[n] })
	}
	return out
}

// Versions are what the Envoy holds of a type, by name. It must not be changed.
func (e *Envoy) Versions(typeURL string) map[string]string { return e.types[typeURL].versions }

// Tick ends what was waited for in vain.
func (e *Envoy) Tick() {
	now := time.Now()
	for name, c := range e.clusters {
		for _, i := range []*instance{c.warming, c.active} {
			if i != nil && !i.ready(e) && now.After(i.deadline) {
				e.Timeouts++
				i.giveUp(c.cached)
				e.progress(name, c)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.waiting)) {
		if l := e.waiting[name]; now.After(l.deadline) {
			e.Timeouts++
			e.openListener(name, l)
		}
	}
	e.settle()
}

func sameBytes(a, b []byte) bool { return bytes.Equal(a, b) }
