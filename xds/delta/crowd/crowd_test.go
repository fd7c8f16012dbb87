package crowd

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestGroupsAreSets holds a crowd and two groups against maps, over a random
// history.
func TestGroupsAreSets(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var c Crowd[int]
	var groups [2]Group
	place := map[int]int{} // by member
	var want [2]map[int]bool
	for i := range want {
		want[i] = map[int]bool{}
	}
	for step := range 3000 {
		m := r.IntN(300)
		n, in := place[m]
		switch g := r.IntN(2); {
		case !in:
			n = c.Enter(m)
			for other, taken := range place {
				if taken == n {
					t.Fatalf("%d and %d have the number %d", m, other, n)
				}
			}
			if n > len(place) {
				t.Fatalf("the number %d among %d members", n, len(place))
			}
			place[m] = n
		case r.IntN(5) == 0:
			for i := range groups {
				groups[i].Remove(n)
				delete(want[i], m)
			}
			c.Leave(n)
			delete(place, m)
		case want[g][m] && r.IntN(2) == 0:
			groups[g].Remove(n)
			delete(want[g], m)
		default:
			groups[g].Add(n)
			want[g][m] = true
		}
		union := maps.Clone(want[0])
		maps.Copy(union, want[1])
		got := slices.Sorted(c.Of(&groups[0], &groups[1]))
		if !slices.Equal(got, slices.Sorted(maps.Keys(union))) {
			t.Fatalf("step %d: have %v, want %v", step, got, union)
		}
		if c.Size() != len(place) || groups[0].Size() != len(want[0]) || groups[1].Size() != len(want[1]) {
			t.Fatalf("step %d: sizes %d, %d, %d", step, c.Size(), groups[0].Size(), groups[1].Size())
		}
		if all := slices.Sorted(c.All()); !slices.Equal(all, slices.Sorted(maps.Keys(place))) {
			t.Fatalf("step %d: members %v", step, all)
		}
	}
	if n := slices.Collect(c.Of(nil, nil)); n != nil {
		t.Errorf("no group holds %v", n)
	}
}
