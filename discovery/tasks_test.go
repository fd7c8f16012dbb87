package discovery

import (
	"testing"
	"testing/synctest"
	"time"

	"patchbay/mesh"
)

// An event makes the registry be asked, and an endpoint be avoided for a while;
// it neither adds nor removes one.
func TestAnEventIsAHint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		s := m.own(t, "backend", plain(mesh.HTTP, "backend"), 2) // tasks a and b
		w := start(t, m)
		after(time.Minute)
		health := func() (out []mesh.Health) {
			for _, e := range w.store.Snapshot().Services[0].Endpoints {
				out = append(out, e.Health)
			}
			return out
		}
		m.do(func() { s.add(2) })
		w.cm.TaskChanged("backend", "c", false)
		w.expect(t, "a task that runs", "backend", "a.http b.http c.http")

		w.cm.TaskChanged("backend", "b", true)
		w.expect(t, "a task that is to stop", "backend", "a.http b.http c.http")
		if h := health(); h[0] != mesh.Healthy || h[1] != mesh.Unhealthy || h[2] != mesh.Healthy {
			t.Errorf("health is %v", h)
		}
		after(avoidFor + time.Minute)
		if h := health(); h[1] != mesh.Healthy {
			t.Errorf("long after an event that was wrong: %v", h)
		}

		m.own(t, "later", plain(mesh.HTTP, "later"), 1)
		w.cm.TaskChanged("later", "x", false)
		w.expect(t, "a service that was not known", "later", "a.http")
	})
}
