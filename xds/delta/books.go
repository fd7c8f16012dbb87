package delta

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"

	"patchbay/xds/delta/wire"
)

// books are a stream's books of one type. What the client asked for and what
// it was told are kept apart: it may be told nothing new and still want it.
type books struct {
	// Asked for.
	seen     bool // a request of this type came
	wildcard bool
	want     map[string]struct{} // by name; also under a wildcard

	// Told.
	told     map[string]told
	inflight []response // sent and not answered, oldest first
	settled  uint64     // every response up to this nonce has been answered
	overtook uint64     // the last response that repeats a name before its answer came
	lastAck  time.Time

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
	version uint64 // 0: that there is none
	seq     uint64 // the response that said so; 0: the client said so
	refused bool   // that response was rejected

	// The newest that was accepted before.
	okVersion, okSeq uint64
}

// response is one that was sent and not answered yet.
type response struct {
	seq     uint64
	at      time.Time
	items   []item
	removed []string
	changes []*change
}

// item is a name in a response, with the version that it carried.
type item struct {
	name    string
	version uint64
}

func (r *response) done() {
	for _, ch := range r.changes {
		ch.done()
	}
}

// Rejection is what an Envoy said of a resource that it did not take.
type Rejection struct {
	Name    string
	Version string
	Error   string // Envoy's words
	At      time.Time
	version uint64
}

func newBooks() books {
	return books{want: map[string]struct{}{}, told: map[string]told{}, dirty: map[string]bool{},
		alone: map[string]struct{}{}, owed: map[string]struct{}{}, refused: map[string]Rejection{}}
}

func (b *books) wants(name string) bool {
	_, ok := b.want[name]
	return ok || b.wildcard
}

// has reports whether the client holds some version of name, as far as it was
// told.
func (b *books) has(name string) bool { return b.told[name].version != 0 }

// record notes that version (0: none) of name goes out with response seq.
func (b *books) record(name string, version, seq uint64) {
	t := b.told[name]
	if t.seq > b.settled {
		b.overtook = seq
	} else if !t.refused {
		t.okVersion, t.okSeq = t.version, t.seq
	}
	t.version, t.seq, t.refused = version, seq, false
	b.told[name] = t
}

// accepted is the newest version that the client took, and its response.
func (b *books) accepted(name string) (version, seq uint64) {
	t := b.told[name]
	if t.refused || t.seq > b.settled {
		return t.okVersion, t.okSeq
	}
	return t.version, t.seq
}

// prune forgets names that the client no longer asks for.
func (b *books) prune() {
	if b.wildcard {
		return
	}
	drop(b, b.told)
	drop(b, b.alone)
	drop(b, b.owed)
	drop(b, b.refused)
	drop(b, b.dirty)
}

func drop[V any](b *books, m map[string]V) {
	maps.DeleteFunc(m, func(name string, _ V) bool { return !b.wants(name) })
}

// sent adds a response to those that wait for an answer. A client that does
// not answer for long (Envoy withholds the ACK of clusters while one warms)
// must not fill our memory: then the two oldest become one.
func (b *books) sent(r response) {
	const most = 64
	if len(b.inflight) >= most {
		o, n := b.inflight[0], &b.inflight[1]
		n.items = slices.Concat(n.items, o.items) // of two versions the newer stays
		slices.SortStableFunc(n.items, func(a, b item) int { return cmp.Compare(a.name, b.name) })
		n.items = slices.CompactFunc(n.items, func(a, b item) bool { return a.name == b.name })
		n.removed = slices.Concat(n.removed, o.removed)
		slices.Sort(n.removed)
		n.removed = slices.Compact(n.removed)
		n.at = o.at
		o.done()
		b.inflight = slices.Delete(b.inflight, 0, 1)
	}
	b.inflight = append(b.inflight, r)
}

// settle finds the response that a nonce answers and takes it, and those
// before it, off the list: Envoy answers in order. A stale nonce finds none.
func (b *books) settle(nonce string) (response, bool) {
	seq, err := strconv.ParseUint(nonce, 36, 64)
	if err != nil {
		return response{}, false
	}
	i, ok := slices.BinarySearchFunc(b.inflight, seq, func(r response, seq uint64) int {
		return cmp.Compare(r.seq, seq)
	})
	if !ok {
		return response{}, false
	}
	r := b.inflight[i]
	for j := range i {
		b.inflight[j].done()
	}
	b.inflight = slices.Delete(b.inflight, 0, i+1)
	b.settled = seq
	return r, true
}

// answered takes an ACK or a rejection. The stream is locked.
func (s *Stream) answered(k kind, r *wire.Request) {
	b := &s.books[k]
	resp, ok := b.settle(r.Nonce)
	if !ok {
		return
	}
	if r.Rejected {
		s.rejected(k, resp, r.Reason)
		resp.done()
		return
	}
	b.lastAck = time.Now()
	s.cache.metrics.ack.Observe(b.lastAck.Sub(resp.at).Seconds())
	resp.done()
	for _, name := range resp.removed {
		if t := b.told[name]; t.version == 0 && t.seq == resp.seq {
			delete(b.told, name)
		}
	}
	if len(b.alone) == 0 && len(b.refused) == 0 && resp.seq > b.overtook {
		return // nearly always: nothing to do for each name
	}
	for _, it := range resp.items {
		delete(b.alone, it.name)
		delete(b.refused, it.name)
		if t := b.told[it.name]; t.seq > resp.seq {
			t.okVersion, t.okSeq = it.version, resp.seq
			b.told[it.name] = t
		}
	}
}

// rejected takes a NACK. Envoy takes an unknown part of a rejected response and
// ends the waiting of other resources of the type, empty: so each name of the
// response is sent again alone, until the one that fails alone is known. That
// one is held back at its version. The endpoints of clusters that may have been
// waiting are sent again too. The stream is locked.
func (s *Stream) rejected(k kind, resp response, text string) {
	b := &s.books[k]
	s.cache.metrics.nacks.WithLabelValues(k.String()).Inc()
	for _, it := range resp.items {
		name, t := it.name, b.told[it.name]
		if t.seq == resp.seq {
			t.refused = true
			b.told[name] = t
		}
		if len(resp.items) > 1 {
			b.alone[name] = struct{}{}
			s.mark(k, name, true)
			continue
		}
		delete(b.alone, name)
		if t.seq != resp.seq || b.refused[name].version == t.version {
			continue // a newer one is on its way, or this one is known
		}
		b.refused[name] = Rejection{Name: name, Version: wire.FormatVersion(t.version), Error: text, At: time.Now(), version: t.version}
		s.log.Warn("envoy rejected a resource", "node", s.nodeID, "type", k.String(), "name", name,
			"version", wire.FormatVersion(t.version), "error", text)
	}
	if k != endpoints {
		return
	}
	for _, r := range s.books[clusters].inflight {
		for _, it := range r.items {
			if _, alone := b.alone[it.name]; !alone && b.wants(it.name) {
				s.mark(k, it.name, true)
			}
		}
	}
}
