package state

import (
	"iter"
	"slices"
	"strings"
)

// Sorted is a list of records by key. Finding is a binary search; a new record
// moves those after it, which for the sizes here costs less than a tree.
type Sorted[V any] struct{ rows []row[V] }

type row[V any] struct {
	key string
	v   *V
}

func (s *Sorted[V]) find(key string) (int, bool) {
	if n := len(s.rows); n > 0 && s.rows[n-1].key < key { // ids that grow are appended
		return n, false
	}
	return slices.BinarySearchFunc(s.rows, key, func(r row[V], k string) int { return strings.Compare(r.key, k) })
}

func (s *Sorted[V]) put(key string, v *V) {
	i, found := s.find(key)
	if found {
		s.rows[i].v = v
	} else {
		s.rows = slices.Insert(s.rows, i, row[V]{key, v})
	}
}

func (s *Sorted[V]) remove(key string) {
	i, found := s.find(key)
	switch {
	case !found:
	case i == 0: // the oldest goes first in most lists
		s.rows[0] = row[V]{}
		s.rows = s.rows[1:]
	default:
		s.rows = slices.Delete(s.rows, i, i+1)
	}
}

// Len is how many records there are. A nil list is empty.
func (s *Sorted[V]) Len() int {
	if s == nil {
		return 0
	}
	return len(s.rows)
}

// All are the records in the order of their keys.
func (s *Sorted[V]) All() iter.Seq[*V] { return s.slice(0, s.Len()) }

// Page is at most n records whose keys come after key, the last one's key, and
// whether there are more.
func (s *Sorted[V]) Page(after string, n int) (rows iter.Seq[*V], last string, more bool) {
	if s == nil {
		return s.slice(0, 0), "", false
	}
	i, found := s.find(after)
	if found {
		i++
	}
	end := min(i+n, len(s.rows))
	if end > i {
		last = s.rows[end-1].key
	}
	return s.slice(i, end), last, end < len(s.rows)
}

func (s *Sorted[V]) slice(i, end int) iter.Seq[*V] {
	return func(yield func(*V) bool) {
		if s == nil {
			return
		}
		for _, r := range s.rows[i:end] {
			if !yield(r.v) {
				return
			}
		}
	}
}
