package pki

import (
	"sync/atomic"
	"testing"
	"time"

	"patchbay/mesh"
)

// A replica dies between preparing a certificate and having it issued. The other
// finishes it with the same key: at once if it knows that the first is gone, also
// when it learns that while it waits, else when its patience ends.
func TestWhatADeadReplicaPrepared(t *testing.T) {
	for name, known := range map[string]time.Duration{"known": 0, "learned": 5 * time.Second, "not known": time.Hour} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 24*time.Hour, func(t *testing.T, w *world) {
				var gone atomic.Bool
				other := &world{t: t, ca: w.ca, store: mesh.NewStore(), secrets: w.secrets, log: &syncWriter{}, issuers: w.issuers, o: w.o}
				w.o.Self, other.o.Self = "10.0.0.1:1", "10.0.0.2:1"
				other.o.Gone = func(replica string) bool { return replica == "10.0.0.1:1" && gone.Load() }
				w.ca.set(func(a *authority) { a.took = time.Minute })
				w.store.SetServices("prod", []*mesh.Service{svc("a")})
				w.start()
				w.pass(time.Second)
				w.stop()
				if n := len(w.ca.issues()); n != 1 {
					t.Fatalf("%d issues", n)
				}
				w.ca.set(func(a *authority) { a.took = 10 * time.Millisecond })
				began := time.Now()
				time.AfterFunc(known, func() { gone.Store(true) })
				other.store.SetServices("prod", []*mesh.Service{svc("a")})
				other.start()
				defer other.stop()
				for len(other.store.Snapshot().Leaves) == 0 && time.Since(began) < time.Minute {
					other.pass(100 * time.Millisecond)
				}
				most, least := known+3*time.Second, known
				if known > patience {
					most, least = patience+3*time.Second, patience
				}
				if took := time.Since(began); took < least || took > most {
					t.Errorf("finished after %s; allowed: %s to %s", took, least, most)
				}
				other.leaf("a")
			})
		})
	}
}

// A replica that restarts finishes what it prepared itself.
func TestWhatWasPreparedBeforeARestart(t *testing.T) {
	inWorld(t, 24*time.Hour, func(t *testing.T, w *world) {
		w.o.Self = "10.0.0.1:1"
		w.ca.set(func(a *authority) { a.took = time.Minute })
		w.store.SetServices("prod", []*mesh.Service{svc("a")})
		w.start()
		w.pass(time.Second)
		w.ca.set(func(a *authority) { a.took = 10 * time.Millisecond })
		w.restart()
		w.pass(3 * time.Second)
		w.leaf("a")
	})
}
