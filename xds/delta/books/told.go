package books

import "patchbay/xds/delta/wire"

// told is the state of one name as the client has it, and whether it was asked
// for. It is two words, for there is one for each sidecar and name.
type told struct {
	// entry is nil if there is none. Of what the client said that it has, it may
	// have no content. Of members it is not kept.
	entry *wire.Entry
	word  uint64 // the response that said so (0: the client said so), and flags
}

// The flags of a name.
const (
	wanted   = 1 << iota // asked for by name
	heard                // told, or claimed
	claimed              // the client said that it has it
	refused              // the response that told it was rejected
	nameOnly             // of a slot of a [ledger]: its entry says nothing but the name
	bits     = iota
)

func (t told) is(flag uint64) bool { return t.word&flag != 0 }

func (t told) seq() uint64 { return t.word >> bits }

// known is the entry that the client was told, if it was.
func (t told) known() *wire.Entry {
	if t.is(claimed) {
		return nil
	}
	return t.entry
}

// saying is what a response told: e, or that there is none.
func saying(e *wire.Entry, seq uint64) told { return told{e, seq<<bits | heard} }

// unknown is the version of something that a client has: it is no entry's.
const unknown = ^uint64(0)

// claim is what a client said that it has of a name; now is what there is.
func (b *Books) claim(name, version string, now *wire.Entry) told {
	v := wire.ParseVersion(version)
	if b.doubtful {
		v = unknown
	}
	if now == nil || now.Hash() != v {
		now = wire.Claimed(name, v)
	}
	return told{now, heard | claimed}
}

// version is that which the client has; 0: none. A collection's is the response
// that told it last.
func (b *Books) version(t told) uint64 {
	switch {
	case t.entry != nil:
		return t.entry.Hash()
	case b.kind == wire.Members:
		return t.seq()
	}
	return 0
}

// few is how many names fit into the smallest map or ledger.
const few = 8

// expect makes room for n names at once, if there are none yet.
func (b *Books) expect(n int) {
	if b.names.n == 0 {
		b.names.grow(n)
	}
}

// put notes the state of a name. What was neither asked for nor told is not
// kept. like is any entry of the name, or nil.
func (b *Books) put(name string, t told, like *wire.Entry) {
	old := b.names.get(name)
	count := func(n *int, flag uint64) {
		if t.is(flag) {
			*n++
		}
		if old.is(flag) {
			*n--
		}
	}
	count(&b.asked, wanted)
	count(&b.held, heard)
	if t.word == 0 {
		b.names.remove(name)
	} else {
		b.names.put(name, t, like)
	}
}

// hear notes what the client has of a name, whether it was asked for or not.
func (b *Books) hear(name string, t told) {
	b.put(name, told{t.entry, t.word&^wanted | b.names.get(name).word&wanted}, nil)
}

// set and unset keep a map that is nil while it is empty: most are, nearly all
// the time, and one that was full once keeps its size.
func set[V any](m *map[string]V, name string, v V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[name] = v
}

func unset[V any](m *map[string]V, name string) {
	if delete(*m, name); len(*m) == 0 {
		*m = nil
	}
}
