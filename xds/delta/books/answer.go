package books

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"patchbay/xds/delta/wire"
)

// Response is one that was sent and not answered yet.
type Response struct {
	seq     uint64
	at      time.Time
	entries []*wire.Entry
	removed []string
	changes []*Change
}

func (r Response) done() {
	for _, ch := range r.changes {
		ch.Done()
	}
}

// Rejection is what an Envoy said of a resource that it did not take.
type Rejection struct {
	Name    string    `json:"name"`
	Version string    `json:"version"`
	Source  string    `json:"source"` // what the resource was made from
	Error   string    `json:"error"`  // Envoy's words
	At      time.Time `json:"at"`
	version uint64
	good    *wire.Entry // the last that was accepted; nil if that is not known
}

// Last is the number of the newest response; the next must be greater.
func (b *Books) Last() uint64 { return b.last }

// Sent books a response: its number, its entries, the names that it said to be
// gone, and the changes that it carries.
func (b *Books) Sent(seq uint64, at time.Time, entries []*wire.Entry, removed []string, changes []*Change) {
	b.expect(len(entries))
	for _, e := range entries {
		b.tell(e.Name(), saying(e, seq))
		unset(&b.owed, e.Name())
	}
	for _, name := range removed {
		b.tell(name, saying(nil, seq))
	}
	for _, ch := range changes {
		ch.carried()
	}
	b.last = seq
	b.await(Response{seq: seq, at: at, entries: entries, removed: removed, changes: changes})
}

func (b *Books) tell(name string, now told) {
	if b.kind == wire.Members {
		if name, now.entry = wire.Collection(name), nil; b.names.get(name).seq() == now.seq() {
			return
		}
	}
	if t := b.names.get(name); t.is(heard) && t.seq() <= b.settled && !t.is(refused) {
		set(&b.before, name, t)
	}
	b.hear(name, now)
}

// await adds a response to those that wait for an answer. A client that does
// not answer for long (Envoy withholds the ACK of clusters while one warms)
// must not fill our memory: then the two oldest become one.
func (b *Books) await(r Response) {
	const most = 64
	if len(b.inflight) >= most {
		o, n := b.inflight[0], &b.inflight[1]
		n.entries = slices.Concat(n.entries, o.entries) // of two versions the newer stays
		slices.SortStableFunc(n.entries, func(a, b *wire.Entry) int { return cmp.Compare(a.Name(), b.Name()) })
		n.entries = slices.CompactFunc(n.entries, func(a, b *wire.Entry) bool { return a.Name() == b.Name() })
		n.removed = slices.Concat(n.removed, o.removed)
		slices.Sort(n.removed)
		n.removed = slices.Compact(n.removed)
		n.at = o.at
		o.done()
		b.inflight = slices.Delete(b.inflight, 0, 1)
	}
	b.inflight = append(b.inflight, r)
}

// Answer is what a client made of a response.
type Answer struct {
	Known    bool // false: the nonce is stale, and nothing has changed
	Took     time.Duration
	Changes  []*Change   // that the response carried; they are done
	Cleared  []string    // names of which a rejected version was held back until now
	Rejected bool        // then:
	Refused  []Rejection // what is held back from now on
}

// Answer takes an ACK or a rejection. Envoy answers in order: those before it
// count as answered too. It costs what the response holds.
func (b *Books) Answer(r *wire.Request, now time.Time) Answer {
	resp, ok := b.settle(r.Nonce)
	if !ok {
		return Answer{}
	}
	a := Answer{Known: true, Took: now.Sub(resp.at), Changes: resp.changes, Rejected: r.Rejected}
	if r.Rejected {
		b.reject(resp, r.Reason, now, &a)
	} else {
		b.lastAck, b.lastTook = now, a.Took
		b.accept(resp, &a)
	}
	for _, ch := range resp.changes {
		if ch.Follower != nil {
			ch.Follower.Answered(now, r.Rejected)
		}
	}
	resp.done()
	return a
}

// settle finds the response that a nonce answers and takes it, and those
// before it, off the list.
func (b *Books) settle(nonce string) (Response, bool) {
	seq, err := strconv.ParseUint(nonce, 36, 64)
	if err != nil {
		return Response{}, false
	}
	i, ok := slices.BinarySearchFunc(b.inflight, seq, func(r Response, seq uint64) int { return cmp.Compare(r.seq, seq) })
	if !ok {
		return Response{}, false
	}
	r := b.inflight[i]
	for _, skipped := range b.inflight[:i] {
		b.credit(skipped)
		skipped.done()
	}
	b.inflight = slices.Delete(b.inflight, 0, i+1)
	b.settled = seq
	return r, true
}

// accept takes an ACK: what is taken need not be held back or go alone. What is
// no longer held back is looked at again, for the content may have gone back to
// the rejected version while the ACK was on its way: that was a change, and so
// the version is tried once more.
func (b *Books) accept(r Response, a *Answer) {
	b.credit(r)
	free := func(name string) {
		if _, held := b.refused[name]; held {
			unset(&b.refused, name)
			a.Cleared = append(a.Cleared, name)
			b.Mark(name, false)
		}
	}
	for _, e := range r.entries {
		unset(&b.alone, e.Name())
		if b.refused[e.Name()].good != e { // that one only stands in
			free(e.Name())
		}
	}
	for _, name := range r.removed {
		free(name)
		if t := b.names.get(name); b.version(t) == 0 && t.seq() == r.seq {
			b.hear(name, told{})
		}
	}
}

// credit notes what a response told as what the client has.
func (b *Books) credit(r Response) {
	note := func(name string, e *wire.Entry) {
		if b.kind == wire.Members {
			name, e = wire.Collection(name), nil
		}
		switch seq := b.names.get(name).seq(); {
		case seq > r.seq: // a newer one is on its way
			set(&b.before, name, saying(e, r.seq))
		case seq == r.seq:
			unset(&b.before, name)
		}
	}
	for _, e := range r.entries {
		note(e.Name(), e)
	}
	for _, name := range r.removed {
		note(name, nil)
	}
}

// reject takes a NACK. Envoy takes an unknown part of a rejected response: so
// each name of it is sent again alone, until the one that fails alone is known.
// That one is held back at its version; the last good one is sent again, for a
// cluster that was warming has lost its endpoints.
func (b *Books) reject(resp Response, text string, now time.Time, a *Answer) {
	if b.kind == wire.Members {
		// Nothing of it was taken, and clusters have lost their endpoints: the
		// stream can't go on with collections.
		r := Rejection{Name: "", Error: text, At: now}
		if len(resp.entries) > 0 {
			e := resp.entries[0]
			r = Rejection{Name: e.Name(), Version: e.Version(), Source: e.Source(), Error: text, At: now, version: e.Hash()}
		}
		a.Refused = append(a.Refused, r)
		return
	}
	for _, e := range resp.entries {
		name := e.Name()
		t := b.names.get(name)
		if t.seq() == resp.seq {
			t.word |= refused
			b.put(name, t, nil)
		}
		if len(resp.entries) > 1 {
			set(&b.alone, name, struct{}{})
			b.Mark(name, true)
			continue
		}
		unset(&b.alone, name)
		if t.seq() != resp.seq {
			continue // a newer one is on its way
		}
		r, held := b.refused[name]
		switch {
		case held && r.version == b.version(t):
		case held && r.good == e:
			r.good = nil // it is no longer good
			set(&b.refused, name, r)
		default:
			r = Rejection{Name: name, Version: e.Version(), Source: e.Source(), Error: text, At: now, version: e.Hash(), good: b.before[name].known()}
			set(&b.refused, name, r)
			a.Refused = append(a.Refused, r)
			if b.kind == wire.Endpoints && r.good != nil {
				b.Mark(name, true)
			}
		}
	}
}

// Waiting are the names in responses without an answer. Of clusters it is a
// superset of those that are warming.
func (b *Books) Waiting(yield func(string) bool) {
	for _, r := range b.inflight {
		for _, e := range r.entries {
			if !yield(e.Name()) {
				return
			}
		}
	}
}

// Refused are the rejections that are held back, in no order.
func (b *Books) Refused(yield func(Rejection) bool) {
	for _, r := range b.refused {
		if !yield(r) {
			return
		}
	}
}

// Accepted reports whether the client has taken what is now (0: that there is
// none) of a name, or anything that was sent after the response mark. It is
// true for a name that it does not ask for.
func (b *Books) Accepted(name string, now, mark uint64) bool {
	if !b.Wants(name) {
		return true
	}
	ok := b.taken(name)
	if ok.seq() > mark {
		return true
	}
	t := b.names.get(name)
	if b.kind == wire.Members {
		for member := range b.dirty {
			if b.unit(member) == name {
				return false
			}
		}
		return t.seq() <= b.settled
	}
	_, dirty := b.dirty[name]
	return !dirty && b.version(ok) == now && b.version(t) == now && !t.is(refused) && t.seq() <= b.settled
}

// taken is the newest that the client took.
func (b *Books) taken(name string) told {
	if t := b.names.get(name); !t.is(refused) && t.seq() <= b.settled {
		return t
	}
	return b.before[name]
}

// Close gives up on all answers.
func (b *Books) Close() {
	for _, r := range b.inflight {
		r.done()
	}
	b.inflight = nil
}
