package delta

import (
	"maps"
	"slices"
	"strconv"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"patchbay/xds/delta/wire"
)

const (
	// maxFrame keeps responses below the 4 MiB that gRPC clients accept.
	maxFrame = 2 << 20
	// window is how many unanswered responses of plain endpoint updates a
	// client may have; what changes meanwhile is merged. Envoy's cost is per
	// response, and it does not merge by itself.
	window = 4
	// windowWait is after how long an unanswered response stops counting: a
	// response of a type without subscription is never answered.
	windowWait = 5 * time.Second
)

// outgoing is a response, ready to be written.
type outgoing struct {
	kind  kind
	frame *wire.Frame
}

// flush is one round of responses. What is added goes out in the order of
// kinds, then what is removed, referrers first: nothing that is in use is ever
// missing.
type flush struct {
	*Stream
	now     time.Time
	changes []*change
	out     []outgoing
	held    bool // something waits for the window
}

// collect turns marked names into responses and books them as sent. It reports
// whether it must be called again after windowWait even if nothing happens.
func (s *Stream) collect() (out []outgoing, again bool) {
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &flush{Stream: s, now: time.Now(), changes: s.changes}
	s.changes = nil
	var removed [kinds][]string
	for k := range kinds {
		b, before := &s.books[k], len(f.out)
		if k == endpoints {
			s.owe(removed[clusters])
		}
		var upserts []*Entry
		upserts, removed[k] = f.take(k)
		if k == endpoints {
			// Those that Envoy waits for travel apart: a rejection of another
			// cluster's endpoints must not end their waiting.
			warming, rest := splitWarming(b, upserts)
			f.add(k, warming)
			f.add(k, rest)
		} else {
			f.add(k, upserts)
		}
		if b.greet && len(f.out) == before {
			f.respond(k, nil, nil)
		}
		b.greet = false
		for _, e := range upserts {
			if k == clusters {
				s.books[endpoints].owed[e.Name()] = struct{}{}
			} else if k == endpoints {
				delete(b.owed, e.Name())
			}
		}
	}
	for _, k := range []kind{listeners, routes, clusters, endpoints, secrets} {
		if len(removed[k]) > 0 {
			f.respond(k, nil, removed[k])
		}
	}
	for _, ch := range f.changes {
		ch.done() // this stream has sent; its responses are counted by now
	}
	s.tell()
	return f.out, f.held
}

// owe marks the endpoints of every cluster sent since they were: Envoy does
// not ask again, and would wait. Those of a removed cluster may go now. The
// stream is locked.
func (s *Stream) owe(removed []string) {
	b := &s.books[endpoints]
	for _, name := range removed {
		delete(b.owed, name)
		s.mark(endpoints, name, false)
	}
	for name := range b.owed {
		if b.wants(name) {
			b.dirty[name] = true
		}
	}
}

func splitWarming(b *books, all []*Entry) (warming, rest []*Entry) {
	for _, e := range all {
		if _, owed := b.owed[e.Name()]; owed || b.told[e.Name()].version == 0 {
			warming = append(warming, e)
		} else {
			rest = append(rest, e)
		}
	}
	return warming, rest
}

// take empties the dirty set of a type into what must be sent and what must be
// said to be gone, each sorted by name.
func (f *flush) take(k kind) (upserts []*Entry, removed []string) {
	b := &f.books[k]
	full := k == endpoints && len(b.inflight) >= window && f.now.Sub(b.inflight[len(b.inflight)-window].at) < windowWait
	for _, name := range slices.Sorted(maps.Keys(b.dirty)) {
		force := b.dirty[name]
		if full && !force {
			f.held = true
			continue
		}
		delete(b.dirty, name)
		switch e, gone := f.decide(k, name, force); {
		case e != nil:
			upserts = append(upserts, e)
		case gone:
			removed = append(removed, name)
		}
	}
	return upserts, removed
}

// decide says what the client must hear of one name: an entry, that there is
// none, or nothing.
func (f *flush) decide(k kind, name string, force bool) (e *Entry, gone bool) {
	b := &f.books[k]
	e, t := f.lookup(k, name), b.told[name]
	switch {
	case e != nil && !b.wants(name):
		return nil, false
	case e != nil && b.refused[name].version == e.Hash():
		return nil, false // held back until its content changes
	case e != nil && t.version == e.Hash() && !force:
		return nil, false
	case e != nil:
		return e, false
	case k == endpoints && t.version == 0 && force && b.wants(name):
		// Unknown and new: Envoy must not wait for it.
		return emptyAssignment(name), false
	case k == endpoints && f.lookup(clusters, name) != nil:
		return nil, false // never take the endpoints of a cluster that stays
	case t.version != 0, force && b.wants(name):
		return nil, true // gone, or asked for and unknown
	}
	return nil, false
}

func emptyAssignment(name string) *Entry {
	e, err := NewEntry(EndpointType, name, &endpointv3.ClusterLoadAssignment{ClusterName: name})
	if err != nil {
		return nil // not UTF-8, which the decoder refuses
	}
	return e
}

// add sends entries together, except those that must go alone.
func (f *flush) add(k kind, all []*Entry) {
	var batch []*Entry
	size := 0
	for _, e := range all {
		if _, alone := f.books[k].alone[e.Name()]; alone {
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
	b, seq := &f.books[k], f.cache.seq.Add(1)
	r := response{seq: seq, at: f.now, removed: removed, changes: f.changes}
	bytes := make([][]byte, 0, len(entries))
	for _, e := range entries {
		r.items = append(r.items, item{e.Name(), e.Hash()})
		bytes = append(bytes, e.Bytes())
		b.record(e.Name(), e.Hash(), seq)
	}
	for _, name := range removed {
		b.record(name, 0, seq)
	}
	for _, ch := range f.changes {
		ch.left.Add(1)
	}
	b.sent(r)
	f.out = append(f.out, outgoing{k, wire.NewFrame(k.TypeURL(), strconv.FormatUint(seq, 36), bytes, removed)})
}
