package delta

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"

	"patchbay/xds/delta/wire"
)

// envoy is a model of an Envoy's subscriptions: clusters and listeners by
// wildcard, endpoints of every cluster that it has, routes and secrets by name.
// It keeps what it has over reconnects, and tells it when it comes back.
type envoy struct {
	*client
	rng     *rand.Rand
	have    map[Ref]string
	want    map[Ref]bool // routes, secrets, endpoints
	unacked []*discoveryv3.DeltaDiscoveryResponse
	bad     func(Ref, string) bool
	newest  map[Ref]int    // the greatest v seen
	number  map[string]int // version -> v
}

func (e *envoy) come(w *world) {
	e.client = w.connect(w.t, true)
	e.unacked = nil
	for k := range kinds {
		r := &req{Node: testNode, TypeUrl: k.TypeURL(), InitialResourceVersions: map[string]string{}}
		for at, v := range e.have {
			if at.TypeURL == k.TypeURL() {
				r.InitialResourceVersions[at.Name] = v
			}
		}
		for at := range e.want {
			if at.TypeURL == k.TypeURL() {
				r.ResourceNamesSubscribe = append(r.ResourceNamesSubscribe, at.Name)
			}
		}
		if k.Wildcards() || len(r.ResourceNamesSubscribe) > 0 {
			e.send(r)
		}
	}
}

// read takes in what came. Some of it is answered later.
func (e *envoy) read() int {
	in := e.take()
	for _, r := range in {
		seen := map[string]bool{}
		refused := false
		for _, x := range r.GetResources() {
			at := ref(r.GetTypeUrl(), x.GetName())
			if seen[at.Name] {
				e.t.Fatalf("%s twice in one response", at)
			}
			seen[at.Name] = true
			refused = refused || e.bad(at, x.GetVersion())
		}
		if refused {
			e.nack(r, "bad") // nothing of it is taken
			continue
		}
		for _, x := range r.GetResources() {
			at, n := ref(r.GetTypeUrl(), x.GetName()), e.number[x.GetVersion()]
			if n != 0 && n < e.newest[at] {
				e.t.Fatalf("%s went back from %d to %d", at, e.newest[at], n)
			}
			e.newest[at] = max(n, e.newest[at])
		}
		e.apply(r)
		e.unacked = append(e.unacked, r)
	}
	return len(in)
}

func (e *envoy) apply(r *discoveryv3.DeltaDiscoveryResponse) {
	for _, x := range r.GetResources() {
		at := ref(r.GetTypeUrl(), x.GetName())
		if k, _ := wire.KindOf(at.TypeURL); !k.Wildcards() && !e.want[at] {
			continue
		}
		e.have[at] = x.GetVersion()
		if at.TypeURL == ClusterType {
			e.subscribe(ref(EndpointType, at.Name))
		}
	}
	for _, name := range r.GetRemovedResources() {
		at := ref(r.GetTypeUrl(), name)
		delete(e.have, at)
		if at.TypeURL == ClusterType {
			e.unsubscribe(ref(EndpointType, name))
		}
	}
}

func (e *envoy) subscribe(at Ref) {
	if !e.want[at] {
		e.want[at] = true
		e.ask(at.TypeURL, "+"+at.Name)
	}
}

func (e *envoy) unsubscribe(at Ref) {
	if e.want[at] {
		delete(e.want, at)
		delete(e.have, at)
		e.ask(at.TypeURL, "-"+at.Name)
	}
}

func (e *envoy) answer(n int) {
	n = min(n, len(e.unacked))
	e.ack(e.unacked[:n]...)
	e.unacked = e.unacked[n:]
}

// TestRandomHistory lets anything happen in any order and then checks that a
// client ends with what the cache has. A seed names a history for ever.
func TestRandomHistory(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) { randomHistory(t, w, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func randomHistory(t *testing.T, w *world, rng *rand.Rand) {
	model := map[Ref]*Entry{} // what the view has
	number, poison := map[string]int{}, map[Ref]string{}
	clock := 0
	make1 := func(k kind, name string) *Entry {
		clock++
		e := entry(k, name, clock)
		number[e.Version()] = clock
		if rng.IntN(8) == 0 && k != clusters {
			poison[e.Ref()] = e.Version()
		}
		return e
	}
	e := &envoy{rng: rng, have: map[Ref]string{}, want: map[Ref]bool{}, newest: map[Ref]int{}, number: number,
		bad: func(r Ref, v string) bool { return poison[r] == v }}
	e.come(w)
	name := func() string { return string(rune('a' + rng.IntN(8))) }
	for range 250 {
		switch rng.IntN(10) {
		case 0, 1: // a service comes or changes
			n := name()
			all := []*Entry{make1(clusters, n)}
			if model[ref(EndpointType, n)] == nil || rng.IntN(2) == 0 {
				all = append(all, make1(endpoints, n))
			}
			w.change(model, all, nil)
		case 2, 3: // its endpoints change
			if n := name(); model[ref(ClusterType, n)] != nil {
				w.change(model, []*Entry{make1(endpoints, n)}, nil)
			}
		case 4: // it goes
			n := name()
			w.change(model, nil, []Ref{ref(ClusterType, n), ref(EndpointType, n)})
		case 5:
			k := []kind{listeners, routes, secrets}[rng.IntN(3)]
			if n := name(); rng.IntN(3) == 0 {
				w.change(model, nil, []Ref{ref(k.TypeURL(), n)})
			} else {
				w.change(model, []*Entry{make1(k, n)}, nil)
			}
		case 6:
			at := ref([]string{RouteType, SecretType}[rng.IntN(2)], name())
			if rng.IntN(3) == 0 {
				e.unsubscribe(at)
			} else {
				e.subscribe(at)
			}
		case 7:
			e.read()
		case 8:
			e.answer(rng.IntN(4))
		case 9:
			if rng.IntN(5) == 0 {
				e.leave()
				e.come(w)
			}
		}
	}
	for rounds := 0; e.read() > 0 || len(e.unacked) > 0; rounds++ {
		if e.answer(len(e.unacked)); rounds > 100 {
			t.Fatal("no end of responses")
		}
	}
	want := map[Ref]string{}
	for at, x := range model {
		if k, _ := wire.KindOf(at.TypeURL); k.Wildcards() || e.want[at] {
			want[at] = x.Version()
		}
	}
	have := maps.Clone(e.have)
	for at, v := range poison { // what is refused stays at any older version
		if want[at] == v {
			delete(want, at)
			delete(have, at)
		}
	}
	maps.DeleteFunc(have, func(at Ref, v string) bool {
		return at.TypeURL == EndpointType && want[at] == "" && v == wire.EmptyAssignment(at.Name).Version()
	})
	if d := cmp.Diff(want, have); d != "" {
		t.Errorf("the client differs from the view (-view +client):\n%s", d)
	}
	if behind, _ := w.cache.Behind(); behind != 0 {
		t.Errorf("%d streams are behind at rest", behind)
	}
}

func (w *world) change(model map[Ref]*Entry, set []*Entry, gone []Ref) {
	for _, e := range set {
		model[e.Ref()] = e
	}
	for _, r := range gone {
		delete(model, r)
	}
	w.cache.Apply("v", set, gone, nil)
}

func TestEveryRefusalIsInTheBooks(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.connect(t, true)
		c.ask(RouteType, "+a", "+b", "+c")
		c.take()
		w.set(entry(routes, "a", 1), entry(routes, "b", 1), entry(routes, "c", 1))
		for in := c.take(); len(in) > 0; in = c.take() {
			for _, r := range in {
				if slices.ContainsFunc(r.GetResources(), func(x *discoveryv3.Resource) bool { return x.GetName() != "b" }) {
					c.nack(r, "bad")
				} else {
					c.ack(r)
				}
			}
		}
		var got []string
		for _, r := range w.types("prod/web/1")["rds"].Rejected {
			got = append(got, r.Name)
		}
		if !slices.Equal(got, []string{"a", "c"}) {
			t.Errorf("rejected: %v", got)
		}
	})
}
