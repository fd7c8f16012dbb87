package delta

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"patchbay/xds/delta/wire"
)

// Stream is one Envoy's connection. Its exported methods are safe for
// concurrent use.
type Stream struct {
	cache  *Cache
	log    *slog.Logger
	opened time.Time
	wake   chan struct{} // one slot: there is something to send

	// Set once, before the first request is handled.
	nodeID, cluster string
	view            *view
	viewKey         string

	mu      sync.Mutex
	private [kinds]map[string]*Entry
	books   [kinds]books
	changes []*change     // whose names are marked and not sent yet
	busy    bool          // counted in cache.behind
	closed  bool          // no longer counted anywhere
	news    chan struct{} // closed and forgotten when the books change; nil if nobody waits
}

func newStream(c *Cache, log *slog.Logger) *Stream {
	s := &Stream{cache: c, log: log, opened: time.Now(), wake: make(chan struct{}, 1)}
	for k := range s.books {
		s.books[k] = newBooks()
		s.private[k] = map[string]*Entry{}
	}
	return s
}

// SetPrivate replaces the entries that only this stream sees. They come before
// the view's of the same name. It may be called from [Opener.Open] on and at
// any time later; only names that changed are sent.
func (s *Stream) SetPrivate(entries []*Entry) {
	var next [kinds]map[string]*Entry
	for k := range next {
		next[k] = map[string]*Entry{}
	}
	for _, e := range entries {
		next[e.Kind()][e.Name()] = e
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.private
	s.private = next
	for k := range next {
		for name, e := range next[k] {
			if was := old[k][name]; was == nil || was.Hash() != e.Hash() {
				s.mark(kind(k), name, false)
			}
		}
		for name := range old[k] {
			if next[k][name] == nil {
				s.mark(kind(k), name, false)
			}
		}
	}
	s.rouse()
}

// touch marks a name that changed in the view. The view is locked.
func (s *Stream) touch(k kind, name string, ch *change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mark(k, name, false)
	// A stream that is many changes behind is not measured by each of them.
	const most = 16
	if n := len(s.changes); n < most && (n == 0 || s.changes[n-1] != ch) {
		ch.left.Add(1)
		ch.streams.Add(1)
		s.changes = append(s.changes, ch)
	}
	s.rouse()
}

// mark notes that the client must hear of a name, if it cares; force means
// even if it has the version already.
func (s *Stream) mark(k kind, name string, force bool) {
	b := &s.books[k]
	if b.wants(name) || b.has(name) {
		b.dirty[name] = b.dirty[name] || force
	}
}

// rouse wakes the sender if there is something to send.
func (s *Stream) rouse() {
	something := false
	for k := range s.books {
		something = something || s.books[k].greet || len(s.books[k].dirty) > 0
	}
	if s.closed || !something {
		return
	}
	if !s.busy {
		s.busy = true
		s.cache.behind.Add(1)
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// idle is called when everything collected has been written.
func (s *Stream) idle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy && len(s.wake) == 0 {
		s.busy = false
		s.cache.behind.Add(-1)
	}
}

// finish takes the stream out of all counts. The stream is locked.
func (s *Stream) finish() {
	s.closed = true
	if s.busy {
		s.busy = false
		s.cache.behind.Add(-1)
	}
	for _, ch := range s.changes {
		ch.done()
	}
	s.changes = nil
	for k := range s.books {
		for _, r := range s.books[k].inflight {
			r.done()
		}
		s.books[k].inflight = nil
	}
	s.tell()
}

// tell wakes whoever waits for the books to change. The stream is locked.
func (s *Stream) tell() {
	if s.news != nil {
		close(s.news)
		s.news = nil
	}
}

// handle takes one request. Its error ends the stream.
func (s *Stream) handle(r *wire.Request) error {
	k, ok := wire.KindOf(r.TypeURL)
	if !ok {
		s.cache.metrics.ignored.Inc()
		return nil
	}
	s.mu.Lock()
	if r.Nonce != "" {
		s.answered(k, r)
	}
	quick := s.books[k].seen && len(r.Subscribe) == 0 && len(r.Unsubscribe) == 0
	s.rouse()
	s.tell()
	s.mu.Unlock()
	if quick {
		return nil // an ACK: nothing but this stream was touched
	}
	s.view.mu.Lock()
	defer s.view.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subscribe(k, r)
	s.rouse()
	s.tell()
	n := 0
	for i := range s.books {
		n += len(s.books[i].want)
	}
	if n > wire.MaxNames {
		return fmt.Errorf("the stream subscribes to %d names; allowed are %d", n, wire.MaxNames)
	}
	return nil
}

// subscribe applies the subscription part of a request. A stale nonce does not
// matter here. The view and the stream are locked.
func (s *Stream) subscribe(k kind, r *wire.Request) {
	b, set := &s.books[k], &s.view.sets[k]
	first := !b.seen
	b.seen = true
	if first {
		for name, v := range r.Versions {
			b.told[name] = told{version: wire.ParseVersion(v)}
		}
		if len(r.Subscribe) == 0 && k.Wildcards() {
			s.becomeWildcard(k, false) // the wildcard of old: an empty first request
		}
	}
	for _, name := range r.Subscribe {
		switch {
		case name == "*" && k.Wildcards():
			s.becomeWildcard(k, !first)
		case name == "*":
			// Such a name does not exist: these types are asked for by name.
		default:
			b.want[name] = struct{}{}
			set.subscribe(name, s)
			_, owed := b.owed[name]
			b.dirty[name] = b.dirty[name] || !first || !b.has(name) || owed
		}
	}
	for _, name := range r.Unsubscribe {
		_, asked := b.want[name]
		switch {
		case name == "*" && b.wildcard:
			b.wildcard, b.greet = false, false
			delete(set.wild, s)
		case asked:
			delete(b.want, name)
			set.forget(name, s)
			if b.wildcard {
				b.dirty[name] = true // the client may have let go of it
			}
		}
	}
	if first || len(r.Unsubscribe) > 0 {
		b.prune()
	}
}

// becomeWildcard subscribes to everything; force sends what is known as well.
func (s *Stream) becomeWildcard(k kind, force bool) {
	b, set := &s.books[k], &s.view.sets[k]
	b.wildcard, b.greet = true, true
	set.wild[s] = struct{}{}
	for name := range set.entries {
		s.mark(k, name, force)
	}
	for name := range s.private[k] {
		s.mark(k, name, force)
	}
	for name := range b.told {
		s.mark(k, name, false)
	}
}

// lookup finds what the stream may see under a name. The view is locked for
// reading, the stream is locked.
func (s *Stream) lookup(k kind, name string) *Entry {
	if e := s.private[k][name]; e != nil {
		return e
	}
	return s.view.sets[k].entries[name].entry
}
