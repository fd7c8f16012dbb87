package leds

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/google/go-cmp/cmp"
)

// assignment has a locality for each zone, with the addresses given.
func assignment(zones ...[]string) *endpointv3.ClusterLoadAssignment {
	a := &endpointv3.ClusterLoadAssignment{ClusterName: "api.prod"}
	for i, addrs := range zones {
		l := &endpointv3.LocalityLbEndpoints{Locality: &corev3.Locality{Zone: fmt.Sprint("z", i)}}
		for _, addr := range addrs {
			p := netip.MustParseAddrPort(addr)
			l.LbEndpoints = append(l.LbEndpoints, &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
				Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
					Address: p.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(p.Port())}}}}}}})
		}
		a.Endpoints = append(a.Endpoints, l)
	}
	return a
}

func many(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("10.0.%d.%d:80", i/250, i%250))
	}
	return all
}

// names are the members' names without what comes before their collection.
func names(s Split) (all []string) {
	for _, m := range s.Members {
		all = append(all, m.Name)
	}
	return all
}

func TestMembersComeAndGoInOneCollection(t *testing.T) {
	s := New(On)
	one := s.Split(assignment([]string{"10.0.0.1:80", "10.0.0.2:80"}), "v1")
	if len(one.Collections) != 1 || len(one.Gone) != 0 || len(one.Members) != 2 {
		t.Fatalf("%+v", one)
	}
	glob := one.Collections[0]
	if !strings.HasPrefix(glob, "xdstp://p/envoy.config.endpoint.v3.LbEndpoint/api.prod/") || !strings.HasSuffix(glob, "/*") {
		t.Errorf("the collection is called %s", glob)
	}
	for _, n := range names(one) {
		if n[:strings.LastIndex(n, "/")] != strings.TrimSuffix(glob, "/*") {
			t.Errorf("%s is not of %s", n, glob)
		}
	}
	l := one.Assignment.Endpoints[0]
	if got := l.GetLedsClusterLocalityConfig().GetLedsCollectionName(); got != glob || len(l.LbEndpoints) != 0 || l.Locality.Zone != "z0" {
		t.Errorf("the assignment: %v", l)
	}
	two := s.Split(assignment([]string{"10.0.0.2:80", "[2001:db8::1]:80"}), "v1")
	if d := cmp.Diff(one.Collections, two.Collections); d != "" {
		t.Errorf("a change of members changed the collection:\n%s", d)
	}
	if len(two.Gone) != 1 || two.Gone[0] != names(one)[0] || names(two)[0] != names(one)[1] {
		t.Errorf("gone %q, members %q", two.Gone, names(two))
	}
}

func TestWhenACollectionGetsANewName(t *testing.T) {
	s := New(On)
	all := []string{"10.0.0.1:80"}
	first := s.Split(assignment(all), "v1").Collections[0]
	updated := s.Split(assignment(all), "v2")
	if updated.Collections[0] == first || !slices.Contains(updated.Gone, first) || len(updated.Members) != 1 {
		t.Errorf("after an update of the cluster: %+v", updated)
	}
	emptied := s.Split(assignment(nil), "v2")
	if len(emptied.Collections) != 0 || !slices.Equal(emptied.Gone, updated.Collections) || len(emptied.Assignment.Endpoints) != 1 {
		t.Errorf("without endpoints: %+v", emptied)
	}
	back := s.Split(assignment(all), "v2")
	if slices.Contains([]string{first, updated.Collections[0]}, back.Collections[0]) {
		t.Errorf("an old name comes back: %+v", back)
	}
	if gone := s.Drop("api.prod"); !slices.Equal(gone, back.Collections) {
		t.Errorf("dropped with %q", gone)
	}
	again := s.Split(assignment(all), "v1")
	if again.Collections[0] == first || New(On).Split(assignment(all), "v1").Collections[0] == first {
		t.Error("a name comes back, here or in another process")
	}
}

// So that what a returning client must be told stays small.
func TestCrowdedWithGraves(t *testing.T) {
	s := New(On)
	glob, renamed := "", 0
	for i := range 1000 {
		out := s.Split(assignment([]string{fmt.Sprintf("10.0.%d.%d:80", i/250, i%250), "10.9.9.9:80"}), "v1")
		if out.Collections[0] != glob {
			renamed++
			glob = out.Collections[0]
		}
	}
	if renamed < 10 || renamed > 20 {
		t.Errorf("1000 members left; the collection was renamed %d times", renamed)
	}
}

func TestLargeLocalitiesOnlyAndHysteresis(t *testing.T) {
	s := New(Auto)
	uses := func(n int) bool {
		return len(s.Split(assignment(many(n), []string{"10.9.9.9:80"}), "v1").Collections) > 0
	}
	for _, step := range []struct {
		n    int
		want bool
	}{{499, false}, {500, true}, {250, true}, {249, false}, {400, false}, {600, true}, {10_000, true}, {10_001, false}} {
		if got := uses(step.n); got != step.want {
			t.Errorf("%d endpoints: a collection %v", step.n, got)
		}
	}
	mixed := s.Split(assignment(many(600), []string{"10.9.9.9:80"}), "v1")
	if len(mixed.Assignment.Endpoints) != 2 || len(mixed.Assignment.Endpoints[1].LbEndpoints) != 1 || mixed.Assignment.Endpoints[0].GetLedsClusterLocalityConfig() == nil {
		t.Errorf("%v", mixed.Assignment)
	}
	if New(Off).Split(assignment(many(600)), "v1").Collections != nil {
		t.Error("off is not off")
	}
}

// Whatever happens, following what Split says gives the assignment back.
func TestSplitLosesNothing(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 4))
		s, have := New(On), map[string]bool{} // members of a client that follows
		version := 0
		for range 200 {
			zones := make([][]string, 1+rng.IntN(2))
			for z := range zones {
				for range rng.IntN(5) {
					addr := fmt.Sprintf("10.%d.0.%d:80", z, rng.IntN(6))
					if !slices.Contains(zones[z], addr) {
						zones[z] = append(zones[z], addr)
					}
				}
			}
			if rng.IntN(10) == 0 {
				version++
			}
			out := s.Split(assignment(zones...), fmt.Sprint(version))
			for _, g := range out.Gone {
				for n := range have {
					if n == g || strings.HasSuffix(g, "/*") && strings.HasPrefix(n, strings.TrimSuffix(g, "*")) {
						delete(have, n)
					}
				}
			}
			for _, n := range names(out) {
				have[n] = true
			}
			want := 0
			for _, z := range zones {
				want += len(z)
			}
			if len(have) != want {
				t.Fatalf("seed %d: %d members, want %d", seed, len(have), want)
			}
		}
	}
}

func FuzzMemberName(f *testing.F) {
	f.Add("10.0.0.1", uint16(80), "10.0.0.1", uint16(81))
	f.Add("::1", uint16(80), "::", uint16(443))
	f.Fuzz(func(t *testing.T, a string, p uint16, b string, q uint16) {
		x, errX := netip.ParseAddr(a)
		y, errY := netip.ParseAddr(b)
		if errX != nil || errY != nil || x.Zone() != "" || y.Zone() != "" || x.Is4In6() || y.Is4In6() {
			return
		}
		same := slices.Equal(addressKey(x.String(), uint32(p)), addressKey(y.String(), uint32(q)))
		if want := netip.AddrPortFrom(x, p) == netip.AddrPortFrom(y, q); same != want {
			t.Errorf("%v:%d and %v:%d are one: %v", x, p, y, q, same)
		}
	})
}
