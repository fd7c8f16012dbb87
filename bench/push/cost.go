package push

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"patchbay/bench"
	"patchbay/bench/model"
	"patchbay/mesh"
	"patchbay/xds"
	"patchbay/xds/bootstrap"
	"patchbay/xds/delta"
)

// Cost is what a change costs for those whom it does not concern.
var Cost = bench.Job{
	Name: "cost", Title: "What a change costs those whom it does not concern", Limit: time.Minute,
	About: strings.Join([]string{
		"One endpoint of one service changes, as often as there are runs, in a control plane without a network: ten sidecars see ten services, and one sees another",
		"that its task declares as its dependency; then there are a thousand services more, or a thousand sidecars more like that one. Counted is the work of the whole process from the",
		"store's change until the ten have been told and have accepted: allocations, and sidecars that were woken. (Pointers of a list are compared for",
		"each service of the namespace; that allocates nothing.)",
	}, "\n"),
	Run: runCost, Goals: costGoals,
}

const (
	mAllocs = "allocations per change"
	mWoken  = "sidecars woken per change"
	mOthers = "of them, sidecars that the change does not concern"

	alone        = "ten sidecars and services"
	moreServices = "a thousand services more"
	moreStreams  = "a thousand sidecars more"
)

func runCost(ctx context.Context, o bench.Options, part *bench.Part) error {
	more := o.Rounds(1000, 50)
	for _, c := range []struct {
		name              string
		services, streams int
	}{{alone, 0, 0}, {moreServices, more, 0}, {moreStreams, 0, more}} {
		if err := cost(ctx, o, part, c.name, c.services, c.streams); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

func costGoals(p *bench.Part) {
	for _, name := range []string{moreServices, moreStreams} {
		for _, metric := range []string{mAllocs, mWoken} {
			a, b := p.Find("one change", alone, metric), p.Find("one change", name, metric)
			if a == nil || b == nil {
				p.AtMost(0, "", name+": more "+metric, 0, false)
				continue
			}
			// The smallest of many runs: the runtime's own work comes on top now and then.
			p.AtMost(0, "", name+": more "+metric, b.Min-a.Min, true)
		}
	}
}

// listener is a sidecar without a network.
type listener struct {
	delta.Local
	closed func()
}

// listen opens a stream that subscribes as Envoy does.
func listen(ctx context.Context, p *xds.Pusher, cache *delta.Cache, task int, meta bootstrap.NodeMeta, services []*mesh.Service) (listener, error) {
	s, err := meta.Struct()
	if err != nil {
		return listener{}, err
	}
	n := &corev3.Node{Id: fmt.Sprintf("%s/web/%d", model.Namespace, task), Cluster: model.Namespace + "/web", Metadata: s}
	log := slog.New(slog.DiscardHandler)
	l := listener{Local: cache.NewLocal(delta.Peer{ID: n.GetId(), Cluster: n.GetCluster()}, log)}
	opened, err := p.Open(ctx, n, l.Stream)
	if err != nil {
		return l, err
	}
	l.Attach(opened)
	l.closed = func() { l.Detach(); opened.Closed() }
	var names []string
	for _, s := range services {
		names = append(names, s.Name.String())
	}
	for typeURL, add := range map[string][]string{delta.ClusterType: {"*"}, delta.EndpointType: names, delta.ListenerType: {"*"}} {
		if err := l.Subscribe(typeURL, add, nil); err != nil {
			return l, err
		}
	}
	return l, l.rest()
}

// rest takes everything that there is to be told.
func (l listener) rest() error {
	for {
		told, _ := l.Collect()
		if len(told) == 0 {
			break
		}
		for _, t := range told {
			if err := l.Accept(t.TypeURL, t.Nonce); err != nil {
				return err
			}
		}
	}
	for len(l.Wake()) > 0 {
		<-l.Wake()
	}
	return nil
}

// cost has one service change, with so many services and sidecars besides the
// ten that it concerns.
func cost(ctx context.Context, o bench.Options, part *bench.Part, name string, services, streams int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	store, cache := mesh.NewStore(), delta.NewCache(nil)
	all := model.Shape{Services: 11 + services, Endpoints: 50}.Mesh()
	store.SetServices(model.Namespace, all)
	p := xds.NewPusher(store, cache, nil, slog.New(slog.DiscardHandler))
	ended := make(chan struct{})
	go func() { defer close(ended); p.Run(ctx) }() //nolint:errcheck // it ends with ctx
	defer func() { cancel(); <-ended }()
	last := len(all) - 1
	var told, others []listener
	for i := range 11 + streams {
		meta, sees := bootstrap.NodeMeta{Version: "bench", Wiring: mesh.Bind}, all
		if i >= 10 {
			sees = all[last:]
			meta.Dependencies = []string{sees[0].Name.DiscoveryName}
		}
		l, err := listen(ctx, p, cache, i, meta, sees)
		if err != nil {
			return err
		}
		defer l.closed()
		if i < 10 {
			told = append(told, l)
		} else {
			others = append(others, l)
		}
	}
	for range o.Rounds(50, 3) {
		allocs, err := change(ctx, store, told, &all)
		if err != nil {
			return err
		}
		strangers := 0
		for _, l := range others {
			strangers += len(l.Wake())
		}
		part.Add("one change", name, mAllocs, "", float64(allocs))
		part.Add("one change", name, mWoken, "", float64(len(told)+strangers))
		part.Add("one change", name, mOthers, "", float64(strangers))
	}
	f := part.Find("one change", name, mAllocs)
	o.Say("  %-28s %.0f allocations at least, %.0f in the median", name, f.Min, f.Median)
	return nil
}

// change has one endpoint of the first service of all change its health, waits
// until those whom it concerns have it, and returns the allocations that it took.
func change(ctx context.Context, store *mesh.Store, told []listener, all *[]*mesh.Service) (uint64, error) {
	next := slices.Clone(*all)
	s := *next[0]
	s.Endpoints = slices.Clone(s.Endpoints)
	s.Endpoints[0].Health ^= mesh.Healthy ^ mesh.Unhealthy
	next[0] = &s
	time.Sleep(100 * time.Millisecond) // the push loop is quiet again
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	store.SetServices(model.Namespace, next)
	*all = next
	for _, l := range told {
		select {
		case <-l.Wake():
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
		if err := l.rest(); err != nil {
			return 0, err
		}
	}
	runtime.ReadMemStats(&after)
	return after.Mallocs - before.Mallocs, nil
}
