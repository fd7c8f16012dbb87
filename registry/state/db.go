package state

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"patchbay/registry/store"
)

// DB is the registry's state. It is safe for concurrent use.
type DB struct {
	store  store.Store
	shared store.Shared // the same store, if others write it too
	log    *slog.Logger

	loading sync.Mutex
	loaded  bool
	loadErr error // of a store that nobody else can mend

	commit   sync.Mutex // held by the one that writes; guards tx
	tx       *Tx
	absorbed int // how often something of others was taken over

	visible sync.RWMutex // guards the tables' rows and view
	view    *View

	queueMu sync.Mutex
	queue   []*job
}

type job struct {
	f    func(*Tx) error
	done bool
	err  error
}

// New returns the state that is in s. It reads s at the first use.
func New(s store.Store, log *slog.Logger) *DB {
	shared, _ := s.(store.Shared)
	v := newView()
	tx := &Tx{
		Namespaces: newTable("namespaces", v.namespaceChanged),
		Services:   newTable("services", v.serviceChanged),
		Members:    newTable[Members]("members", nil),
		Instances:  newTable("instances", v.instanceChanged),
		Operations: newTable("operations", v.operationChanged),
		Floors:     newTable[Floor]("floors", nil),
		view:       v,
	}
	v.tx = tx
	return &DB{store: s, shared: shared, log: log, tx: tx, view: v}
}

// Load reads the store, the first time it is called. Its error is that of
// every later call of any method; but a shared store that can't be reached
// is asked again by the next.
func (db *DB) Load() error {
	db.loading.Lock()
	defer db.loading.Unlock()
	if db.loaded || db.loadErr != nil {
		return db.loadErr
	}
	db.visible.Lock()
	defer db.visible.Unlock()
	byName := db.tx.byName()
	err := db.store.Load(func(table, key string, value []byte) error {
		t := byName[table]
		if t == nil {
			return fmt.Errorf("table %s is not known", table)
		}
		err := t.load(key, value)
		if err != nil && t.title() == db.tx.Operations.title() {
			// It says how a call went, and no service or instance hangs on it.
			db.log.Error("a record of an operation is damaged: it is left out", "operation", key, "error", err)
			return nil
		}
		return err
	})
	switch {
	case err == nil:
		db.loaded = true
		return nil
	case errors.Is(err, store.ErrUnavailable):
		return fmt.Errorf("read the registry's records: %w", err)
	}
	db.loadErr = fmt.Errorf("read the registry's records: %w", err)
	return db.loadErr
}

// View calls f with the records as they are. f must not keep v, but may keep
// the records, which never change.
func (db *DB) View(f func(v *View)) error {
	if err := db.Load(); err != nil {
		return err
	}
	db.visible.RLock()
	defer db.visible.RUnlock()
	f(db.view)
	return nil
}

var errAborted = errors.New("the registry broke off in the middle of a write")

// Update runs f in a transaction. It returns f's error, and then nothing has
// changed, or the store's. When it returns nil the changes are durable. f may
// run in another goroutine, runs once, and must not block.
func (db *DB) Update(f func(*Tx) error) error {
	if err := db.Load(); err != nil {
		return err
	}
	j := &job{f: f, err: errAborted}
	db.queueMu.Lock()
	db.queue = append(db.queue, j)
	db.queueMu.Unlock()

	// Whoever gets the lock first writes for all who wait behind it.
	db.commit.Lock()
	defer db.commit.Unlock()
	if !j.done {
		db.queueMu.Lock()
		jobs := db.queue
		db.queue = nil
		db.queueMu.Unlock()
		db.write(jobs)
	}
	return j.err
}

// write runs the jobs and writes what they changed: at once, or, where the
// store takes no more, in parts.
func (db *DB) write(jobs []*job) {
	for len(jobs) > 0 {
		n := db.part(jobs)
		for _, j := range jobs[:n] {
			j.done = true
		}
		jobs = jobs[n:]
	}
}

// part runs the first of the jobs and writes what they have changed. It
// returns how many these are. If others have written meanwhile, it takes that
// over and runs them again: a job decides on the ground of what is.
func (db *DB) part(jobs []*job) (n int) {
	defer db.reset()
	for try := 0; ; try++ {
		db.reset()
		if err := db.absorb(); err != nil {
			return fail(jobs, err)
		}
		var after []func()
		var failed bool
		n, failed, after = db.runSome(jobs)
		if failed && try == 0 && db.shared != nil {
			// What a job has missed may be there by now.
			if changed, err := db.sync(); err != nil {
				return fail(jobs[:n], err)
			} else if changed {
				continue
			}
		}
		err := db.persist()
		if errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrUnavailable) && try < tries {
			continue
		}
		if err != nil {
			fail(good(jobs[:n]), err)
			return n
		}
		db.publish()
		for _, f := range after {
			f()
		}
		return n
	}
}

// tries is how often a write is run again because others were faster. Each
// time at least one of them has got on.
const tries = 100

func fail(jobs []*job, err error) int {
	for _, j := range jobs {
		j.err = err
	}
	return len(jobs)
}

// good are the jobs that have not failed.
func good(jobs []*job) (out []*job) {
	for _, j := range jobs {
		if j.err == nil {
			out = append(out, j)
		}
	}
	return out
}

// runSome runs jobs, until what they have changed fills a write.
func (db *DB) runSome(jobs []*job) (n int, failed bool, after []func()) {
	for _, j := range jobs {
		n++
		db.tx.after = nil
		if j.err = db.run(j.f); j.err != nil {
			failed = true
			continue
		}
		after = append(after, db.tx.after...)
		if db.shared != nil && db.changed() >= db.shared.Most()/4 {
			break
		}
	}
	return n, failed, after
}

func (db *DB) changed() (n int) {
	for _, t := range db.tx.tables() {
		n += t.changed()
	}
	return n
}

func (db *DB) publish() {
	db.visible.Lock()
	defer db.visible.Unlock()
	for _, t := range db.tx.tables() {
		t.publish()
	}
}

// persist writes what the jobs have changed.
func (db *DB) persist() error {
	var changes []store.Change
	var err error
	for _, t := range db.tx.tables() {
		if changes, err = t.changes(changes); err != nil {
			return err
		}
	}
	if len(changes) == 0 {
		return nil
	}
	return db.store.Apply(changes)
}

// run runs one job on top of those before it.
func (db *DB) run(f func(*Tx) error) error {
	err := f(db.tx)
	for _, t := range db.tx.tables() {
		if err == nil {
			t.keep()
		} else {
			t.drop(false)
		}
	}
	return err
}

func (db *DB) reset() {
	for _, t := range db.tx.tables() {
		t.drop(true)
	}
}
