package state

import (
	"encoding/json"
	"fmt"
	"iter"
	"maps"

	"patchbay/registry/store"
)

// Table is one table within a transaction: what is durable, overlaid by what
// the transactions of the same write have done, overlaid by this one's own
// changes. Records are immutable: change what Edit returns, and replace its
// maps instead of changing them.
type Table[V any] struct {
	name       string
	rows       map[string]*V
	group, own map[string]*V // nil: deleted
	published  func(key string, old, now *V)
	foreign    func(old, now *V) // hears of what others have changed; may be nil
}

func newTable[V any](name string, published func(key string, old, now *V)) *Table[V] {
	if published == nil {
		published = func(string, *V, *V) {}
	}
	return &Table[V]{name: name, rows: map[string]*V{}, group: map[string]*V{}, own: map[string]*V{}, published: published}
}

// Get is the record with key; nil if there is none.
func (t *Table[V]) Get(key string) *V {
	if v, ok := t.own[key]; ok {
		return v
	}
	if v, ok := t.group[key]; ok {
		return v
	}
	return t.rows[key]
}

// Put stores v, which it takes over.
func (t *Table[V]) Put(key string, v *V) { t.own[key] = v }

// Delete removes the record with key, if there is one.
func (t *Table[V]) Delete(key string) {
	if t.Get(key) != nil {
		t.own[key] = nil
	}
}

// Edit puts a copy of the record with key and returns it, to be changed. The
// record must exist.
func (t *Table[V]) Edit(key string) *V {
	if v := t.own[key]; v != nil {
		return v
	}
	v := *t.Get(key)
	t.own[key] = &v
	return &v
}

// fresh are the records that are not durable yet, in no order.
func (t *Table[V]) fresh() iter.Seq2[string, *V] {
	return func(yield func(string, *V) bool) {
		for k, v := range t.own {
			if v != nil && !yield(k, v) {
				return
			}
		}
		for k, v := range t.group {
			if _, ok := t.own[k]; !ok && v != nil && !yield(k, v) {
				return
			}
		}
	}
}

// All is every record, in no order. The table must not be changed meanwhile.
func (t *Table[V]) All() iter.Seq2[string, *V] {
	return func(yield func(string, *V) bool) {
		for k, v := range t.fresh() {
			if !yield(k, v) {
				return
			}
		}
		for k, v := range t.rows {
			_, own := t.own[k]
			_, group := t.group[k]
			if !own && !group && !yield(k, v) {
				return
			}
		}
	}
}

// changes encodes what the group of transactions has changed.
func (t *Table[V]) changes(to []store.Change) ([]store.Change, error) {
	for k, v := range t.group {
		c := store.Change{Table: t.name, Key: k}
		if v != nil {
			b, err := json.Marshal(v)
			if err != nil {
				return nil, fmt.Errorf("encode %s %s: %w", t.name, k, err)
			}
			c.Value = b
		}
		to = append(to, c)
	}
	return to, nil
}

// changed is how many records the group of transactions has changed.
func (t *Table[V]) changed() int { return len(t.group) }

// keep makes this transaction's changes visible to the next one.
func (t *Table[V]) keep() {
	maps.Copy(t.group, t.own)
	clear(t.own)
}

func (t *Table[V]) drop(group bool) {
	clear(t.own)
	if group {
		clear(t.group)
	}
}

// publish makes the whole group's changes the truth.
func (t *Table[V]) publish() {
	for k, v := range t.group {
		t.set(k, v)
	}
	clear(t.group)
}

func (t *Table[V]) set(k string, v *V) {
	old := t.rows[k]
	switch {
	case v != nil:
		t.rows[k] = v
	case old != nil:
		delete(t.rows, k)
	default:
		return // came and went within one write
	}
	t.published(k, old, v)
}

func (t *Table[V]) load(key string, value []byte) error {
	v := new(V)
	if err := json.Unmarshal(value, v); err != nil {
		return fmt.Errorf("decode %s %s: %w", t.name, key, err)
	}
	t.set(key, v)
	return nil
}

// absorb takes over what another replica has written, nil for a deletion, and
// returns what is to be said of it once it is visible.
func (t *Table[V]) absorb(key string, value []byte) (then func(), err error) {
	old := t.rows[key]
	if value == nil {
		t.set(key, nil)
	} else if err := t.load(key, value); err != nil {
		return nil, err
	}
	now := t.rows[key]
	if t.foreign == nil || old == nil && now == nil {
		return func() {}, nil
	}
	return func() { t.foreign(old, now) }, nil
}

// keys are those of all durable records.
func (t *Table[V]) keys() iter.Seq[string] { return maps.Keys(t.rows) }

func (t *Table[V]) title() string { return t.name }

// anyTable is a Table of any record.
type anyTable interface {
	title() string
	changes([]store.Change) ([]store.Change, error)
	changed() int
	keep()
	drop(group bool)
	publish()
	load(key string, value []byte) error
	absorb(key string, value []byte) (func(), error)
	keys() iter.Seq[string]
}
