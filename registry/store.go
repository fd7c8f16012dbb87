package registry

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

// Store keeps the registry's objects as bytes under keys. It is safe for
// concurrent use.
type Store interface {
	// Load calls f with every key and its value.
	Load(f func(key string, value []byte) error) error
	// Apply writes and deletes all of a batch, or nothing; when it returns
	// nil, a killed process loses none of it. A nil value deletes.
	Apply(batch map[string][]byte) error
	Close() error
}

// Memory is a Store that forgets at exit.
type Memory struct {
	mu  sync.Mutex
	all map[string][]byte
}

// NewMemory is empty.
func NewMemory() *Memory { return &Memory{all: map[string][]byte{}} }

// Load implements [Store].
func (m *Memory) Load(f func(string, []byte) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, v := range m.all {
		if err := f(k, v); err != nil {
			return err
		}
	}
	return nil
}

// Apply implements [Store].
func (m *Memory) Apply(batch map[string][]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, v := range batch {
		if v == nil {
			delete(m.all, k)
		} else {
			m.all[k] = v
		}
	}
	return nil
}

// Close implements [Store].
func (m *Memory) Close() error { return nil }

// Bolt is a Store in one file.
type Bolt struct{ db *bbolt.DB }

// Names in the file. The schema's number is raised when an object's form
// changes.
var (
	bucketObjects = []byte("objects")
	bucketMeta    = []byte("meta")
	keySchema     = []byte("schema")
)

const schema = "1"

// OpenBolt opens or makes the file. It waits at most two seconds for another
// process to let go of it.
func OpenBolt(path string) (*Bolt, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 2 * time.Second})
	if err != nil {
		return nil, fmt.Errorf("open registry file %s (is another registry running on it?): %w", path, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		if _, err := tx.CreateBucketIfNotExists(bucketObjects); err != nil {
			return err
		}
		meta, err := tx.CreateBucketIfNotExists(bucketMeta)
		if err != nil {
			return err
		}
		if found := meta.Get(keySchema); found != nil && string(found) != schema {
			return fmt.Errorf("registry file %s has schema %s; this program reads %s", path, found, schema)
		}
		return meta.Put(keySchema, []byte(schema))
	})
	if err != nil {
		db.Close()
		return nil, err
	}
	return &Bolt{db}, nil
}

// Load implements [Store].
func (b *Bolt) Load(f func(string, []byte) error) error {
	return b.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketObjects).ForEach(func(k, v []byte) error { return f(strings.Clone(string(k)), append([]byte{}, v...)) })
	})
}

// Apply implements [Store]. Concurrent calls share one fsync.
func (b *Bolt) Apply(batch map[string][]byte) error {
	return b.db.Batch(func(tx *bbolt.Tx) error {
		objects := tx.Bucket(bucketObjects)
		for k, v := range batch {
			var err error
			if v == nil {
				err = objects.Delete([]byte(k))
			} else {
				err = objects.Put([]byte(k), v)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Close implements [Store].
func (b *Bolt) Close() error { return b.db.Close() }
