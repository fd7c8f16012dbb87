// Package storetest is what every store of the registry must do. Start reading
// at [Run].
package storetest

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchbay/registry/store"
)

// All is everything that a store holds, by table and key.
func All(t *testing.T, s store.Store) map[string]string {
	t.Helper()
	m := map[string]string{}
	err := s.Load(func(table, key string, value []byte) error {
		m[table+"/"+key] = string(value)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Run holds a store against the contract. Open opens an empty one, and what it
// holds again once it was closed.
func Run(t *testing.T, open func() store.Store) {
	s := open()
	if got := All(t, s); len(got) != 0 {
		t.Fatalf("a new store holds %v", got)
	}
	want := batches(t, s)
	if diff := cmp.Diff(want, All(t, s)); diff != "" {
		t.Fatalf("-want +got\n%s", diff)
	}
	stop := errors.New("stop")
	if err := s.Load(func(string, string, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Load returned %v, not the callback's error", err)
	}
	_, shared := s.(store.Shared)
	var one sync.Mutex // a Shared one is called by one goroutine at a time
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if shared {
				one.Lock()
				defer one.Unlock()
			}
			if err := s.Apply([]store.Change{{Table: "many", Key: fmt.Sprint(i), Value: []byte("v")}}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	defer s.Close()
	again := maps.Clone(want)
	for i := range 20 {
		again["many/"+fmt.Sprint(i)] = "v"
	}
	if diff := cmp.Diff(again, All(t, s)); diff != "" {
		t.Errorf("after a restart: -want +got\n%s", diff)
	}
}

// batches applies some and returns what they come to.
func batches(t *testing.T, s store.Store) map[string]string {
	t.Helper()
	apply := func(c ...store.Change) {
		t.Helper()
		if err := s.Apply(c); err != nil {
			t.Fatal(err)
		}
	}
	put := func(table, key, value string) store.Change {
		return store.Change{Table: table, Key: key, Value: []byte(value)}
	}
	value := []byte("one")
	apply(store.Change{Table: "a", Key: "x", Value: value}, put("a", "y", "two"), put("b", "x", "three"), store.Change{Table: "b", Key: "gone"})
	copy(value, "***")
	apply(store.Change{Table: "a", Key: "y"}, put("a", "y", "again"), put("b", "x", "first"), store.Change{Table: "b", Key: "x"}, put("c", "empty", ""), put("c", "with/slash", "1"))
	apply()
	return map[string]string{"a/x": "one", "a/y": "again", "c/empty": "", "c/with/slash": "1"}
}
