package pki

import (
	"context"
	"testing"
	"time"

	"patchbay/mesh"
	"patchbay/pki/secret"
)

// lagging answers with what it held some seconds ago, as a store whose reads
// may lag behind its writes.
type lagging struct {
	secret.Store
	until time.Time
	old   secret.Entry
}

func (l *lagging) Load(ctx context.Context, name string) (secret.Entry, error) {
	if time.Now().Before(l.until) && l.old.Name == name {
		return l.old, nil
	}
	return l.Store.Load(ctx, name)
}

// twins are two replicas with one secret store and one authority; each is told
// what the other has stored.
func twins(t *testing.T, w *world) (other *world, reads *lagging) {
	t.Helper()
	reads = &lagging{Store: w.secrets}
	other = &world{t: t, ca: w.ca, store: mesh.NewStore(), secrets: reads, log: &syncWriter{}, issuers: w.issuers, o: w.o}
	tell := func(to *world) func(mesh.ServiceName, uint64) {
		return func(s mesh.ServiceName, generation uint64) { go to.rotator.Stored(s, generation) }
	}
	w.o.Stored, other.o.Stored = tell(other), tell(w)
	for _, r := range []*world{w, other} {
		r.store.SetServices("prod", []*mesh.Service{svc("a"), svc("b")})
	}
	w.start()
	other.start()
	w.pass(time.Minute)
	return other, reads
}

func TestARotationIsSeenByTheOtherReplicaAtOnce(t *testing.T) {
	inWorld(t, 24*time.Hour, func(t *testing.T, w *world) {
		other, reads := twins(t, w)
		defer other.stop()
		before, issues := w.leaf("a"), len(w.ca.issues())
		if other.leaf("a").Serial != before.Serial || issues != 2 {
			t.Fatalf("the replicas begin with %s and %s, after %d issues", before.Serial, other.leaf("a").Serial, issues)
		}
		next := must(w.rotator.Rotate(t.Context(), name("a")))
		w.pass(time.Second)
		if next.Serial == before.Serial || other.leaf("a").Serial != next.Serial {
			t.Errorf("%s was rotated to %s; the other replica serves %s", before.Serial, next.Serial, other.leaf("a").Serial)
		}

		// The secret store shows it to the other one only later.
		reads.old, reads.until = must(w.secrets.Load(t.Context(), "leaf/prod/a")), time.Now().Add(5*time.Second)
		next = must(w.rotator.Rotate(t.Context(), name("a")))
		w.pass(8 * time.Second)
		if other.leaf("a").Serial != next.Serial {
			t.Error("the other replica did not look again")
		}
		if n := len(w.ca.issues()) - issues; n != 2 {
			t.Errorf("%d certificates for two rotations", n)
		}
	})
}

// What was said in error costs a few looks and nothing else.
func TestWhatIsSaidToBeStoredIsOnlyAHint(t *testing.T) {
	inWorld(t, 24*time.Hour, func(t *testing.T, w *world) {
		w.store.SetServices("prod", []*mesh.Service{svc("a")})
		w.start()
		w.rotator.Stored(name("a"), 7) // before anything is loaded
		w.pass(time.Minute)
		before := w.leaf("a")
		w.rotator.Stored(name("a"), 9)
		w.rotator.Stored(name("nobody"), 1)
		w.pass(5 * time.Minute)
		if s := w.status("a"); w.leaf("a") != before || s.LastError != "" || len(w.ca.issues()) != 1 {
			t.Errorf("%v after %v, %+v, %d issues", w.leaf("a"), before, s, len(w.ca.issues()))
		}
		if next := w.rotator.services[name("a")].look; time.Until(next) < 10*time.Minute {
			t.Errorf("it still looks for what is not there: in %v", time.Until(next))
		}
		must(w.rotator.Rotate(t.Context(), name("a")))
	})
}
