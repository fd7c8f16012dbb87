// Package books keeps the books of one stream and one type: what the client
// asked for, what it was told, what it made of it, and what it must be told
// next.
//
// It owns the rules of the incremental protocol as a pure state machine: no
// locks, no I/O, no clock but the times that it is given. It must not know
// views, streams or the mesh. Whoever holds a [Books] sees to it that one
// goroutine uses it at a time.
//
// Start reading at [Books], then [Books.Ask] (a request), [Books.Take] and
// [Books.Judge] (what to send), [Books.Sent] and [Books.Answer].
package books

import (
	"iter"
	"maps"
	"slices"
	"time"

	"patchbay/xds/delta/wire"
)

const (
	// window is how many unanswered responses of plain endpoint updates a
	// client may have, and one of a name: what changes meanwhile is merged.
	// Envoy's cost is per response, and it does not merge by itself.
	window = 4
	// Patience is after how long an unanswered response stops counting: a
	// response of a type without subscription is never answered.
	Patience = 5 * time.Second
)

// Books of one type. What was asked for and what was told are kept apart: a
// client may be told nothing new and still want it.
//
// Members of collections are a type of their own: they are asked for by their
// collection, and what a client was told is kept for each collection, not for
// each member, for Envoy itself remembers no versions of members.
type Books struct {
	kind wire.Kind

	// Asked for.
	seen     bool // a request of this type came
	wildcard bool
	asked    int  // by name; also under a wildcard
	doubtful bool // what the client says that it has may not be what it does

	// Told.
	names    ledger          // and asked for
	held     int             // of them, those that were told
	before   map[string]told // what was accepted, while the newest is not yet or was refused
	inflight []Response      // sent and not answered, oldest first
	settled  uint64          // every response up to this number has been answered
	last     uint64          // the newest response
	lastAck  time.Time
	lastTook time.Duration

	// To be told.
	greet bool                // a wildcard's first answer is due, even if empty
	dirty map[string]bool     // true: even if the version is the same
	alone map[string]struct{} // in a response of its own: one of these was rejected
	owed  map[string]struct{} // endpoints of clusters sent since: Envoy waits for them

	// Refused at this version, which is held back until the content changes.
	refused map[string]Rejection
}

// New returns the books of a stream that has asked for nothing.
func New(k wire.Kind) *Books { return &Books{kind: k} }

// Seen reports whether a request of this type came.
func (b *Books) Seen() bool { return b.seen }

// Wanted are the names that were asked for, in no order.
func (b *Books) Wanted() iter.Seq[string] { return b.all(wanted) }

func (b *Books) all(flag uint64) iter.Seq[string] {
	return func(yield func(string) bool) {
		for name, t := range b.names.all() {
			if t.is(flag) && !yield(name) {
				return
			}
		}
	}
}

// Size is how many names were asked for.
func (b *Books) Size() int { return b.asked }

// unit is under what a name is kept: itself, or a member's collection.
func (b *Books) unit(name string) string {
	if b.kind == wire.Members {
		return wire.Collection(name)
	}
	return name
}

// Wants reports whether the client asked for a name, or for all.
func (b *Books) Wants(name string) bool {
	return b.wildcard || b.names.get(b.unit(name)).is(wanted)
}

// Has reports whether the client holds some version of name, as far as it was
// told.
func (b *Books) Has(name string) bool { return b.version(b.names.get(b.unit(name))) != 0 }

// Asked is what a request changed in the subscriptions.
type Asked struct {
	Added, Dropped []string
	Wildcard       bool // as it is now
}

// Ask applies the subscription part of a request; its nonce does not matter
// here. all are the names that exist, for a wildcard. Names that the request
// brings are kept, so they should be shared with other streams: intern gives the
// copy to keep, and what there is under it.
func (b *Books) Ask(r *wire.Request, all iter.Seq[string], intern func(string) (string, *wire.Entry)) Asked {
	first := !b.seen
	b.seen = true
	var a Asked
	if first {
		b.expect(max(len(r.Versions), len(r.Subscribe)))
		for name, v := range r.Versions {
			name, e := intern(name)
			b.hear(name, b.claim(name, v, e))
		}
		if len(r.Subscribe) == 0 && b.kind.Wildcards() {
			b.becomeWildcard(all, false) // the wildcard of old: an empty first request
		}
	}
	if b.dirty == nil && len(r.Subscribe) > few {
		b.dirty = make(map[string]bool, len(r.Subscribe))
	}
	for _, name := range r.Subscribe {
		switch {
		case name == "*" && b.kind.Wildcards():
			b.becomeWildcard(all, !first)
		case name == "*", b.kind == wire.Members && !wire.IsCollection(name):
			// Such a name does not exist: these types are asked for by name, and
			// members by their collection.
		default:
			name, e := intern(name)
			t := b.names.get(name)
			b.put(name, told{t.entry, t.word | wanted}, e)
			a.Added = append(a.Added, name)
			b.note(name, !first || b.Awaited(name) || b.doubtful)
		}
	}
	for _, name := range r.Unsubscribe {
		t := b.names.get(name)
		switch {
		case name == "*":
			b.wildcard, b.greet = false, false
		case t.is(wanted):
			b.put(name, told{t.entry, t.word &^ wanted}, nil)
			a.Dropped = append(a.Dropped, name)
			if b.wildcard {
				b.note(name, true) // the client may have let go of it
			}
		}
	}
	if first || len(r.Unsubscribe) > 0 {
		b.prune()
	}
	a.Wildcard = b.wildcard
	return a
}

// becomeWildcard subscribes to everything; force sends what is known as well.
func (b *Books) becomeWildcard(all iter.Seq[string], force bool) {
	b.wildcard, b.greet = true, true
	for name := range all {
		b.Mark(name, force)
	}
	for name := range b.all(heard) {
		b.Mark(name, false)
	}
}

// prune forgets names that the client no longer asks for.
func (b *Books) prune() {
	if b.wildcard {
		return
	}
	var idle []string
	for name := range b.all(heard) {
		if !b.Wants(name) {
			idle = append(idle, name)
		}
	}
	for _, name := range idle {
		b.put(name, told{}, nil)
	}
	drop(b, &b.before)
	drop(b, &b.alone)
	drop(b, &b.owed)
	drop(b, &b.refused)
	drop(b, &b.dirty)
}

func drop[V any](b *Books, m *map[string]V) {
	for name := range *m {
		if !b.Wants(name) {
			unset(m, name)
		}
	}
}

// Mark notes that the client must hear of a name, if it cares; force means
// even if it has the version already. It reports whether the name was marked
// before: then two changes have become one.
func (b *Books) Mark(name string, force bool) (merged bool) {
	if !b.Wants(name) && !b.Has(name) {
		return false
	}
	return b.note(name, force)
}

func (b *Books) note(name string, force bool) (merged bool) {
	was, merged := b.dirty[name]
	set(&b.dirty, name, was || force)
	return merged
}

// Dirty is how many names the client must hear of.
func (b *Books) Dirty() int { return len(b.dirty) }

// Pending reports whether there is something to send.
func (b *Books) Pending() bool { return b.greet || len(b.dirty) > 0 }

// Greet reports, once, that a wildcard's first answer is due.
func (b *Books) Greet() bool {
	was := b.greet
	b.greet = false
	return was
}

// Owe marks a name that Envoy waits for since its cluster was sent: it does
// not ask again.
func (b *Books) Owe(name string) { set(&b.owed, name, struct{}{}) }

// Owing marks every name that is owed and asked for.
func (b *Books) Owing() {
	for name := range b.owed {
		if b.Wants(name) {
			b.note(name, true)
		}
	}
}

// Release forgets that a name is owed: its cluster is gone.
func (b *Books) Release(name string) { unset(&b.owed, name) }

// Awaited reports whether Envoy waits for a name: its cluster was sent, or it
// has been told nothing of it yet.
func (b *Books) Awaited(name string) bool {
	_, owed := b.owed[name]
	return owed || !b.Has(name)
}

// Alone reports whether a name must travel in a response of its own.
func (b *Books) Alone(name string) bool {
	_, ok := b.alone[name]
	return ok
}

// Due is a name that the client must hear of.
type Due struct {
	Name  string
	Force bool // even if it has the version already
}

// Take empties the marked names, sorted. Endpoints and members of which Envoy
// has enough to do stay; then held is true, and Take must be called again after
// [Patience] at the latest.
func (b *Books) Take(now time.Time) (due []Due, held bool) {
	paced := b.kind == wire.Endpoints || b.kind == wire.Members
	full := len(b.inflight) >= window && now.Sub(b.inflight[len(b.inflight)-window].at) < Patience
	if len(b.dirty) == 0 {
		return nil, false
	}
	names := slices.AppendSeq(make([]string, 0, len(b.dirty)), maps.Keys(b.dirty))
	slices.Sort(names)
	due = make([]Due, 0, len(names))
	for _, name := range names {
		force := b.dirty[name]
		if !force && paced && (full || b.names.get(b.unit(name)).seq() > b.settled && b.Unanswered(now)) {
			held = true
			continue
		}
		unset(&b.dirty, name)
		due = append(due, Due{name, force})
	}
	return due, held
}

// Unanswered reports whether a response is on its way.
func (b *Books) Unanswered(now time.Time) bool {
	return len(b.inflight) > 0 && now.Sub(b.inflight[len(b.inflight)-1].at) < Patience
}

// PutBack marks a name again that Take gave and that can't be sent now.
func (b *Books) PutBack(name string) { b.note(name, false) }

// Open reports whether a response has no answer.
func (b *Books) Open() bool { return len(b.inflight) > 0 }

// Settled reports, once, that a client whose word was doubted has taken
// everything that there is.
func (b *Books) Settled() bool {
	if !b.doubtful || !b.seen || len(b.inflight) > 0 || len(b.refused) > 0 || b.Pending() {
		return false
	}
	b.doubtful = false
	return true
}
