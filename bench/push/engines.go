package push

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/proto"

	"patchbay/bench/model"
	"patchbay/identity"
	"patchbay/mesh"
	"patchbay/xds"
	"patchbay/xds/delta"
	"patchbay/xds/delta/admit"
	"patchbay/xds/leds"
	"patchbay/xds/translate"
)

// The engines that are compared.
const (
	patchbay = "patchbay"
	withLEDS = "patchbay, LEDS"    // with endpoints in collections where localities are large
	linear   = "linear cache"      // go-control-plane's LinearCache for each type, behind its MuxCache
	shared   = "shared snapshot"   // its SnapshotCache, one snapshot for all nodes
	perNode  = "snapshot per node" // its SnapshotCache as its examples show it
)

// engine is a control plane under test.
type engine struct {
	// serve runs until ctx ends.
	serve func(context.Context, net.Listener) error
	// change publishes the n-th change of an endpoint. It may return before it
	// has been sent.
	change func(n int) error
	// made is how many responses have been encoded; nil: that is not known.
	made func() float64
}

// newEngine makes an engine with the mesh of s. Every stream passes the
// interceptor. guard is of mutual TLS; nil: plain text.
func newEngine(name string, s model.Shape, seen grpc.StreamServerInterceptor, guard *identity.Guard) (engine, error) {
	switch name {
	case patchbay:
		return newPatchbay(s, leds.Off, seen, guard), nil
	case withLEDS:
		return newPatchbay(s, leds.Auto, seen, guard), nil
	}
	all := s.Mesh()
	e, err := newCache(name, all, s.Streams)
	if err != nil {
		return engine{}, err
	}
	return engine{
		serve: func(ctx context.Context, lis net.Listener) error {
			opts := []grpc.ServerOption{
				grpc.StreamInterceptor(seen), grpc.MaxConcurrentStreams(1_000_000),
				grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 5 * time.Second}),
				grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 30 * time.Second, PermitWithoutStream: true}),
			}
			if guard != nil {
				opts = append(opts, grpc.Creds(guard.Credentials(false)))
			}
			g := grpc.NewServer(opts...)
			discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, serverv3.NewServer(ctx, e.cache, e.callbacks))
			defer context.AfterFunc(ctx, g.Stop)()
			return g.Serve(lis)
		},
		change: func(n int) error {
			var i int
			all, i = model.Change(all, n)
			return e.update(n, all[i])
		},
	}, nil
}

func newPatchbay(s model.Shape, mode leds.Mode, seen grpc.StreamServerInterceptor, guard *identity.Guard) engine {
	log := slog.New(slog.DiscardHandler)
	metrics := delta.NewMetrics(nil)
	store, cache := mesh.NewStore(), delta.NewCache(metrics)
	all := s.Mesh()
	store.SetServices(model.Namespace, all)
	cfg := xds.ServerConfig{Log: log, Interceptors: []grpc.StreamServerInterceptor{seen},
		Admit: admit.Limits{Rate: 1_000_000, Burst: 1_000_000}} // the others let everybody in at once
	var identify func(context.Context) (mesh.Node, error)
	if guard != nil {
		cfg.Creds, cfg.Interceptors, identify = guard.Credentials(false), append(cfg.Interceptors, guard.StreamInterceptor), identity.FromContext
	}
	pusher := xds.NewPusher(store, cache, identify, log, xds.Collections(mode))
	server := xds.NewServer(pusher, cfg)
	return engine{
		serve: func(ctx context.Context, lis net.Listener) error {
			g, ctx := errgroup.WithContext(ctx)
			g.Go(func() error { return pusher.Run(ctx) })
			g.Go(func() error { return server.Run(ctx, lis) })
			return g.Wait()
		},
		change: func(n int) error {
			all, _ = model.Change(all, n)
			store.SetServices(model.Namespace, all)
			return nil
		},
		made: func() (n float64) {
			for _, k := range metrics.ByKind {
				n += read(k.Responses) - read(k.Shared)
			}
			return n
		},
	}
}

func read(c prometheus.Counter) float64 {
	m := &dto.Metric{}
	if c.Write(m) != nil {
		return 0
	}
	return m.GetCounter().GetValue()
}

// userCache is one of go-control-plane's caches as an ordinary user holds it.
type userCache struct {
	cache     cachev3.Cache
	callbacks serverv3.Callbacks
	update    func(n int, s *mesh.Service) error
}

func newCache(name string, all []*mesh.Service, streams int) (userCache, error) {
	have := model.Resources(all)
	switch name {
	case linear:
		return linearCache(have), nil
	case shared:
		return snapshotCache(have, one{}, []string{one{}.ID(nil)})
	case perNode:
		ids := make([]string, streams)
		for i := range ids {
			ids[i] = model.Node(i).GetId()
		}
		return snapshotCache(have, cachev3.IDHash{}, ids)
	}
	return userCache{}, fmt.Errorf("no engine is called %q", name)
}

// linearCache updates the one resource that changed.
func linearCache(have map[string]map[string]proto.Message) userCache {
	mux := &cachev3.MuxCache{
		Classify:      func(r *cachev3.Request) string { return r.GetTypeUrl() },
		ClassifyDelta: func(r *cachev3.DeltaRequest) string { return r.GetTypeUrl() },
		Caches:        map[string]cachev3.Cache{},
	}
	for typeURL, byName := range have {
		initial := map[string]types.Resource{}
		for name, m := range byName {
			initial[name] = m
		}
		mux.Caches[typeURL] = cachev3.NewLinearCache(typeURL, cachev3.WithInitialResources(initial))
	}
	endpoints := mux.Caches[translate.EndpointType].(*cachev3.LinearCache)
	return userCache{cache: mux, update: func(_ int, s *mesh.Service) error {
		name, m := model.Assignment(s)
		return endpoints.UpdateResource(name, m)
	}}
}

// one is a NodeHash for which all nodes are the same.
type one struct{}

func (one) ID(*corev3.Node) string { return "all" }

// snapshotCache makes a new snapshot of everything at each change: one object
// where all nodes share, one for each node otherwise.
func snapshotCache(have map[string]map[string]proto.Message, hash cachev3.NodeHash, ids []string) (userCache, error) {
	lists := map[string][]types.Resource{}
	at := map[string]int{} // of each assignment in its list
	for typeURL, byName := range have {
		for i, name := range slices.Sorted(maps.Keys(byName)) {
			lists[typeURL] = append(lists[typeURL], byName[name])
			if typeURL == translate.EndpointType {
				at[name] = i
			}
		}
	}
	cache := cachev3.NewSnapshotCache(true, hash, nil)
	set := func(n int) error {
		for _, id := range ids {
			snap, err := cachev3.NewSnapshot(strconv.Itoa(n), lists)
			if err != nil {
				return err
			}
			if err := cache.SetSnapshot(context.Background(), id, snap); err != nil {
				return err
			}
		}
		return nil
	}
	return userCache{cache: cache, update: func(n int, s *mesh.Service) error {
		name, m := model.Assignment(s)
		changed := slices.Clone(lists[translate.EndpointType])
		changed[at[name]] = m
		lists[translate.EndpointType] = changed
		return set(n)
	}}, set(-1)
}
