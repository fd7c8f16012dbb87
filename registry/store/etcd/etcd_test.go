package etcd

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"patchbay/internal/etcdtest"
	"patchbay/registry/store"
	"patchbay/registry/store/storetest"
)

// replica is a Store with the copy that its user holds.
type replica struct {
	*Store
	t    *testing.T
	rows map[string]string
}

func newReplica(t *testing.T, c *clientv3.Client) *replica {
	t.Helper()
	r := &replica{Store: New(Options{Client: c, Prefix: "/test/registry/"}), t: t}
	r.load()
	done := make(chan error, 1)
	ctx := t.Context() // ends before the cleanups
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() { <-done })
	return r
}

func (r *replica) load() {
	r.t.Helper()
	r.rows = map[string]string{}
	if err := r.Load(func(table, key string, value []byte) error {
		r.rows[table+"/"+key] = string(value)
		return nil
	}); err != nil {
		r.t.Fatal(err)
	}
}

// pull brings the copy up to date with what is in the inbox.
func (r *replica) pull() (whole bool) {
	changes, whole := r.Pull()
	if whole {
		clear(r.rows)
	}
	r.own(changes...)
	return whole
}

func (r *replica) own(changes ...store.Change) {
	for _, c := range changes {
		if c.Value == nil {
			delete(r.rows, c.Table+"/"+c.Key)
		} else {
			r.rows[c.Table+"/"+c.Key] = string(c.Value)
		}
	}
}

// write applies changes as the registry does: again after a conflict.
func (r *replica) write(changes func() []store.Change) {
	r.t.Helper()
	for {
		r.pull()
		c := changes()
		err := r.Apply(c)
		if err == nil {
			r.own(c...)
			return
		}
		if !errors.Is(err, store.ErrConflict) {
			r.t.Error(err)
			return
		}
	}
}

// until waits for what comes by the watch.
func (r *replica) until(what string, ok func() bool) {
	r.t.Helper()
	late := time.After(time.Minute)
	for r.pull(); !ok(); r.pull() {
		select {
		case <-r.Changed():
		case <-late:
			r.t.Fatalf("%s: it never came; have %v", what, r.rows)
		}
	}
}

func put(table, key, value string) store.Change {
	return store.Change{Table: table, Key: key, Value: []byte(value)}
}

func TestConformance(t *testing.T) {
	e := etcdtest.Start(t)
	storetest.Run(t, func() store.Store { return New(Options{Client: e.Client(), Prefix: "/conformance/"}) })
}

// Whoever writes has seen what was written before; nothing is lost, however
// many write.
func TestReplicasThatRace(t *testing.T) {
	e := etcdtest.Start(t)
	var replicas []*replica
	for range 3 {
		replicas = append(replicas, newReplica(t, e.Client()))
	}
	const each = 40
	var wg sync.WaitGroup
	for _, r := range replicas {
		wg.Go(func() {
			for range each {
				r.write(func() []store.Change {
					n := 0
					fmt.Sscan(r.rows["counters/one"], &n)
					return []store.Change{put("counters", "one", fmt.Sprint(n+1)), put("entries", fmt.Sprint(n), "")}
				})
			}
		})
	}
	wg.Wait()
	for i, r := range replicas {
		if err := r.Sync(); err != nil {
			t.Fatal(err)
		}
		r.pull()
		if got := r.rows["counters/one"]; got != fmt.Sprint(3*each) || len(r.rows) != 3*each+1 {
			t.Errorf("replica %d counted to %s in %d rows, want %d", i, got, len(r.rows), 3*each)
		}
	}
}

// A replica that was away for longer than etcd remembers reads everything, and
// misses no deletion.
func TestCompaction(t *testing.T) {
	e := etcdtest.Start(t)
	a, c := newReplica(t, e.Client()), e.Client()
	a.write(func() []store.Change { return []store.Change{put("a", "kept", "1"), put("a", "gone", "1")} })
	b := &replica{Store: New(Options{Client: c, Prefix: "/test/registry/"}), t: t}
	b.load() // and does not follow yet
	for i := range 10 {
		a.write(func() []store.Change { return []store.Change{put("a", "kept", fmt.Sprint(i))} })
	}
	a.write(func() []store.Change { return []store.Change{{Table: "a", Key: "gone"}, put("a", "new", "1")} })
	e.Compact()
	done, ctx := make(chan error, 1), t.Context()
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() { <-done })
	b.until("after the compaction", func() bool { return maps.Equal(a.rows, b.rows) })
	b.write(func() []store.Change { return []store.Change{put("a", "kept", "by b")} })
	a.until("b's write", func() bool { return a.rows["a/kept"] == "by b" })
	if diff := cmp.Diff(a.rows, b.rows); diff != "" {
		t.Error(diff)
	}
}

// Without etcd nothing is written and that is said; afterwards it goes on.
func TestEtcdAway(t *testing.T) {
	e := etcdtest.Start(t)
	a, b := newReplica(t, e.Client()), newReplica(t, e.Client())
	a.write(func() []store.Change { return []store.Change{put("a", "x", "1")} })
	b.until("the first", func() bool { return b.rows["a/x"] == "1" })
	if err := a.Beat("x", 30*time.Second); err != nil {
		t.Fatal(err)
	}
	b.patience = time.Second
	e.Kill()
	if err := b.Apply([]store.Change{put("a", "x", "lost")}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a write without etcd: %v", err)
	}
	if err := b.Sync(); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("asking without etcd: %v", err)
	}
	if b.Silence() < time.Second {
		t.Errorf("silence of %s after two calls that timed out", b.Silence())
	}
	e.Up()
	b.patience = patience
	b.write(func() []store.Change { return []store.Change{put("a", "x", "2")} })
	a.until("afterwards", func() bool { return a.rows["a/x"] == "2" })
	if left, err := b.Heard("x", 30*time.Second); err != nil || left <= 0 {
		t.Errorf("a heartbeat did not survive etcd's restart: %s left, %v", left, err)
	}
}

// A heartbeat that one replica hears counts at all, for its period.
func TestBeats(t *testing.T) {
	e := etcdtest.Start(t)
	c := e.Client()
	a, b := New(Options{Client: c, Prefix: "/beats/"}), New(Options{Client: e.Client(), Prefix: "/beats/"})
	const period = 2 * time.Second
	if left, err := a.Heard("x", period); err != nil || left != 0 {
		t.Errorf("nobody was heard: %s left, %v", left, err)
	}
	var wg sync.WaitGroup
	for _, s := range []*Store{a, b, a, b} {
		wg.Go(func() {
			if err := s.Beat("x", period); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if left, err := b.Heard("x", period); err != nil || left <= 0 || left > period {
		t.Errorf("heard by the other: %s left, %v", left, err)
	}
	if left, err := b.Heard("y", period); err != nil || left != 0 {
		t.Errorf("another key: %s left, %v", left, err)
	}
	for deadline := time.Now().Add(15 * time.Second); ; {
		left, err := a.Heard("x", period)
		if err != nil {
			t.Fatal(err)
		}
		if left == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it counts for ever")
		}
	}
}

// What somebody else writes beneath the prefix is taken in as a whole.
func TestAForeignHand(t *testing.T) {
	e := etcdtest.Start(t)
	a := newReplica(t, e.Client())
	a.write(func() []store.Change { return []store.Change{put("a", "x", "1"), put("a", "y", "1")} })
	c := e.Client()
	if _, err := c.Delete(t.Context(), "/test/registry/records/a/x"); err != nil {
		t.Fatal(err)
	}
	a.until("the deletion", func() bool { return len(a.rows) == 1 })
	if _, err := c.Put(t.Context(), "/test/registry/head", "99"); err != nil {
		t.Fatal(err)
	}
	other := New(Options{Client: c, Prefix: "/test/registry/"})
	if err := other.Load(func(string, string, []byte) error { return nil }); !errors.Is(err, store.ErrSchema) {
		t.Errorf("another layout was read: %v", err)
	}
}
