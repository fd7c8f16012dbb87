package pki

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"patchbay/mesh"
)

func TestRotate(t *testing.T) {
	inWorld(t, 24*time.Hour, func(t *testing.T, w *world) {
		w.ca.took = time.Second
		w.store.SetServices("prod", []*mesh.Service{svc("a"), svc("b")})
		w.start()
		w.pass(2 * time.Second)
		old := w.leaf("a")
		got := make(chan *mesh.Leaf, 2)
		for range 2 {
			go func() { got <- must(w.rotator.Rotate(t.Context(), name("a"))) }()
		}
		one, two := <-got, <-got
		if one != two || one.Serial == old.Serial || w.leaf("a") != one {
			t.Errorf("%v, %v after %v", one, two, old)
		}
		if n := len(w.ca.issues()); n != 3 || w.ca.most != 1 {
			t.Errorf("%d issues, %d at once", n, w.ca.most)
		}
		w.ca.set(func(a *authority) { a.away = errAway })
		if _, err := w.rotator.Rotate(t.Context(), name("a")); err == nil || !strings.Contains(err.Error(), errAway.Error()) {
			t.Errorf("with the CA away: %v", err)
		}
		synctest.Wait()
		if w.leaf("a") != one || w.status("a").LastError == "" {
			t.Errorf("leaf %v, status %+v", w.leaf("a"), w.status("a"))
		}
		issues := len(w.ca.issues())
		w.pass(time.Hour)
		if n := len(w.ca.issues()); n != issues {
			t.Errorf("%d attempts more for a leaf with most of its life left", n-issues)
		}
		if _, err := w.rotator.Rotate(t.Context(), name("nobody")); err == nil || !strings.Contains(err.Error(), "no such service") {
			t.Errorf("of nobody: %v", err)
		}
	})
}

func TestRotateEndsWhenTheServiceGoes(t *testing.T) {
	inWorld(t, 24*time.Hour, func(t *testing.T, w *world) {
		w.store.SetServices("prod", []*mesh.Service{svc("a")})
		w.ca.away = errAway
		w.secrets = brokenStore{}
		w.start()
		got := make(chan error, 1)
		go func() {
			_, err := w.rotator.Rotate(t.Context(), name("a"))
			got <- err
		}()
		synctest.Wait()
		w.store.SetServices("prod", nil)
		if err := <-got; err == nil {
			t.Error("rotated a service that is gone")
		}
		if _, ok := w.rotator.Survivable(time.Now()); ok {
			t.Error("no service with TLS, yet a limit")
		}
	})
}

func TestServiceThatComesBackKeepsItsLeaf(t *testing.T) {
	inWorld(t, 24*time.Hour, func(t *testing.T, w *world) {
		w.store.SetServices("prod", []*mesh.Service{svc("a")})
		w.start()
		w.pass(time.Second)
		old := w.leaf("a")
		w.store.SetServices("prod", nil)
		w.pass(time.Hour)
		if w.leaf("a") != old {
			t.Error("an absent service lost its leaf")
		}
		w.store.SetServices("prod", []*mesh.Service{svc("a")})
		w.pass(time.Second)
		if w.leaf("a").Serial != old.Serial || len(w.ca.issues()) != 1 {
			t.Errorf("%v became %v", old, w.leaf("a"))
		}
	})
}
