package discovery

import (
	"testing"
	"testing/synctest"
	"time"

	"patchbay/mesh"
)

// among is one of two replicas, of which the other asks about nothing.
type among struct{}

func (among) Elsewhere(mesh.ServiceName) (uint64, bool) { return 0, false }
func (among) Complete() bool                            { return true }
func (among) Saw(mesh.ServiceName, uint64)              {}

// A replica that hears of an answer that it can't get is behind, also when who
// told it is gone, until the registry answers; then it is as new as the other.
func TestAReplicaKnowsThatItIsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		s := m.own(t, "backend", plain(mesh.HTTP, "backend"), 3)
		w := start(t, m, func(c *Config) { c.Share = among{} })
		behind := func() bool { return w.cm.Status()[0].Services[0].Behind }
		after(time.Minute)
		name := mesh.ServiceName{Namespace: "prod", DiscoveryName: "backend"}
		w.cm.Told(name, 7) // of something that is the same by now
		after(time.Second)
		if behind() || !w.cm.Fit() {
			t.Errorf("behind %v, fit %v", behind(), w.cm.Fit())
		}
		m.do(func() { m.fail = func(string, string) error { return errDown } })
		after(5 * time.Minute)
		if behind() || w.cm.Fit() {
			t.Errorf("nobody knows more: behind %v; nothing answers: fit %v", behind(), w.cm.Fit())
		}
		m.do(func() { s.add(3) })
		w.cm.Told(name, 8)
		after(time.Minute)
		if !behind() {
			t.Error("another knows more, and it is not behind")
		}
		w.expect(t, "behind", "backend", "a.http b.http c.http")
		m.do(func() { m.fail = nil })
		after(15 * time.Second)
		if behind() || !w.cm.Fit() {
			t.Errorf("caught up: behind %v, fit %v", behind(), w.cm.Fit())
		}
		w.expect(t, "caught up", "backend", "a.http b.http c.http d.http")
		if n := w.cm.Tally(); n.Failed == 0 || n.Total <= n.Failed || n.Throttled != 0 || n.Rates["DiscoverInstances"] != 1 {
			t.Errorf("%+v", n)
		}
	})
}
