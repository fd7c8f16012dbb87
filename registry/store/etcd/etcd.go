// Package etcd keeps the registry's records in an etcd cluster, which any
// number of registries share.
//
// It owns the layout there, what makes a write atomic among replicas, and how a
// replica hears of the others' writes. It must not know what the records mean.
//
// A record is the key PREFIX + "records/" + table + "/" + key. Every write also
// puts PREFIX + "head", and only if that is as the writer has seen it: writes
// are in one order, and nobody writes on the ground of something outdated. The
// head's value is the version of the layout. Signs of life are etcd leases
// without keys, whose ids are made of what they are for.
//
// Start reading at [Store.Apply], then [Store.Run].
package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"patchbay/registry/store"
)

const (
	// schema is the version of the layout.
	schema = "1"
	// most is below etcd's default of 128 operations in a transaction
	// (--max-txn-ops), of which one is the head's.
	most = 120
	// patience is for one call. A cluster that elects a leader takes a second
	// or two.
	patience = 5 * time.Second
	// page is how many records one reading returns.
	page = 1000
)

// Store is a [store.Shared]. Close it only after Run has returned.
type Store struct {
	client   *clientv3.Client
	prefix   string
	log      *slog.Logger
	patience time.Duration
	explain  func(error) error

	mu      sync.Mutex
	loaded  bool
	at      int64 // the revision that the user's copy has
	head    int64 // the head's at that
	seen    int64 // the revision up to which inbox is complete
	inbox   []batch
	heard   time.Time
	changed chan struct{} // of capacity 1
	news    chan struct{} // closed by the next batch
	again   chan struct{} // asks Run to read everything; of capacity 1
}

// batch is one revision's changes.
type batch struct {
	revision, head int64
	changes        []store.Change
	whole          bool
}

// Options of a [Store].
type Options struct {
	Client   *clientv3.Client // the caller's, who closes it after the store
	Prefix   string           // of every key; ends with a slash
	Patience time.Duration    // for one call; default 5 s
	Log      *slog.Logger     // nil: nobody is told
	// Explain says of a call's error what to do; nil: nobody knows.
	Explain func(error) error
}

// New returns the store beneath o.Prefix. It asks nothing yet.
func New(o Options) *Store {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Explain == nil {
		o.Explain = func(err error) error { return err }
	}
	return &Store{
		explain: o.Explain, client: o.Client, prefix: o.Prefix, log: o.Log, patience: cmp.Or(o.Patience, patience), heard: time.Now(),
		changed: make(chan struct{}, 1), news: make(chan struct{}), again: make(chan struct{}, 1),
	}
}

func (s *Store) headKey() string { return s.prefix + "head" }
func (s *Store) records() string { return s.prefix + "records/" }

// unavailable says of a failed call what the caller has to know.
func (s *Store) unavailable(what string, err error) error {
	return fmt.Errorf("%s at etcd %s: %w: %w", what, strings.Join(s.client.Endpoints(), ", "), store.ErrUnavailable, s.explain(err))
}

// within is the time that one call has.
func (s *Store) within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), s.patience)
}

// Load is Store's.
func (s *Store) Load(f func(table, key string, value []byte) error) error {
	ctx, cancel := s.within()
	defer cancel()
	b, err := s.read(ctx)
	if err != nil {
		return err
	}
	for _, c := range b.changes {
		if err := f(c.Table, c.Key, c.Value); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.head, s.seen, s.inbox, s.loaded = b.revision, b.head, b.revision, nil, true
	s.heard = time.Now()
	s.tell()
	return nil
}

// read is everything at one revision.
func (s *Store) read(ctx context.Context) (batch, error) {
	b := batch{whole: true}
	from, end := s.records(), clientv3.GetPrefixRangeEnd(s.records())
	head, err := s.client.Get(ctx, s.headKey())
	if err != nil {
		return b, s.unavailable("read the registry", err)
	}
	b.revision = head.Header.Revision
	for _, kv := range head.Kvs {
		if string(kv.Value) != schema {
			return b, fmt.Errorf("read the registry beneath %s: %w: %q, and this patchbay reads %q; give it another prefix to start anew", s.prefix, store.ErrSchema, kv.Value, schema)
		}
		b.head = kv.ModRevision
	}
	for more := true; more; {
		out, err := s.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(page), clientv3.WithRev(b.revision))
		if err != nil {
			return b, s.unavailable("read the registry", err)
		}
		for _, kv := range out.Kvs {
			if c, ok := s.record(kv); ok {
				b.changes = append(b.changes, c)
			}
		}
		if more = out.More; more {
			from = string(out.Kvs[len(out.Kvs)-1].Key) + "\x00"
		}
	}
	return b, nil
}

// record is what a key holds, and whether it is one of ours.
func (s *Store) record(kv *mvccpb.KeyValue) (store.Change, bool) {
	rest, ours := strings.CutPrefix(string(kv.Key), s.records())
	table, key, whole := strings.Cut(rest, "/")
	if !ours || !whole {
		return store.Change{}, false
	}
	value := kv.Value
	if value == nil {
		value = []byte{}
	}
	return store.Change{Table: table, Key: key, Value: value}, true
}

// Most is Shared's.
func (s *Store) Most() int { return most }

// Apply is Store's, and Shared's. A majority of the cluster has synced the
// changes when it returns.
func (s *Store) Apply(changes []store.Change) error {
	if len(changes) == 0 {
		return nil
	}
	s.mu.Lock()
	loaded, head := s.loaded, s.head
	s.mu.Unlock()
	if !loaded {
		return fmt.Errorf("write before Load: %w", store.ErrUnavailable)
	}
	last := map[string]store.Change{} // etcd takes a key once in a transaction
	for _, c := range changes {
		last[s.records()+c.Table+"/"+c.Key] = c
	}
	ops := []clientv3.Op{clientv3.OpPut(s.headKey(), schema)}
	for k, c := range last {
		if c.Value == nil {
			ops = append(ops, clientv3.OpDelete(k))
		} else {
			ops = append(ops, clientv3.OpPut(k, string(c.Value)))
		}
	}
	ctx, cancel := s.within()
	defer cancel()
	out, err := s.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(s.headKey()), "=", head)).
		Then(ops...).Else(clientv3.OpGet(s.headKey())).Commit()
	if err != nil {
		return s.unavailable("write the registry", err)
	}
	if !out.Succeeded {
		now := out.Responses[0].GetResponseRange().Kvs
		if len(now) == 0 { // somebody has deleted everything
			s.ask()
			return store.ErrConflict
		}
		return errors.Join(store.ErrConflict, s.wait(ctx, now[0].ModRevision))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.head, s.heard = out.Header.Revision, out.Header.Revision, time.Now()
	return nil
}

// Sync is Shared's.
func (s *Store) Sync() error {
	ctx, cancel := s.within()
	defer cancel()
	out, err := s.client.Get(ctx, s.headKey())
	if err != nil {
		return s.unavailable("ask the registry's store", err)
	}
	upTo := int64(0)
	for _, kv := range out.Kvs {
		upTo = kv.ModRevision
	}
	return s.wait(ctx, upTo)
}

// wait returns when the copy, or the inbox, has a revision of the head.
func (s *Store) wait(ctx context.Context, revision int64) error {
	for {
		s.mu.Lock()
		have, news := max(s.at, s.seen), s.news
		s.mu.Unlock()
		if have >= revision {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return s.unavailable("follow the registry", context.Cause(ctx))
		}
	}
}

// Changed is Shared's.
func (s *Store) Changed() <-chan struct{} { return s.changed }

// Pull is Shared's.
func (s *Store) Pull() (changes []store.Change, whole bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.inbox {
		if b.revision <= s.at { // written by this process, or read already
			continue
		}
		if b.whole {
			changes, whole = nil, true
		}
		changes = append(changes, b.changes...)
		s.at, s.head = b.revision, b.head
	}
	s.inbox = nil
	return changes, whole
}

// Silence is Shared's.
func (s *Store) Silence() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.heard)
}

// Close is Store's. The client stays open.
func (s *Store) Close() error { return nil }
