package discovery

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"

	"patchbay/discovery/cloud"
	"patchbay/discovery/pace"
	"patchbay/internal/namespaces"
	"patchbay/mesh"
)

// What it takes to believe that a service is gone: so many answers that it is
// not there, over so long, and its absence from a complete listing.
const (
	goneAnswers = 3
	goneAfter   = 30 * time.Second
)

// resolveEvery is how often a namespace's id is looked up again, in listings.
const resolveEvery = 10

// namespace follows one namespace: it lists the services, gives each a
// goroutine of its own, and publishes what they have learnt.
type namespace struct {
	want Namespace
	cfg  Config
	reg  *cloud.Calls
	sink Sink
	log  *slog.Logger
	wake chan struct{} // a dirty bit: list the services now

	mu        sync.Mutex
	cloud     namespaces.Namespace
	listings  int                 // since the id was looked up
	services  map[string]*service // by discoveryName
	rejected  map[string]string   // names of the registry that can't be used, and why
	vips      map[string]netip.Addr
	conflicts []mesh.AliasConflict

	listed   bool // the registry has given a complete listing
	loaded   bool // there is a last known good state from disk
	fallback bool // patience is over: what was loaded may be shown
	synced   bool // the sink has been told
	dirty    bool // what the sink has is newer than what the disk has
	listedAt time.Time
	err      error // of the last listing

	start   func(*service) // runs a service's goroutine; nil before run
	running sync.WaitGroup
}

func newNamespace(want Namespace, cfg Config, reg *cloud.Calls, sink Sink, log *slog.Logger) *namespace {
	return &namespace{
		want: want, cfg: cfg, reg: reg, sink: sink, log: log.With("namespace", want.Name),
		wake:     make(chan struct{}, 1),
		services: map[string]*service{}, rejected: map[string]string{}, vips: map[string]netip.Addr{},
	}
}

func (n *namespace) run(ctx context.Context) error {
	n.load()
	n.mu.Lock()
	n.start = func(s *service) {
		own, cancel := context.WithCancel(ctx)
		s.cancel = cancel
		n.running.Go(func() { defer cancel(); s.run(own) })
	}
	n.mu.Unlock()
	n.running.Go(func() { n.keep(ctx) })
	defer n.running.Wait()
	failures := 0
	for {
		pause := n.cfg.Topology
		if err := n.list(ctx); err != nil {
			failures++
			pause = pace.Backoff(n.cfg.Pace.First, n.cfg.Pace.Most, failures)
			if errors.Is(err, namespaces.ErrNone) {
				pause = time.Second
			}
		} else {
			failures = 0
		}
		timer := time.NewTimer(pace.Jitter(pause))
		select {
		case <-timer.C:
		case <-n.wake:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		timer.Stop()
	}
}

// list fetches the list of services once, and learns from it only if it is
// complete.
func (n *namespace) list(ctx context.Context) error {
	n.mu.Lock()
	where := n.cloud
	n.listings++
	fresh := where.ID == "" || n.listings >= resolveEvery
	n.mu.Unlock()
	var err error
	if fresh {
		where, err = n.reg.Namespace(ctx, namespaces.Want{Local: n.want.Name, Registry: n.want.Registry, Known: where.ID})
	}
	var sums []cloud.Summary
	if err == nil {
		sums, err = n.reg.Services(ctx, where)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var gone *types.NamespaceNotFound
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, namespaces.ErrNone):
		if n.cfg.CreateNamespace && len(n.services) == 0 {
			n.note(nil) // made with its first service
		} else {
			n.note(err)
		}
		n.absent(time.Now())
	case errors.As(err, &gone):
		n.cloud.ID = "" // look it up again
		n.note(err)
	case err != nil:
		n.note(err)
	default:
		n.note(nil)
		n.cloud = where
		if fresh {
			n.listings = 0
		}
		if len(sums) == 0 {
			n.listings = resolveEvery // is it still the same namespace?
		}
		n.learnList(time.Now(), sums)
	}
	return err
}

// note remembers the outcome of a listing, and logs it when it is news.
func (n *namespace) note(err error) {
	switch {
	case err == nil && n.err != nil:
		n.log.Info("the registry answers again")
	case err != nil && (n.err == nil || n.err.Error() != err.Error()):
		n.log.Warn("can't list the services; what is known stays", "error", err)
	}
	n.err = err
}

// absent learns from a complete listing that the namespace does not exist.
func (n *namespace) absent(now time.Time) {
	n.cloud.ID = ""
	for _, s := range n.services {
		s.listed = false
		s.notFound(now)
	}
	if n.cfg.CreateNamespace {
		n.listed, n.listedAt = true, now
	}
	n.publish()
}

func (n *namespace) learnList(now time.Time, sums []cloud.Summary) {
	n.listed, n.listedAt = true, now
	rejected := map[string]string{}
	chosen := map[string]cloud.Summary{}
	slices.SortFunc(sums, func(a, b cloud.Summary) int { return a.Created.Compare(b.Created) })
	for _, sum := range sums {
		name, ok := localName(sum.Name)
		if !ok {
			rejected[sum.Name] = "the name can't be a discoveryName (at most 64 of a-z, 0-9, '_', '-', not starting with '-')"
			continue
		}
		if first, dup := chosen[name]; dup {
			rejected[sum.Name] = "an older service differs in case only: " + first.ARN
			continue
		}
		chosen[name] = sum
	}
	for name, why := range rejected {
		if n.rejected[name] == "" {
			n.log.Warn("a service of the registry can't be used", "service", name, "reason", why)
		}
	}
	n.rejected = rejected
	for name, sum := range chosen {
		s := n.services[name]
		if s == nil {
			s = newService(n, name)
			n.services[name] = s
		}
		s.listedAs(now, sum)
	}
	for name, s := range n.services {
		if _, there := chosen[name]; !there {
			s.listed = false
		}
		if s.cancel == nil {
			n.start(s)
		}
	}
	n.publish()
}

// complete reports whether there is a whole picture to show: every listed
// service has been read, or patience is over and all that there is comes from
// disk.
func (n *namespace) complete() bool {
	if !n.listed {
		return n.fallback && n.loaded
	}
	for _, s := range n.services {
		tried := !s.answered.IsZero() || s.failures > 0 || n.fallback
		if s.listed && !(s.resolved() && tried) {
			return false
		}
	}
	return true
}

// publish gives the sink the newest of all services, once the first complete
// picture is there. n.mu is held, which keeps publications in order.
func (n *namespace) publish() {
	if !n.synced && !n.complete() {
		return
	}
	var list []*mesh.Service
	for _, name := range slices.Sorted(maps.Keys(n.services)) {
		if b := n.services[name].built; b != nil {
			list = append(list, n.withVIPs(b))
		}
	}
	list, conflicts := mesh.Resolve(list)
	n.noteConflicts(conflicts)
	for _, s := range list {
		for _, a := range s.Aliases {
			n.vips[a.DNSName] = a.VIP
		}
	}
	if n.sink.SetServices(n.want.Name, list) {
		n.dirty = true
	}
	if !n.synced {
		n.synced = true
		n.log.Info("namespace is synced", "services", len(list), "live", n.listed)
	}
}

// withVIPs gives aliases whose VIP is not written down the one that they had
// before: the VIP of a foreign service must not move when others come and go.
func (n *namespace) withVIPs(s *mesh.Service) *mesh.Service {
	var aliases []mesh.Alias
	for i, a := range s.Aliases {
		if v, ok := n.vips[a.DNSName]; ok && !a.VIP.IsValid() {
			if aliases == nil {
				aliases = slices.Clone(s.Aliases)
			}
			aliases[i].VIP = v
		}
	}
	if aliases == nil {
		return s
	}
	c := *s
	c.Aliases = aliases
	return &c
}

func (n *namespace) noteConflicts(now []mesh.AliasConflict) {
	for _, c := range now {
		if !slices.Contains(n.conflicts, c) {
			n.log.Warn("two services claim one alias; the older keeps it", "alias", c.Alias.DNSName, "port", c.Alias.Port,
				"keeps", c.Winner.String(), "refused", c.Loser.String())
		}
	}
	for _, c := range n.conflicts {
		if !slices.Contains(now, c) {
			n.log.Info("an alias is no longer contested", "alias", c.Alias.DNSName, "port", c.Alias.Port)
		}
	}
	n.conflicts = now
}

// remove forgets a service that is gone for good.
func (n *namespace) remove(s *service) {
	n.log.Info("a service is gone", "service", s.name.String())
	if s.cancel != nil {
		s.cancel()
	}
	delete(n.services, s.name.DiscoveryName)
	n.publish()
}

func (n *namespace) hint(name mesh.ServiceName, attributes bool, by string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.services[name.DiscoveryName]
	if s == nil || s.cancel == nil {
		poke(n.wake)
		return
	}
	s.notice(by)
	s.wantFull = true
	s.wantAttrs = s.wantAttrs || attributes
	s.timer.Stir(time.Now())
	poke(s.wake)
}

// refetch asks for everything again, after a gap in a watch.
func (n *namespace) refetch() {
	n.mu.Lock()
	defer n.mu.Unlock()
	poke(n.wake)
	for _, s := range n.services {
		s.notice("watch")
		s.wantFull, s.wantAttrs = true, true
		poke(s.wake)
	}
}

func (n *namespace) leave(name mesh.ServiceName, id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.services[name.DiscoveryName]
	if s == nil {
		return
	}
	s.leave(time.Now(), id)
	n.publish()
	poke(s.wake)
}
