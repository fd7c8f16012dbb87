package pki

import (
	"crypto/x509"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"patchbay/internal/testca"
	"patchbay/mesh"
	"patchbay/pki/issue"
)

func (w *world) phase() IssuerStatus { return w.rotator.Status().Issuers[0] }

// list makes the issuer list the roots of these, and sign with the first.
func (a *authority) list(all ...*testca.CA) {
	a.set(func(a *authority) {
		a.sign, a.listed = all[0], nil
		for _, s := range all {
			a.listed = append(a.listed, issue.EncodeCertificates([]*x509.Certificate{s.Cert}))
		}
	})
}

// TestRollover goes through all phases: the second root is listed, signs, the
// first is listed no longer, and is forgotten when the last leaf that needs it
// has ended. At every moment each leaf is trusted.
func TestRollover(t *testing.T) {
	const n, life = 60, 100 * time.Hour
	inWorld(t, life, func(t *testing.T, w *world) {
		w.store.SetServices("prod", services(n))
		w.start()
		w.pass(10 * time.Second)
		a, b := w.ca.sign, testca.Named(t, "second")
		if st := w.phase(); st.Phase != Steady || st.Roots != 1 {
			t.Errorf("before: %+v", st)
		}
		w.ca.list(a, b)
		w.pass(2 * time.Minute)
		if st := w.phase(); st.Phase != Announced || st.Roots != 2 {
			t.Errorf("announced: %+v", st)
		}
		before := len(w.ca.issues())
		w.ca.list(b, a)
		w.pass(time.Hour)
		if got := len(w.ca.issues()); got != before || w.phase().Phase != Announced {
			t.Errorf("%d issued before there was a first one: %+v", got-before, w.phase())
		}
		started := time.Now()
		if _, err := w.rotator.Rotate(t.Context(), name("s007")); err != nil { // the canary
			t.Fatal(err)
		}
		if st := w.phase(); st.Phase != Switching || st.Older != n-1 {
			t.Errorf("after the canary: %+v", st)
		}
		w.pass(40 * time.Second)
		issues := w.ca.issues()[before:]
		if len(issues) != n || w.phase().Older != 0 {
			t.Fatalf("%d renewed within 40 s: %+v", len(issues), w.phase())
		}
		if last := issues[n-1].at.Sub(started); last < 20*time.Second {
			t.Errorf("all at once: the last after %s", last)
		}
		trusted(t, w.store.Snapshot())
		for s, l := range w.store.Snapshot().Leaves {
			if got := must(issue.ParseCertificates(l.ChainPEM))[0].Issuer.CommonName; got != "second" {
				t.Errorf("%v is signed by %s", s, got)
			}
		}
		w.ca.list(b)
		w.pass(2 * time.Minute)
		if st := w.phase(); st.Phase != Retiring || st.Roots != 2 {
			t.Errorf("retiring: %+v", st)
		}
		w.pass(101 * time.Hour)
		if st := w.phase(); st.Phase != Steady || st.Roots != 1 {
			t.Errorf("in the end: %+v", st)
		}
		trusted(t, w.store.Snapshot())
	})
}

// While a node has not accepted the new root, no leaf of it is published, and
// none is paid for twice; who has nothing else to live on is not held up.
func TestRolloverWaitsForEveryNode(t *testing.T) {
	inWorld(t, 5*time.Hour, func(t *testing.T, w *world) {
		both := []string{"prod/web/t1", "prod/web/t2"}
		var deaf atomic.Pointer[[]string] // read by the rotator meanwhile
		deaf.Store(&both)
		w.o.Unacked = func(string) []string { return *deaf.Load() }
		w.store.SetServices("prod", []*mesh.Service{svc("a"), svc("b")})
		w.start()
		w.pass(time.Second) // the first bundle waits for nobody
		a, b := w.leaf("a"), w.leaf("b")
		first, second := w.ca.sign, testca.Named(t, "second")
		w.ca.list(second, first)
		w.pass(2 * time.Minute)
		_, err := w.rotator.Rotate(t.Context(), name("a"))
		if err == nil || !strings.Contains(err.Error(), "2 nodes, prod/web/t1, prod/web/t2") {
			t.Errorf("%v", err)
		}
		if w.leaf("a") != a || !slices.Equal(w.phase().Unacked, both) {
			t.Errorf("leaf %v, %+v", w.leaf("a"), w.phase())
		}
		w.store.SetServices("prod", []*mesh.Service{svc("a"), svc("b"), svc("new")})
		w.pass(time.Minute)
		w.leaf("new") // had nothing
		w.pass(3*time.Hour + 42*time.Minute)
		issued := len(w.ca.issues())
		// Three at first, one for each that waits (a, b, and new when it is
		// due), however often they try.
		if w.leaf("b") != b || issued > 6 {
			t.Errorf("b has %v; %d certificates were issued", w.leaf("b"), issued)
		}
		deaf.Store(&[]string{})
		w.pass(time.Minute)
		if got := must(issue.ParseCertificates(w.leaf("b").ChainPEM))[0].Issuer.CommonName; got != "second" {
			t.Errorf("b has a leaf of %s", got)
		}
		deaf.Store(&[]string{"prod/web/t3"})
		third := testca.Named(t, "third")
		w.ca.list(third, second, first)
		w.pass(4*time.Hour + 35*time.Minute) // less than a tenth is left of all
		for _, s := range []string{"a", "b"} {
			if got := must(issue.ParseCertificates(w.leaf(s).ChainPEM))[0].Issuer.CommonName; got != "third" {
				t.Errorf("%s would end with the leaf of %s because a node is deaf", s, got)
			}
		}
	})
}

// An issuer that goes back to the root before does not make everybody renew.
func TestRollback(t *testing.T) {
	inWorld(t, 100*time.Hour, func(t *testing.T, w *world) {
		w.store.SetServices("prod", services(20))
		w.start()
		w.pass(10 * time.Second)
		first, second := w.ca.sign, testca.Named(t, "second")
		w.ca.list(second, first)
		w.pass(2 * time.Minute)
		if _, err := w.rotator.Rotate(t.Context(), name("s000")); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Minute)
		w.ca.list(first, second)
		w.pass(2 * time.Minute)
		before := len(w.ca.issues())
		for range 3 {
			if _, err := w.rotator.Rotate(t.Context(), name("s001")); err != nil {
				t.Fatal(err)
			}
			w.pass(time.Minute)
		}
		if got := len(w.ca.issues()) - before; got != 3 {
			t.Errorf("%d issued for three rotations", got)
		}
		trusted(t, w.store.Snapshot())
	})
}
