package state

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"patchbay/registry/cloudmap"
	"patchbay/registry/store"
)

// slow is a store whose writes wait for the test, and fail on demand.
type slow struct {
	store.Memory
	gate   chan error // what the next write returns
	writes int
}

func (s *slow) Apply(changes []store.Change) error {
	s.writes++
	if err := <-s.gate; err != nil {
		return err
	}
	return s.Memory.Apply(changes)
}

func put(id string) func(*Tx) error {
	return func(tx *Tx) error {
		tx.Services.Put(id, &Service{ID: id, NamespaceID: "ns", Name: id})
		return nil
	}
}

func services(t *testing.T, db *DB) (ids []string) {
	t.Helper()
	if err := db.View(func(v *View) {
		for s := range v.Services().All() {
			ids = append(ids, s.ID)
		}
	}); err != nil {
		t.Fatal(err)
	}
	return ids
}

var errNo = errors.New("no")

// Transactions that wait while one is written share the next write; one that
// fails takes nothing of the others with it.
func TestAGroupSharesAWrite(t *testing.T) {
	s := &slow{gate: make(chan error)}
	db := New(s, slog.New(slog.DiscardHandler))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := db.Update(put("first")); err != nil {
			t.Error(err)
		}
	})
	waitFor := func(n int) {
		for {
			db.queueMu.Lock()
			have := len(db.queue)
			db.queueMu.Unlock()
			if have == n {
				return
			}
		}
	}
	s.gate <- nil // the first is being written, or has been
	wg.Wait()
	wg.Go(func() {
		if err := db.Update(put("second")); err != nil {
			t.Error(err)
		}
	})
	for db.commit.TryLock() { // until the second holds it
		db.commit.Unlock()
	}
	var mu sync.Mutex
	var order []int
	for i := range 10 {
		wg.Go(func() {
			err := db.Update(func(tx *Tx) error {
				tx.After(func() { mu.Lock(); defer mu.Unlock(); order = append(order, i) })
				if i == 5 {
					tx.Services.Put("lost", &Service{ID: "lost"})
					return errNo
				}
				return put(fmt.Sprint(i))(tx)
			})
			if (i == 5) != errors.Is(err, errNo) || i != 5 && err != nil {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	waitFor(10)
	s.gate <- nil
	s.gate <- nil
	wg.Wait()
	if s.writes != 3 {
		t.Errorf("%d writes, want 3", s.writes)
	}
	if got := services(t, db); !slices.Equal(got, []string{"0", "1", "2", "3", "4", "6", "7", "8", "9", "first", "second"}) {
		t.Errorf("services %v", got)
	}
	if len(order) != 9 {
		t.Errorf("%d hooks ran", len(order))
	}
}

// What the store refuses is seen by nobody, and the next write is well.
func TestARefusedWrite(t *testing.T) {
	s := &slow{gate: make(chan error, 1)}
	db := New(s, slog.New(slog.DiscardHandler))
	for _, refused := range []bool{false, true, false} {
		if s.gate <- nil; refused {
			<-s.gate
			s.gate <- errNo
		}
		hooks := 0
		err := db.Update(func(tx *Tx) error {
			tx.After(func() { hooks++ })
			m := tx.Members.Get("x")
			if m == nil {
				m = &Members{}
				tx.Members.Put("x", m)
			}
			tx.Members.Edit("x").Revision++
			return put(fmt.Sprint(refused, tx.Members.Get("x").Revision))(tx)
		})
		if errors.Is(err, errNo) != refused || (hooks == 1) == refused {
			t.Errorf("refused %t: %v, %d hooks", refused, err, hooks)
		}
	}
	if got := services(t, db); !slices.Equal(got, []string{"false 1", "false 2"}) {
		t.Errorf("services %v", got)
	}
	again := New(&s.Memory, slog.New(slog.DiscardHandler))
	if got := services(t, again); !slices.Equal(got, []string{"false 1", "false 2"}) {
		t.Errorf("services of another process: %v", got)
	}
}

// A transaction sees what those before it in the same write have done.
func TestLookupsWithinAGroup(t *testing.T) {
	db := New(&store.Memory{}, slog.New(slog.DiscardHandler))
	dns := func(id, name string) *Service {
		return &Service{ID: id, NamespaceID: "ns", Name: name, DNS: &cloudmap.DNSConfig{}}
	}
	old := &Operation{ID: "1", Lock: "l1", Token: "t1"}
	err := db.Update(func(tx *Tx) error {
		tx.Services.Put("a", dns("a", "Alpha"))
		tx.Services.Put("b", &Service{ID: "b", NamespaceID: "ns", Name: "Beta"})
		tx.Operations.Put("1", old)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	named := func(tx *Tx, name string, dns bool) string {
		if s := tx.ServiceNamed("ns", name, dns); s != nil {
			return s.ID
		}
		return ""
	}
	var jobs []*job
	for _, f := range []func(*Tx){
		func(tx *Tx) {
			if named(tx, "alpha", true) != "a" || named(tx, "alpha", false) != "" || named(tx, "Alpha", false) != "a" || named(tx, "beta", true) != "" {
				t.Error("what is durable is not found by name")
			}
			if tx.Holder("l1") == nil || tx.Replayed("t1") == nil {
				t.Error("an unfinished operation is not found")
			}
			tx.Services.Delete("a")
			tx.Services.Put("c", dns("c", "Gamma"))
			tx.Operations.Edit("1").Finished = old.Finished.AddDate(1, 0, 0)
			tx.Operations.Put("2", &Operation{ID: "2", Lock: "l2", Token: "t2"})
		},
		func(tx *Tx) {
			if named(tx, "Alpha", true) != "" || named(tx, "gamma", true) != "c" || named(tx, "Beta", true) != "b" {
				t.Error("what the transaction before has done is not found by name")
			}
			if tx.Holder("l1") != nil || tx.Replayed("t1") == nil || tx.Holder("l2") == nil || tx.Replayed("t2") == nil {
				t.Error("operations of the transaction before are not found")
			}
			tx.Operations.Delete("1")
			if tx.Replayed("t1") != nil {
				t.Error("a forgotten operation is replayed")
			}
		},
	} {
		jobs = append(jobs, &job{f: func(tx *Tx) error { f(tx); return nil }})
	}
	db.write(jobs)
	if err := errors.Join(jobs[0].err, jobs[1].err); err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *Tx) error {
		if named(tx, "Alpha", true) != "" || named(tx, "GAMMA", true) != "c" || tx.Holder("l1") != nil || tx.Replayed("t1") != nil || tx.Holder("l2") == nil {
			t.Error("the indexes are not those of the records")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestSorted(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var s Sorted[string]
	want := map[string]string{}
	for range 5000 {
		k := fmt.Sprint(r.IntN(200))
		if r.IntN(3) == 0 {
			s.remove(k)
			delete(want, k)
		} else {
			v := fmt.Sprint(r.Int())
			s.put(k, &v)
			want[k] = v
		}
		after := fmt.Sprint(r.IntN(200))
		var keys []string
		for _, k := range slices.Sorted(maps.Keys(want)) {
			if k > after {
				keys = append(keys, want[k])
			}
		}
		n := 1 + r.IntN(250)
		var got []string
		rows, last, more := s.Page(after, n)
		for v := range rows {
			got = append(got, *v)
		}
		if !slices.Equal(got, keys[:min(n, len(keys))]) || more != (len(keys) > n) || len(got) > 0 && want[last] != got[len(got)-1] || s.Len() != len(want) {
			t.Fatalf("%d after %s: %v, last %s, more %t; want %v", n, after, got, last, more, keys)
		}
	}
	if none := (*Sorted[string])(nil); none.Len() != 0 || len(slices.Collect(none.All())) != 0 {
		t.Error("a nil list is not empty")
	} else if rows, _, more := none.Page("", 5); more || len(slices.Collect(rows)) != 0 {
		t.Error("a nil list has a page")
	}
}

func TestAnUnreadableStore(t *testing.T) {
	for _, c := range []store.Change{{Table: "unknown", Key: "x", Value: []byte("{}")}, {Table: "services", Key: "x", Value: []byte("{")}} {
		m := &store.Memory{}
		if err := m.Apply([]store.Change{c}); err != nil {
			t.Fatal(err)
		}
		db := New(m, slog.New(slog.DiscardHandler))
		if db.Load() == nil || db.View(func(*View) { t.Error("it was read") }) == nil || db.Update(func(*Tx) error { return nil }) == nil {
			t.Errorf("%s was read", c.Table)
		}
	}
}

// TestDamagedRecords: an operation's record says how a call went, and no more:
// one that is damaged is left out, said, and keeps nothing from starting. Any
// other record is an error that names it.
func TestDamagedRecords(t *testing.T) {
	var said strings.Builder
	s := &store.Memory{}
	broken := []store.Change{{Table: "operations", Key: "op-1", Value: []byte(`{"CreateDate": "yesterday", "Created": "yesterday", "Start": "yesterday", "Status": 7, "Type": 7, "ID": 7}`)},
		{Table: "services", Key: "srv-1", Value: []byte(`{"ID": "srv-1", "NamespaceID": "ns", "Name": "a"}`)}}
	if err := s.Apply(broken); err != nil {
		t.Fatal(err)
	}
	db := New(s, slog.New(slog.NewTextHandler(&said, nil)))
	if got := services(t, db); len(got) != 1 || !strings.Contains(said.String(), "op-1") {
		t.Errorf("services %q; said %q", got, &said)
	}
	if err := s.Apply([]store.Change{{Table: "services", Key: "srv-2", Value: []byte("{")}}); err != nil {
		t.Fatal(err)
	}
	if err := New(s, slog.New(slog.DiscardHandler)).Load(); err == nil || !strings.Contains(err.Error(), "srv-2") {
		t.Errorf("%v", err)
	}
}
