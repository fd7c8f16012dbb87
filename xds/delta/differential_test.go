package delta

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
)

// reference is go-control-plane's server with a linear cache for each type. It
// is right about subscriptions of names that exist, changes, removals and
// returns; where it is not, TestConformance says what is.
type reference struct {
	lis    *bufconn.Listener
	caches map[string]*cache.LinearCache
}

func newReference(t *testing.T) *reference {
	ref := &reference{lis: bufconn.Listen(1 << 16), caches: map[string]*cache.LinearCache{}}
	mux := &cache.MuxCache{Caches: map[string]cache.Cache{}, Classify: func(r *cache.Request) string { return r.GetTypeUrl() },
		ClassifyDelta: func(r *cache.DeltaRequest) string { return r.GetTypeUrl() }}
	for k := range kinds {
		ref.caches[k.TypeURL()] = cache.NewLinearCache(k.TypeURL())
		mux.Caches[k.TypeURL()] = ref.caches[k.TypeURL()]
	}
	ctx, cancel := context.WithCancel(t.Context())
	g := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, serverv3.NewServer(ctx, mux, nil))
	go g.Serve(ref.lis) //nolint:errcheck // it ends with Stop
	t.Cleanup(func() { cancel(); g.Stop() })
	return ref
}

func (r *reference) dial(t *testing.T, w *world) *client {
	t.Helper()
	there := &world{lis: r.lis}
	return there.connect(t, true)
}

func (r *reference) change(t *testing.T, set []*Entry, gone []Ref) {
	t.Helper()
	for _, e := range set {
		m, err := decoded(e)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.caches[e.Kind().TypeURL()].UpdateResource(e.Name(), m); err != nil {
			t.Fatal(err)
		}
	}
	for _, g := range gone {
		if err := r.caches[g.TypeURL].DeleteResource(g.Name); err != nil {
			t.Fatal(err)
		}
	}
}

// decoded is the resource in an entry.
func decoded(e *Entry) (types.Resource, error) {
	r := &discoveryv3.DeltaDiscoveryResponse{}
	if err := proto.Unmarshal(e.Bytes(), r); err != nil {
		return nil, err
	}
	return r.GetResources()[0].GetResource().UnmarshalNew()
}

// TestAsTheReference sends the same requests to both servers, changes both in
// the same way, and compares what their clients hold.
func TestAsTheReference(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) { asTheReference(t, w, rand.New(rand.NewPCG(seed, 3))) })
		})
	}
}

func asTheReference(t *testing.T, w *world, rng *rand.Rand) {
	other := newReference(t)
	model := map[Ref]*Entry{}
	content := map[string]string{} // by version, of either
	change := func(set []*Entry, gone []Ref) {
		w.change(model, set, gone)
		other.change(t, set, gone)
	}
	ours, theirs := w.connect(t, true), other.dial(t, w)
	both := func(typeURL string, words ...string) {
		ours.ask(typeURL, words...)
		theirs.ask(typeURL, words...)
	}
	want := map[string]bool{}
	both(ClusterType)
	for i := range 120 {
		name := string(rune('a' + rng.IntN(6)))
		k := []kind{clusters, routes}[rng.IntN(2)]
		at := ref(k.TypeURL(), name)
		switch rng.IntN(6) {
		case 0, 1, 2:
			change([]*Entry{entry(k, name, i)}, nil)
		case 3:
			if model[at] != nil {
				change(nil, []Ref{at})
			}
		case 4:
			if route := ref(RouteType, name); want[name] {
				delete(want, name)
				delete(ours.have, route)
				delete(theirs.have, route)
				both(RouteType, "-"+name)
			} else if model[route] != nil {
				want[name] = true
				both(RouteType, "+"+name)
			}
		case 5:
			if rng.IntN(4) > 0 {
				break
			}
			keep := [2]map[Ref]string{maps.Clone(ours.have), maps.Clone(theirs.have)}
			ours.leave()
			theirs.leave()
			ours, theirs = w.connect(t, true), other.dial(t, w)
			for i, c := range []*client{ours, theirs} {
				c.have = keep[i]
				words := map[string][]string{ClusterType: nil, RouteType: nil}
				for n := range want {
					words[RouteType] = append(words[RouteType], "+"+n)
				}
				for at, v := range keep[i] {
					words[at.TypeURL] = append(words[at.TypeURL], at.Name+"="+v)
				}
				c.ask(ClusterType, words[ClusterType]...)
				if len(words[RouteType]) > 0 {
					c.ask(RouteType, words[RouteType]...)
				}
			}
		}
		for busy := true; busy; {
			busy = false
			for _, c := range []*client{ours, theirs} {
				for _, r := range c.take() {
					for _, x := range r.GetResources() {
						content[x.GetVersion()] = string(x.GetResource().GetValue())
					}
					c.ack(r)
					busy = true
				}
			}
		}
		if d := cmp.Diff(contents(theirs.have, content), contents(ours.have, content)); d != "" {
			t.Fatalf("step %d (-reference +ours):\n%s", i, d)
		}
	}
	if len(ours.have) == 0 || !slices.ContainsFunc(slices.Collect(maps.Keys(ours.have)), func(r Ref) bool { return r.TypeURL == ClusterType }) {
		t.Error("nothing was compared")
	}
}

// contents are what a client holds, by content: versions are each server's own.
func contents(have map[Ref]string, content map[string]string) map[Ref]string {
	out := map[Ref]string{}
	for at, v := range have {
		out[at] = content[v]
	}
	return out
}
