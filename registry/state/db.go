package state

import (
	"errors"
	"fmt"
	"sync"

	"patchbay/registry/store"
)

// DB is the registry's state. It is safe for concurrent use.
type DB struct {
	store store.Store

	load    sync.Once
	loadErr error

	commit sync.Mutex // held by the one that writes; guards tx
	tx     *Tx

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
func New(s store.Store) *DB {
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
	return &DB{store: s, tx: tx, view: v}
}

// Load reads the store, the first time it is called. Its error is that of
// every later call of any method.
func (db *DB) Load() error {
	db.load.Do(func() {
		db.visible.Lock()
		defer db.visible.Unlock()
		byName := map[string]anyTable{}
		for _, t := range db.tx.tables() {
			byName[t.title()] = t
		}
		db.loadErr = db.store.Load(func(table, key string, value []byte) error {
			t := byName[table]
			if t == nil {
				return fmt.Errorf("table %s is not known", table)
			}
			return t.load(key, value)
		})
		if db.loadErr != nil {
			db.loadErr = fmt.Errorf("read the registry's records: %w", db.loadErr)
		}
	})
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

// write runs the jobs and writes what they changed at once.
func (db *DB) write(jobs []*job) {
	defer db.reset(jobs)
	var good []*job
	var after []func()
	for _, j := range jobs {
		db.tx.after = nil
		if err := db.run(j.f); err != nil {
			j.err = err
			continue
		}
		good, after = append(good, j), append(after, db.tx.after...)
	}
	err := db.persist()
	for _, j := range good {
		j.err = err
	}
	if err != nil {
		return
	}
	db.visible.Lock()
	for _, t := range db.tx.tables() {
		t.publish()
	}
	db.visible.Unlock()
	for _, f := range after {
		f()
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

func (db *DB) reset(jobs []*job) {
	for _, t := range db.tx.tables() {
		t.drop(true)
	}
	for _, j := range jobs {
		j.done = true
	}
}
