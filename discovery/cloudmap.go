// Package discovery is the only reader of Cloud Map: it keeps a mesh.Store
// equal to what the registry says, or to what it last said.
//
// It owns when to ask, what to believe, and what to do with an error: nothing
// is ever removed because of one. It must not know what becomes of the
// services, nor Envoy, nor certificates.
//
// Start reading at [CloudMap], then service.go (one service's schedule),
// learn.go (what an answer changes), share.go (what other replicas know).
// [assemble] makes services of attributes, [cloud] makes the calls, [pace] says when, [hold] decides what to believe.
package discovery

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"patchbay/discovery/assemble"
	"patchbay/discovery/cloud"
	"patchbay/discovery/hold"
	"patchbay/discovery/pace"
	"patchbay/mesh"
)

// Sink receives the full list of services of a namespace. mesh.Store is one.
type Sink interface {
	SetServices(namespace string, services []*mesh.Service) bool
}

// Metrics counts what an operator must see. Methods are called from many
// goroutines and must not block.
type Metrics interface {
	// Called counts a call of the registry by operation and result: cloud.OK, or
	// the error code ("timeout" and "unreachable" where there is none).
	Called(operation, result string)
	// Waited adds up how long calls waited for our own limits.
	Waited(operation string, d time.Duration)
	// InstanceSkipped counts an instance when it is first found malformed.
	InstanceSkipped(service mesh.ServiceName, reason string)
	// RemovalHeld counts a drop of endpoints that is not believed at once.
	RemovalHeld(service mesh.ServiceName, endpoints int)
}

// Namespace is one to be followed.
type Namespace struct {
	Name string // in the mesh: lower case, a DNS name
	// Registry is the namespace's HttpName, id or ARN in Cloud Map. Empty
	// means: the one whose HttpName is Name, whatever the case.
	Registry string
}

// Config is what New needs. Zero durations mean the defaults in the comments.
type Config struct {
	Namespaces []Namespace
	// CreateNamespace says that the registrar makes a namespace that is
	// missing. Then a missing one counts as complete and empty; without it the
	// namespace is waited for.
	CreateNamespace bool
	Overrides       map[mesh.ServiceName]assemble.Override
	Rules           hold.Rules
	Budget          cloud.Budget

	Pace       pace.Rules    // when instances are asked for
	Topology   time.Duration // 30 s: period of listing services
	Settings   time.Duration // 60 s: period of reading the attributes of a service of ours; five times that of another
	Call       time.Duration // 2 s: the longest that one call may take
	Patience   time.Duration // 2 s: how long a start waits for the registry before it shows what is on disk
	Concurrent int           // 64 calls at the same time

	// StateDir keeps the last known good answers, a file for each namespace.
	// Empty: nothing is kept.
	StateDir string
	// Watch tells of changes as they happen; nil with AWS.
	Watch Watcher
	// Events reports whether events of ECS tell of changes just now; nil: never.
	Events func() bool
	// Share divides the polling among replicas; nil: there is one.
	Share   Share
	Metrics Metrics // may be nil
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.Rules.HoldEmpty, 30 * time.Second},
		{&c.Rules.HoldDrop, 5 * time.Second},
		{&c.Topology, 30 * time.Second},
		{&c.Settings, time.Minute},
		{&c.Call, 2 * time.Second},
		{&c.Patience, 2 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	c.Pace = c.Pace.WithDefaults()
	if c.Concurrent == 0 {
		c.Concurrent = 64
	}
	if c.Metrics == nil {
		c.Metrics = noMetrics{}
	}
	return c
}

// CloudMap follows namespaces of a Cloud Map registry. All methods are safe
// for concurrent use.
type CloudMap struct {
	cfg   Config
	reg   *cloud.Calls
	sink  Sink
	log   *slog.Logger
	names map[string]*namespace
	tally tally
}

// New makes a CloudMap; nothing happens before Run.
func New(cfg Config, api cloud.API, sink Sink, log *slog.Logger) (*CloudMap, error) {
	cfg = cfg.withDefaults()
	c := &CloudMap{cfg: cfg, sink: sink, log: log, names: map[string]*namespace{}}
	called := func(operation, result string) {
		c.tally.called(operation, result)
		cfg.Metrics.Called(operation, result)
	}
	c.reg = cloud.New(api, cloud.Options{Budget: cfg.Budget, Deadline: cfg.Call, Concurrent: cfg.Concurrent, Called: called, Waited: cfg.Metrics.Waited})
	var errs []error
	for _, n := range cfg.Namespaces {
		if !mesh.ValidDNSName(n.Name) {
			errs = append(errs, errors.New("namespace "+n.Name+": its name in the mesh is not a lower-case DNS name; give it one and put Cloud Map's name, id or ARN beside it"))
		} else if c.names[n.Name] != nil {
			errs = append(errs, errors.New("namespace "+n.Name+": it is listed twice"))
		}
		c.names[n.Name] = newNamespace(n, cfg, c.reg, sink, log)
	}
	return c, errors.Join(errs...)
}

// Run follows the registry until ctx ends, and returns its cause. No failure
// of the registry ends it. On the way out it writes the last known good state.
func (c *CloudMap) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range c.names {
		g.Go(func() error { return n.run(ctx) })
	}
	if c.cfg.Watch != nil {
		g.Go(func() error { return c.follow(ctx) })
	}
	g.Go(func() error { <-ctx.Done(); return context.Cause(ctx) })
	return g.Wait()
}

// Hint says that the instances of a service have probably changed; they are
// fetched at once. An unknown service, or a name without discoveryName, makes
// the list of services be fetched. A hint for a namespace that is not followed
// is ignored.
func (c *CloudMap) Hint(name mesh.ServiceName) {
	if n := c.names[name.Namespace]; n != nil {
		n.hint(name, false, "hint")
	}
}

// HintSettings is Hint for a service whose settings have changed too.
func (c *CloudMap) HintSettings(name mesh.ServiceName) {
	if n := c.names[name.Namespace]; n != nil {
		n.hint(name, true, "hint")
	}
}

// Leaving says that an instance has announced its end. It is taken out of the
// sink before Leaving returns, without waiting for the registry and whatever
// the rules of stability say. It stays out until the registry has forgotten it
// or shows it registered anew. Only the last usable instance of a service stays
// until the registry has answered without it or with another, for five seconds
// at most: what takes its place may have been registered a moment ago.
func (c *CloudMap) Leaving(name mesh.ServiceName, instanceID string) {
	if n := c.names[name.Namespace]; n != nil {
		n.leave(name, instanceID)
	}
}

type noMetrics struct{}

func (noMetrics) Called(string, string)                    {}
func (noMetrics) Waited(string, time.Duration)             {}
func (noMetrics) InstanceSkipped(mesh.ServiceName, string) {}
func (noMetrics) RemovalHeld(mesh.ServiceName, int)        {}
