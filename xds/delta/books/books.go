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
	want     map[string]struct{} // by name; also under a wildcard
	doubtful bool                // what the client says that it has may not be what it does

	// Told.
	told     map[string]told
	before   map[string]told // what was accepted, while told is not yet or was refused
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

// told is the state of one name as the client has it.
type told struct {
	entry   *wire.Entry // nil if there is none, or if the client said that it has it
	version uint64      // 0: that there is none
	seq     uint64      // the response that said so; 0: the client said so
	refused bool        // that response was rejected
}

// unknown is the version of something that a client has: it is no entry's.
const unknown = ^uint64(0)

// New returns the books of a stream that has asked for nothing.
func New(k wire.Kind) *Books {
	return &Books{kind: k, want: map[string]struct{}{}, told: map[string]told{}, before: map[string]told{}, dirty: map[string]bool{},
		alone: map[string]struct{}{}, owed: map[string]struct{}{}, refused: map[string]Rejection{}}
}

// Seen reports whether a request of this type came.
func (b *Books) Seen() bool { return b.seen }

// Wanted are the names that were asked for, in no order.
func (b *Books) Wanted() iter.Seq[string] { return maps.Keys(b.want) }

// Size is how many names were asked for.
func (b *Books) Size() int { return len(b.want) }

// unit is under what a name is kept: itself, or a member's collection.
func (b *Books) unit(name string) string {
	if b.kind == wire.Members {
		return wire.Collection(name)
	}
	return name
}

// Wants reports whether the client asked for a name, or for all.
func (b *Books) Wants(name string) bool {
	_, ok := b.want[b.unit(name)]
	return ok || b.wildcard
}

// Has reports whether the client holds some version of name, as far as it was
// told.
func (b *Books) Has(name string) bool { return b.told[b.unit(name)].version != 0 }

// Asked is what a request changed in the subscriptions.
type Asked struct {
	Added, Dropped []string
	Wildcard       bool // as it is now
}

// Ask applies the subscription part of a request; its nonce does not matter
// here. all are the names that exist, for a wildcard. Names that the request
// brings are kept, so they should be shared with other streams: see intern.
func (b *Books) Ask(r *wire.Request, all iter.Seq[string], intern func(string) string) Asked {
	first := !b.seen
	b.seen = true
	var a Asked
	if first {
		for name, v := range r.Versions {
			t := told{version: wire.ParseVersion(v)}
			if b.doubtful {
				t.version = unknown
			}
			b.told[intern(name)] = t
		}
		if len(r.Subscribe) == 0 && b.kind.Wildcards() {
			b.becomeWildcard(all, false) // the wildcard of old: an empty first request
		}
	}
	for _, name := range r.Subscribe {
		switch {
		case name == "*" && b.kind.Wildcards():
			b.becomeWildcard(all, !first)
		case name == "*", b.kind == wire.Members && !wire.IsCollection(name):
			// Such a name does not exist: these types are asked for by name, and
			// members by their collection.
		default:
			name = intern(name)
			b.want[name] = struct{}{}
			a.Added = append(a.Added, name)
			_, owed := b.owed[name]
			b.dirty[name] = b.dirty[name] || !first || !b.Has(name) || owed || b.doubtful
		}
	}
	for _, name := range r.Unsubscribe {
		_, asked := b.want[name]
		switch {
		case name == "*":
			b.wildcard, b.greet = false, false
		case asked:
			delete(b.want, name)
			a.Dropped = append(a.Dropped, name)
			if b.wildcard {
				b.dirty[name] = true // the client may have let go of it
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
	for name := range b.told {
		b.Mark(name, false)
	}
}

// prune forgets names that the client no longer asks for.
func (b *Books) prune() {
	if b.wildcard {
		return
	}
	drop(b, b.told)
	drop(b, b.before)
	drop(b, b.alone)
	drop(b, b.owed)
	drop(b, b.refused)
	drop(b, b.dirty)
}

func drop[V any](b *Books, m map[string]V) {
	maps.DeleteFunc(m, func(name string, _ V) bool { return !b.Wants(name) })
}

// Mark notes that the client must hear of a name, if it cares; force means
// even if it has the version already. It reports whether the name was marked
// before: then two changes have become one.
func (b *Books) Mark(name string, force bool) (merged bool) {
	if !b.Wants(name) && !b.Has(name) {
		return false
	}
	was, merged := b.dirty[name]
	b.dirty[name] = was || force
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
func (b *Books) Owe(name string) { b.owed[name] = struct{}{} }

// Owing marks every name that is owed and asked for.
func (b *Books) Owing() {
	for name := range b.owed {
		if b.Wants(name) {
			b.dirty[name] = true
		}
	}
}

// Release forgets that a name is owed: its cluster is gone.
func (b *Books) Release(name string) { delete(b.owed, name) }

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
	for _, name := range slices.Sorted(maps.Keys(b.dirty)) {
		force := b.dirty[name]
		if !force && paced && (full || b.told[b.unit(name)].seq > b.settled && b.Unanswered(now)) {
			held = true
			continue
		}
		delete(b.dirty, name)
		due = append(due, Due{name, force})
	}
	return due, held
}

// Unanswered reports whether a response is on its way.
func (b *Books) Unanswered(now time.Time) bool {
	return len(b.inflight) > 0 && now.Sub(b.inflight[len(b.inflight)-1].at) < Patience
}

// PutBack marks a name again that Take gave and that can't be sent now.
func (b *Books) PutBack(name string) { b.dirty[name] = b.dirty[name] || false }

// Verdict is what the client must hear of a name.
type Verdict int

// The verdicts.
const (
	Nothing     Verdict = iota
	Send                // the entry
	Gone                // that there is none
	Placeholder         // that it is empty: Envoy waits, and absence would not end that
)

// Judge says what the client must hear of a due name, of which e is the entry
// or nil. stays says, for endpoints, that their cluster stays. What is to be
// sent may be an older entry: while the newest is refused, the last good one
// stands in its place.
func (b *Books) Judge(d Due, e *wire.Entry, stays bool) (*wire.Entry, Verdict) {
	t := b.told[d.Name]
	// Unknown and new: the client must not wait for it.
	absent := Nothing
	if t.version == 0 && d.Force && b.Wants(d.Name) {
		absent = Gone
		if b.kind == wire.Endpoints {
			absent = Placeholder
		}
	}
	if r, held := b.refused[d.Name]; held && e != nil && r.version == e.Hash() {
		if e = b.standIn(r.good, t); e == nil {
			return nil, absent // held back until its content changes
		}
	}
	switch {
	case e != nil && !b.Wants(d.Name), e != nil && t.version == e.Hash() && !d.Force:
		return nil, Nothing
	case e != nil:
		return e, Send
	case absent != Nothing:
		return nil, absent
	case b.kind == wire.Endpoints && stays:
		return nil, Nothing // never take the endpoints of a cluster that stays
	case t.version != 0, d.Force && b.Wants(d.Name):
		return nil, Gone
	}
	return nil, Nothing
}

// standIn is what takes the place of a refused version: what the client was
// told since, or the last that it accepted, unless it says that it has another.
func (b *Books) standIn(good *wire.Entry, t told) *wire.Entry {
	switch {
	case t.version == 0 || t.refused:
		return good
	case t.entry == nil && good != nil && (t.version == good.Hash() || t.version == unknown):
		return good
	}
	return t.entry
}

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
