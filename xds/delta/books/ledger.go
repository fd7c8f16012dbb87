package books

import (
	"hash/maphash"
	"iter"

	"patchbay/xds/delta/wire"
)

// ledger is what is kept of each name: there is one for each sidecar, type and
// name. A slot is two words, and its name is that of the entry in it, which all
// streams share: half of what a map of strings takes. The zero value is empty.
type ledger struct {
	slots []told // as many as a power of two, or none; free ones have no entry
	n     int
}

var seed = maphash.MakeSeed()

// find is the slot of a name, or the free one where it belongs.
func (l *ledger) find(name string) int {
	i := l.home(name)
	for l.slots[i].entry != nil && l.slots[i].entry.Name() != name {
		i = (i + 1) & (len(l.slots) - 1)
	}
	return i
}

func (l *ledger) home(name string) int {
	return int(maphash.String(seed, name) & uint64(len(l.slots)-1)) //nolint:gosec // below the length
}

// get is the state of a name; zero if there is none.
func (l *ledger) get(name string) told {
	if l.n == 0 {
		return told{}
	}
	return l.slots[l.find(name)].plain()
}

func (t told) plain() told {
	if t.is(nameOnly) {
		return told{nil, t.word &^ nameOnly}
	}
	return t
}

// put notes a state, whose entry is nil or one of this name. like is any entry
// of the name that the process keeps anyway, or nil.
func (l *ledger) put(name string, t told, like *wire.Entry) {
	l.grow(l.n + 1)
	s := &l.slots[l.find(name)]
	if s.entry == nil {
		l.n++
	}
	if t.entry == nil {
		t.word |= nameOnly
		switch {
		case like != nil && like.Name() == name:
			t.entry = like
		case s.is(nameOnly):
			t.entry = s.entry
		default:
			t.entry = wire.Named(name)
		}
	}
	*s = t
}

// grow makes room for n names.
func (l *ledger) grow(n int) {
	size := max(few, len(l.slots))
	for n > size-size/8 {
		size *= 2
	}
	if size == len(l.slots) {
		return
	}
	old := l.slots
	l.slots = make([]told, size)
	for _, t := range old {
		if t.entry != nil {
			l.slots[l.find(t.entry.Name())] = t
		}
	}
}

// remove forgets a name, and moves those that had to make way for it.
func (l *ledger) remove(name string) {
	if l.n == 0 {
		return
	}
	hole := l.find(name)
	if l.slots[hole].entry == nil {
		return
	}
	if l.n--; l.n == 0 {
		l.slots = nil // one that was full once would keep its size
		return
	}
	mask := len(l.slots) - 1
	for i := (hole + 1) & mask; l.slots[i].entry != nil; i = (i + 1) & mask {
		// It may move if the hole is on its way from home.
		if home := l.home(l.slots[i].entry.Name()); (i-home)&mask >= (i-hole)&mask {
			l.slots[hole], hole = l.slots[i], i
		}
	}
	l.slots[hole] = told{}
}

// all are the names and their states, in no order. The ledger must not be
// changed meanwhile.
func (l *ledger) all() iter.Seq2[string, told] {
	return func(yield func(string, told) bool) {
		for _, t := range l.slots {
			if t.entry != nil && !yield(t.entry.Name(), t.plain()) {
				return
			}
		}
	}
}
