package delta

import (
	"time"

	"patchbay/xds/delta/books"
	"patchbay/xds/delta/wire"
)

// maxFrame keeps responses below the 4 MiB that gRPC clients accept.
const maxFrame = 2 << 20

// outgoing is a response, ready to be written.
type outgoing struct {
	kind   kind
	frame  *wire.Frame
	shared bool // made for another stream

	nonce   string
	entries []*Entry
	removed []string
}

// flush is one round of responses. What is added goes out in the order of
// kinds, then what is removed, referrers first: nothing that is in use is ever
// missing.
type flush struct {
	*Stream
	now     time.Time
	changes []*books.Change
	out     []outgoing
	again   bool // something waits for an answer
}

// collect turns marked names into responses and books them as sent. It reports
// whether it must be called again after [books.Patience] even if nothing
// happens.
func (s *Stream) collect() (out []outgoing, again bool) {
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &flush{Stream: s, now: time.Now(), changes: s.changes}
	s.changes, s.marked = nil, time.Time{}
	dirty := 0
	var removed [kinds][]string
	for k, b := range s.books {
		k, before := kind(k), len(f.out)
		dirty += b.Dirty()
		if k == endpoints {
			s.owe(removed[clusters])
		}
		var upserts []*Entry
		if k == members {
			f.collections()
			continue
		}
		upserts, removed[k] = f.take(k)
		switch k {
		case endpoints:
			// Those that Envoy waits for travel apart: a rejection of another
			// cluster's endpoints must not end their waiting.
			warming, rest := b.Split(upserts)
			f.add(k, warming)
			f.add(k, rest)
		case clusters:
			f.add(k, upserts)
			for _, e := range upserts {
				s.books[endpoints].Owe(e.Name())
			}
		default:
			f.add(k, upserts)
		}
		if b.Greet() && len(f.out) == before {
			f.respond(k, nil, nil)
		}
	}
	s.cache.metrics.Dirty.Observe(float64(dirty))
	f.remove(removed)
	if f.again {
		s.changes = f.changes // not sent in full
	} else {
		for _, ch := range f.changes {
			ch.Sent(f.now) // its responses are counted by now
		}
	}
	s.tell()
	return f.out, f.again
}

// remove says what is gone. Clusters and their endpoints wait until the client
// has answered the listeners and routes that no longer refer to them.
func (f *flush) remove(removed [kinds][]string) {
	for _, k := range []kind{listeners, routes, clusters, endpoints, secrets} {
		if len(removed[k]) == 0 {
			continue
		}
		if (k == clusters || k == endpoints) && (f.books[listeners].Unanswered(f.now) || f.books[routes].Unanswered(f.now)) {
			for _, name := range removed[k] {
				f.books[k].PutBack(name)
			}
			f.again = true
			continue
		}
		f.respond(k, nil, removed[k])
	}
}

// owe marks the endpoints of every cluster sent since they were: Envoy does
// not ask again, and would wait. Those of a removed cluster may go now. The
// stream is locked.
func (s *Stream) owe(removed []string) {
	b := s.books[endpoints]
	for _, name := range removed {
		b.Release(name)
		b.Mark(name, false)
	}
	b.Owing()
}

// take empties the dirty set of a type into what must be sent and what must be
// said to be gone, each sorted by name.
func (f *flush) take(k kind) (upserts []*Entry, removed []string) {
	b := f.books[k]
	due, held := b.Take(f.now)
	f.again = f.again || held
	upserts = make([]*Entry, 0, len(due))
	for _, d := range due {
		switch e, v := b.Judge(d, f.lookup(k, d.Name), k == endpoints && f.lookup(clusters, d.Name) != nil); v {
		case books.Nothing:
		case books.Send:
			upserts = append(upserts, e)
			if d.Force {
				// Envoy may wait for them again, and does not ask again.
				for _, c := range e.Collections() {
					f.books[members].Mark(c, true)
				}
			}
		case books.Gone:
			removed = append(removed, d.Name)
		case books.Placeholder:
			if e := wire.EmptyAssignment(d.Name); e != nil {
				upserts = append(upserts, e)
			}
		}
	}
	return upserts, removed
}

// add sends entries together, except those that must go alone.
func (f *flush) add(k kind, all []*Entry) {
	batch, size := make([]*Entry, 0, len(all)), 0
	for _, e := range all {
		if f.books[k].Alone(e.Name()) {
			f.respond(k, []*Entry{e}, nil)
			continue
		}
		if size += len(e.Bytes()); size > maxFrame && len(batch) > 0 {
			f.respond(k, batch, nil)
			batch, size = nil, len(e.Bytes())
		}
		batch = append(batch, e)
	}
	if len(batch) > 0 {
		f.respond(k, batch, nil)
	}
}

// respond makes one response and books it.
func (f *flush) respond(k kind, entries []*Entry, removed []string) {
	b := f.books[k]
	next := func() uint64 { return f.cache.seq.Add(1) }
	o := outgoing{kind: k, entries: entries, removed: removed}
	var seq uint64
	if len(entries) == 1 && len(removed) == 0 {
		o.frame, seq, o.shared = entries[0].Solo(b.Last(), next)
	} else {
		seq = next()
		o.frame = wire.NewFrame(k.TypeURL(), wire.Nonce(seq), entries, removed)
	}
	o.nonce = wire.Nonce(seq)
	b.Sent(seq, f.now, entries, removed, f.changes)
	f.cache.Passing.Sent(f.nodeID, k, o.nonce, o.frame.Size(), entries, removed)
	f.out = append(f.out, o)
}
