package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"patchbay/registry/store"
)

// Foreign hears of each record that another replica has changed, once that is
// visible: old is nil for a new one, now for one that was deleted. They run one
// after another and must not block nor start a transaction.
type Foreign struct {
	Namespace func(old, now *Namespace)
	Service   func(old, now *Service)
	Instance  func(old, now *Instance)
	Operation func(old, now *Operation)
}

// Observe has f told. It must come before the first use.
func (db *DB) Observe(f Foreign) {
	db.tx.Namespaces.foreign, db.tx.Services.foreign = f.Namespace, f.Service
	db.tx.Instances.foreign, db.tx.Operations.foreign = f.Instance, f.Operation
}

// Beats are the store's, if it is shared; else nil.
func (db *DB) Beats() store.Beats {
	if db.shared == nil {
		return nil
	}
	return db.shared
}

// Most is how many records one transaction should change at most; zero: any
// number.
func (db *DB) Most() int {
	if db.shared == nil {
		return 0
	}
	return db.shared.Most() * 3 / 4
}

// Silence is for how long a shared store has not been heard of; zero for
// any other.
func (db *DB) Silence() time.Duration {
	if db.shared == nil {
		return 0
	}
	return db.shared.Silence()
}

// retry is the pause before a shared store that can't be read is asked again.
const retry = time.Second

// Follow takes over what other replicas write, until ctx ends; it returns
// ctx's cause, or the error of a store that can't be read by anybody. With a
// store that is not shared it only waits.
func (db *DB) Follow(ctx context.Context) error {
	for failing := false; ; failing = true {
		err := db.Load()
		if err == nil {
			break
		}
		if !errors.Is(err, store.ErrUnavailable) {
			return err
		}
		if !failing {
			db.log.Error("the registry waits for its store, and answers nothing until then", "error", err.Error())
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if db.shared == nil {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return db.shared.Run(ctx) })
	g.Go(func() error {
		for {
			select {
			case <-db.shared.Changed():
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			db.commit.Lock()
			err := db.absorb()
			if db.commit.Unlock(); err != nil {
				return err
			}
		}
	})
	return g.Wait()
}

// Sync waits until everything is visible that any replica had written before,
// and reports whether something new came. With a store that is not shared it
// does nothing.
func (db *DB) Sync() (changed bool, err error) {
	if db.shared == nil {
		return false, nil
	}
	db.commit.Lock()
	defer db.commit.Unlock()
	return db.sync()
}

// sync is Sync. commit is held, and no transaction runs.
func (db *DB) sync() (changed bool, err error) {
	before := db.absorbed
	if err := db.shared.Sync(); err != nil {
		return false, err
	}
	db.reset()
	err = db.absorb()
	return db.absorbed != before, err
}

// absorb makes visible what others have written. commit is held, and no
// transaction runs. An error is that of records that can't be read: whoever
// wrote them is another version.
func (db *DB) absorb() error {
	if db.shared == nil {
		return nil
	}
	changes, whole := db.shared.Pull()
	if len(changes) == 0 && !whole {
		return nil
	}
	db.absorbed++
	then, err := db.take(changes, whole)
	for _, f := range then {
		f()
	}
	return err
}

func (db *DB) take(changes []store.Change, whole bool) (then []func(), err error) {
	db.visible.Lock()
	defer db.visible.Unlock()
	tables := db.tx.byName()
	if whole {
		changes = append(db.gone(changes), changes...)
	}
	for _, c := range changes {
		t := tables[c.Table]
		if t == nil {
			return then, fmt.Errorf("take over what another replica has written: table %s is not known; run the same version everywhere", c.Table)
		}
		f, err := t.absorb(c.Key, c.Value)
		if err != nil {
			return then, fmt.Errorf("take over what another replica has written: %w; run the same version everywhere", err)
		}
		then = append(then, f)
	}
	return then, nil
}

// gone are deletions of what is not in a whole.
func (db *DB) gone(whole []store.Change) (out []store.Change) {
	there := map[[2]string]bool{}
	for _, c := range whole {
		there[[2]string{c.Table, c.Key}] = true
	}
	for _, t := range db.tx.tables() {
		for k := range t.keys() {
			if !there[[2]string{t.title(), k}] {
				out = append(out, store.Change{Table: t.title(), Key: k})
			}
		}
	}
	return out
}
