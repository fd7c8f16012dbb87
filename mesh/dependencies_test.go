package mesh

import (
	"slices"
	"strings"
	"testing"

	"patchbay/mesh/policy"
)

func TestDependenciesReachWhatRoutesLeadTo(t *testing.T) {
	to := func(names ...string) *policy.Policy {
		p := &policy.Policy{}
		for _, n := range names {
			p.Routes = append(p.Routes, policy.Route{To: []policy.Target{{Service: n, Weight: 1}}})
		}
		return p
	}
	st := NewStore()
	var all []*Service
	for name, p := range map[string]*policy.Policy{"a": to("v2"), "v2": to("v3", "a", "missing"), "v3": nil, "other": nil} {
		all = append(all, &Service{Name: ServiceName{"prod", name}, Protocol: HTTP, Policy: p})
	}
	slices.SortFunc(all, func(a, b *Service) int { return a.Name.Compare(b.Name) })
	st.SetServices("prod", all)
	var got []string
	for _, s := range st.Snapshot().Told("prod", DependenciesOf([]string{"a", "nobody"}), "") {
		got = append(got, s.Name.DiscoveryName)
	}
	if want := []string{"a", "v2", "v3"}; !slices.Equal(got, want) {
		t.Errorf("told of %q, want %q", got, want)
	}
}

// TestHidden: a target that has callers exists for these alone, also where
// routes lead to it.
func TestHidden(t *testing.T) {
	st := NewStore()
	st.SetServices("prod", []*Service{
		{Name: ServiceName{"prod", "a"}, Policy: &policy.Policy{Routes: []policy.Route{{To: []policy.Target{{Service: "bank", Weight: 1}}}}}},
		{Name: ServiceName{"prod", "bank"}, External: &External{Callers: []string{"till"}}},
		{Name: ServiceName{"prod", "map"}, External: &External{}},
	})
	snap := st.Snapshot()
	for _, c := range []struct {
		workload, dependencies, want string
	}{{"till", "", "a bank map"}, {"web", "", "a map"}, {"till", "a", "a bank"}, {"web", "a", "a"}, {"web", "bank", ""}} {
		var got []string
		for _, s := range snap.Told("prod", Dependencies(c.dependencies), snap.Hidden(Workload{Namespace: "prod", Name: c.workload})) {
			got = append(got, s.Name.DiscoveryName)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s with %q is told of %v, want %s", c.workload, c.dependencies, got, c.want)
		}
	}
}
