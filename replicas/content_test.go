package replicas

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"patchbay/mesh"
)

func snapshot(health mesh.Health, names ...string) *mesh.Store {
	s := mesh.NewStore()
	var all []*mesh.Service
	for _, n := range names {
		all = append(all, &mesh.Service{
			Name: mesh.ServiceName{Namespace: "prod", DiscoveryName: n}, Protocol: mesh.HTTP, Created: time.Now(), ARN: n + "1",
			Endpoints: []mesh.Endpoint{{InstanceID: "a", Addr: netip.MustParseAddrPort("10.0.0.1:80"), Health: health}},
		})
	}
	s.SetServices("prod", all)
	return s
}

func TestContent(t *testing.T) {
	of := func(s *mesh.Store) string { return new(Content).Of(s.Snapshot()) }
	if w := of(mesh.NewStore()); w != "" {
		t.Errorf("of nothing: %q", w)
	}
	one := of(snapshot(mesh.Healthy, "a", "b"))
	if other := of(snapshot(mesh.Healthy, "a", "b")); one != other || one == "" {
		t.Errorf("the same, read by another: %q and %q", one, other)
	}
	for name, other := range map[string]string{
		"a health": of(snapshot(mesh.Unhealthy, "a", "b")), "one less": of(snapshot(mesh.Healthy, "a")), "another name": of(snapshot(mesh.Healthy, "a", "c")), "none": of(snapshot(mesh.Healthy)),
	} {
		if one == other {
			t.Errorf("%s makes no difference", name)
		}
	}
	s, c := snapshot(mesh.Healthy, "a", "b"), &Content{}
	before := c.Of(s.Snapshot())
	s.SetServices("prod", nil)
	if after := c.Of(s.Snapshot()); after == before || after == "" {
		t.Errorf("%q, then %q", before, after)
	}
}

// Replicas notice within a beat that the other serves something else, and that
// it no longer does.
func TestReplicasNoticeThatTheyDisagree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		a, b := h.enter(t, 1, nil), h.enter(t, 2, nil)
		a.show("x")
		b.show("x")
		after(findEvery) // the first has been alone in the directory
		differs := func() bool {
			after(5 * time.Second)
			p, q := a.Peers(), b.Peers()
			if len(p) != 1 || len(q) != 1 || !p[0].Heard {
				t.Fatalf("%+v %+v", p, q)
			}
			if p[0].Differs.IsZero() != q[0].Differs.IsZero() {
				t.Errorf("one disagrees: %+v %+v", p, q)
			}
			return !p[0].Differs.IsZero()
		}
		if differs() {
			t.Error("the same content differs")
		}
		b.show("y")
		if !differs() {
			t.Error("other content does not differ")
		}
		since := a.Peers()[0].Differs
		if differs(); a.Peers()[0].Differs != since {
			t.Error("the time of the difference moves")
		}
		a.show("y")
		if differs() {
			t.Error("it goes on to differ")
		}
		b.show("")
		if differs() {
			t.Error("one that says nothing differs")
		}
	})
}
