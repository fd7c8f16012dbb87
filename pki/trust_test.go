package pki

import (
	"context"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"patchbay/internal/testca"
	"patchbay/mesh"
	"patchbay/pki/issue"
	"patchbay/pki/secret"
)

// watch records every snapshot from now on and checks that no leaf is ever
// published before the root that it needs.
func (w *world) watch(until context.Context) (seen func() []*mesh.Snapshot) {
	var all []*mesh.Snapshot
	done := make(chan struct{})
	store := w.store
	go func() {
		defer close(done)
		for {
			s := store.Snapshot()
			trusted(w.t, s)
			all = append(all, s)
			select {
			case <-store.Changed(s.Generation):
			case <-until.Done():
				return
			}
		}
	}()
	return func() []*mesh.Snapshot { <-done; return all }
}

func rootsOf(t *testing.T, b *mesh.Bundle) []string {
	t.Helper()
	var names []string
	for _, c := range must(issue.ParseCertificates(b.RootsPEM)) {
		names = append(names, c.Subject.CommonName)
	}
	return names
}

func TestNewRootIsTrustedBeforeItsLeaves(t *testing.T) {
	inWorld(t, 48*time.Hour, func(t *testing.T, w *world) {
		w.store.SetServices("prod", []*mesh.Service{svc("a"), svc("b")})
		w.start()
		w.pass(time.Second)
		ctx, stop := context.WithCancel(t.Context())
		seen := w.watch(ctx)
		w.ca.use(testca.Named(t, "second"))
		switched := time.Now()
		a, err := w.rotator.Rotate(t.Context(), name("a"))
		if err != nil {
			t.Fatal(err)
		}
		if lead := time.Since(switched); lead < 10*time.Second || lead > 12*time.Second {
			t.Errorf("the first leaf of a new root came after %s; want 10 s", lead)
		}
		again := time.Now()
		if _, err := w.rotator.Rotate(t.Context(), name("b")); err != nil || time.Since(again) > time.Second {
			t.Errorf("the next took %s, %v", time.Since(again), err)
		}
		trusted(t, w.store.Snapshot())
		if got := rootsOf(t, w.store.Snapshot().Bundles["default"]); len(got) != 2 {
			t.Errorf("roots %v; want the old one beside the new one", got)
		}
		if st := w.rotator.Status().Issuers[0]; st.Roots != 2 || st.Retiring != 1 {
			t.Errorf("status %+v", st)
		}
		stop()
		for i, s := range seen() { // the bundle alone first
			if len(rootsOf(t, s.Bundles["default"])) == 2 {
				if s.Leaves[name("a")] == a {
					t.Errorf("snapshot %d brought the root and its leaf together", i)
				}
				break
			}
		}
	})
}

func TestOldRootStaysWhileALeafMayNeedIt(t *testing.T) {
	inWorld(t, 100*time.Hour, func(t *testing.T, w *world) {
		w.store.SetServices("prod", []*mesh.Service{svc("a"), svc("b")})
		w.start()
		w.pass(time.Second)
		w.ca.use(testca.Named(t, "second"))
		w.pass(2 * time.Minute)
		if _, err := w.rotator.Rotate(t.Context(), name("a")); err != nil {
			t.Fatal(err)
		}
		w.pass(30 * time.Hour) // b still has a leaf of the first root
		if got := rootsOf(t, w.store.Snapshot().Bundles["default"]); len(got) != 2 {
			t.Fatalf("roots %v", got)
		}
		w.restart() // knows from its secrets that the first is on its way out
		w.pass(time.Minute)
		if got := rootsOf(t, w.store.Snapshot().Bundles["default"]); len(got) != 2 {
			t.Fatalf("roots %v after a restart", got)
		}
		trusted(t, w.store.Snapshot())
		w.pass(46 * time.Hour) // b has been renewed; another replica may have the old one
		if got := rootsOf(t, w.store.Snapshot().Bundles["default"]); len(got) != 2 {
			t.Fatalf("roots %v before the last old leaf has expired", got)
		}
		w.pass(25 * time.Hour)
		if got := rootsOf(t, w.store.Snapshot().Bundles["default"]); len(got) != 1 || got[0] != "second" {
			t.Errorf("roots %v; nobody needs the first any more", got)
		}
		trusted(t, w.store.Snapshot())
	})
}

func TestRootThatComesBack(t *testing.T) {
	inWorld(t, 100*time.Hour, func(t *testing.T, w *world) {
		w.store.SetServices("prod", []*mesh.Service{svc("a")})
		w.start()
		w.pass(time.Second)
		first := w.ca.sign
		w.ca.use(testca.Named(t, "second"))
		w.pass(2 * time.Minute)
		w.ca.use(first) // rolled back
		w.pass(101 * time.Hour)
		if got := rootsOf(t, w.store.Snapshot().Bundles["default"]); len(got) != 1 || got[0] != "first" {
			t.Errorf("roots %v", got)
		}
	})
}

func TestNonsenseChangesNothing(t *testing.T) {
	inWorld(t, 24*time.Hour, func(t *testing.T, w *world) {
		w.store.SetServices("prod", []*mesh.Service{svc("a")})
		w.start()
		w.pass(time.Second)
		before := w.store.Snapshot()
		noCA := w.ca.sign.Sign(&x509.Certificate{SerialNumber: w.ca.sign.Cert.SerialNumber, NotAfter: time.Now().Add(time.Hour)}, w.ca.sign.Key.Public())
		for what, answer := range map[string][]byte{
			"empty": nil, "no PEM": []byte("hello"), "a key": []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
			"not a CA": issue.EncodeCertificates([]*x509.Certificate{noCA}),
		} {
			w.ca.set(func(a *authority) { a.listed = [][]byte{answer} })
			w.pass(2 * time.Minute)
			if w.store.Snapshot() != before {
				t.Errorf("%s: the mesh changed", what)
			}
			if st := w.rotator.Status().Issuers[0]; st.LastError == "" || st.Roots != 1 {
				t.Errorf("%s: status %+v", what, st)
			}
		}
		if n := strings.Count(w.log.String(), "issuer is out of reach"); n != 1 {
			t.Errorf("%d lines for one outage", n)
		}
	})
}

func TestBundleOfEveryIssuer(t *testing.T) {
	inWorld(t, 24*time.Hour, func(t *testing.T, w *world) {
		away := newAuthority(t, time.Hour)
		away.away = errAway
		w.issuers["idle"], w.issuers["away"] = newAuthority(t, time.Hour), away
		w.start()
		w.pass(time.Second)
		if b := w.store.Snapshot().Bundles; b["idle"] == nil || b["default"] == nil || b["away"] != nil {
			t.Errorf("bundles %v", b)
		}
		away.set(func(a *authority) { a.away = nil })
		w.pass(time.Minute)
		if w.store.Snapshot().Bundles["away"] == nil {
			t.Error("no bundle a minute after the issuer came")
		}
		if !strings.Contains(w.log.String(), `msg="issuer is back" issuer=away`) {
			t.Error("its coming was not said")
		}
	})
}

// A leaf whose root the issuer does not list would be refused by every caller.
func TestLeafOfAnUnlistedRootIsNotPublished(t *testing.T) {
	inWorld(t, 24*time.Hour, func(t *testing.T, w *world) {
		w.store.SetServices("prod", []*mesh.Service{svc("a")})
		w.start()
		w.pass(time.Second)
		old := w.leaf("a")
		rogue := testca.Named(t, "rogue")
		w.ca.set(func(a *authority) { a.sign = rogue })
		if _, err := w.rotator.Rotate(t.Context(), name("a")); err == nil || !strings.Contains(err.Error(), "trust in the new leaf") {
			t.Errorf("got %v", err)
		}
		if w.leaf("a") != old {
			t.Error("published")
		}
		if e, err := w.secrets.Load(t.Context(), "leaf/prod/a"); err != nil || e.Generation != 1 {
			t.Errorf("stored %v, %v", e, err)
		}
	})
}

func TestTwoReplicasIssueOnce(t *testing.T) {
	inWorld(t, 24*time.Hour, func(t *testing.T, w *world) {
		w.store.SetServices("prod", services(30))
		w.o.Rate = 1000
		w.start()
		first, stopFirst := w.rotator, w.stop
		other := mesh.NewStore()
		other.SetServices("prod", services(30))
		mine := w.store
		w.store = other
		w.start()
		defer stopFirst()
		w.pass(time.Minute)
		for n, l := range mine.Snapshot().Leaves {
			if !other.Snapshot().Leaves[n].Equal(l) {
				t.Errorf("%v here, %v there", l, other.Snapshot().Leaves[n])
			}
		}
		if len(mine.Snapshot().Leaves) != 30 {
			t.Errorf("%d leaves", len(mine.Snapshot().Leaves))
		}
		// One is forced here; the other takes it when its own is due.
		w.pass(10 * time.Hour)
		l, err := first.Rotate(t.Context(), name("s000"))
		if err != nil {
			t.Fatal(err)
		}
		w.pass(9 * time.Hour) // all have been renewed once, by one of the two
		if got := other.Snapshot().Leaves[name("s000")]; !got.Equal(l) {
			t.Errorf("the other replica still has %v; there is %v", got, l)
		}
		trusted(t, mine.Snapshot())
		trusted(t, other.Snapshot())
		// Forced means a new one, even where the other's is fresh.
		theirs, err1 := first.Rotate(t.Context(), name("s001"))
		ours, err2 := w.rotator.Rotate(t.Context(), name("s001"))
		if err1 != nil || err2 != nil || ours.Equal(theirs) {
			t.Errorf("%v, %v; %v, %v", theirs, ours, err1, err2)
		}
	})
}

func TestBrokenSecretStoreDoesNotStopTheMesh(t *testing.T) {
	inWorld(t, 24*time.Hour, func(t *testing.T, w *world) {
		w.secrets = brokenStore{}
		w.store.SetServices("prod", []*mesh.Service{svc("a")})
		w.start()
		w.pass(time.Minute)
		w.leaf("a")
		trusted(t, w.store.Snapshot())
		if st := w.status("a"); !strings.Contains(st.NotStored, errDisk.Error()) {
			t.Errorf("status %+v", st)
		}
	})
}

func TestSecretsThatMakeNoSense(t *testing.T) {
	inWorld(t, 24*time.Hour, func(t *testing.T, w *world) {
		w.store.SetServices("prod", []*mesh.Service{svc("a"), svc("b")})
		w.start()
		w.pass(time.Second)
		a, b := w.leaf("a"), w.leaf("b")
		w.stop()
		other, err := w.secrets.Load(t.Context(), "leaf/prod/b")
		if err != nil {
			t.Fatal(err)
		}
		for n, v := range map[string][]byte{"leaf/prod/a": other.Value, "bundle/default": []byte(`{"version":1,"issuer":"x"}`)} {
			old, err := w.secrets.Load(t.Context(), n)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.secrets.Save(t.Context(), secret.Entry{Name: n, Generation: old.Generation + 1, Value: v}); err != nil {
				t.Fatal(err)
			}
		}
		w.restart()
		w.pass(time.Second)
		if w.leaf("a").Serial == a.Serial || w.leaf("b").Serial != b.Serial {
			t.Errorf("a %v, b %v", w.leaf("a"), w.leaf("b"))
		}
		trusted(t, w.store.Snapshot())
		if log := w.log.String(); !strings.Contains(log, "stored certificate can't be read") || !strings.Contains(log, "stored trust can't be read") {
			t.Errorf("not said:\n%s", log)
		}
		w.restart() // what was wrong has been replaced
		w.pass(time.Second)
		if n := strings.Count(w.log.String(), "can't be read"); n != 2 {
			t.Errorf("%d complaints", n)
		}
	})
}
