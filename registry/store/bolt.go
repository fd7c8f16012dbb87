package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// schema is the version of the layout of the file: a bucket per table, keys and
// values as given. A file of another version is refused, never converted by
// guess.
const schema = "2"

var (
	metaBucket = []byte("meta")
	schemaKey  = []byte("schema")
)

// ErrSchema says that a file was written by another version of patchbay.
var ErrSchema = errors.New("the registry's file has another schema")

// Bolt is a Store in one file, which it holds locked.
type Bolt struct {
	db   *bbolt.DB
	path string
}

// OpenBolt opens the file at path and makes it, and its directory, if they are
// missing. Errors match ErrSchema for a file of another version. A damaged file
// is refused and left as it is: what only it knows may be worth a repair.
func OpenBolt(path string) (b *Bolt, err error) {
	defer damaged(path, &err)()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the registry's directory: %w", err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open %s: another process holds it; stop that one, or use another directory: %w", path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open the registry's file %s: %w", path, err)
	}
	if err := db.Update(func(tx *bbolt.Tx) error { return checkSchema(tx, path) }); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &Bolt{db: db, path: path}, nil
}

// isDamaged says what to do with a file, and what is wrong with it.
const isDamaged = "the registry's file %s is damaged (%w): put a copy of it back, or move it away to start anew: sidecars register again by themselves, what others registered is gone"

// damaged makes an error of what bbolt does with a file that is damaged: it
// panics, and so does the kernel's map of a file that was cut short. Its result
// is to be deferred.
func damaged(path string, err *error) func() {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		if p := recover(); p != nil {
			*err = fmt.Errorf(isDamaged, path, fmt.Errorf("%v", p))
		}
	}
}

func checkSchema(tx *bbolt.Tx, path string) error {
	b, err := tx.CreateBucketIfNotExists(metaBucket)
	if err != nil {
		return fmt.Errorf("prepare %s: %w", path, err)
	}
	switch have := b.Get(schemaKey); {
	case have == nil:
		return b.Put(schemaKey, []byte(schema))
	case string(have) != schema:
		return fmt.Errorf("open %s: %w: %q, and this patchbay reads %q; move the file away to start anew: sidecars register again by themselves", path, ErrSchema, have, schema)
	}
	return nil
}

// Load is Store's.
func (b *Bolt) Load(f func(table, key string, value []byte) error) (err error) {
	defer damaged(b.path, &err)()
	err = b.db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, bucket *bbolt.Bucket) error {
			if string(name) == string(metaBucket) {
				return nil
			}
			return bucket.ForEach(func(k, v []byte) error { return f(string(name), string(k), v) })
		})
	})
	if err != nil {
		return fmt.Errorf(isDamaged, b.path, err)
	}
	return nil
}

// Apply is Store's. The file is synced before it returns. One call is one
// sync, however many changes it has: callers gather what is concurrent.
func (b *Bolt) Apply(changes []Change) error {
	err := b.db.Update(func(tx *bbolt.Tx) error {
		for _, c := range changes {
			bucket, err := tx.CreateBucketIfNotExists([]byte(c.Table))
			if err != nil {
				return err
			}
			if c.Value == nil {
				err = bucket.Delete([]byte(c.Key))
			} else {
				err = bucket.Put([]byte(c.Key), c.Value)
			}
			if err != nil {
				return fmt.Errorf("table %s: %w", c.Table, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write the registry's file: %w", err)
	}
	return nil
}

// Close is Store's.
func (b *Bolt) Close() error { return b.db.Close() }
