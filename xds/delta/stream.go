package delta

import (
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"patchbay/xds/delta/books"
	figures "patchbay/xds/delta/metrics"
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
	claim           Peer   // what every request must say
	nodeID, cluster string // what it is called
	view            *view
	place           int // in the view's crowd
	viewKey         string

	mu      sync.Mutex
	private [kinds]map[string]*Entry
	books   [kinds]*books.Books
	changes []*books.Change // whose names are marked and not sent yet
	marked  time.Time       // when private entries changed that are not sent yet; zero: none
	busy    bool            // counted in cache.behind
	closed  bool            // no longer counted anywhere
	news    chan struct{}   // closed and forgotten when the books change; nil if nobody waits
}

func newStream(c *Cache, log *slog.Logger) *Stream {
	s := &Stream{cache: c, log: log, opened: time.Now(), wake: make(chan struct{}, 1)}
	for k := range s.books {
		s.books[k] = books.New(kind(k))
	}
	return s
}

// rename gives s the name by which it is known, before it is attached.
func (s *Stream) rename(p Peer) {
	if p != (Peer{}) {
		s.nodeID, s.cluster = p.ID, p.Cluster
	}
}

// SetPrivate replaces the entries that only this stream sees. They come before
// the view's of the same name. It may be called from [Opener.Open] on and at
// any time later; only names that changed are sent.
func (s *Stream) SetPrivate(entries []*Entry) {
	var next [kinds]map[string]*Entry
	for _, e := range entries {
		if next[e.Kind()] == nil {
			next[e.Kind()] = map[string]*Entry{}
		}
		next[e.Kind()][e.Name()] = e
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.private
	s.private = next
	mark := func(k int, name string) {
		s.books[k].Mark(name, false)
		if s.marked.IsZero() {
			s.marked = time.Now()
		}
	}
	for k := range next {
		for name, e := range next[k] {
			if was := old[k][name]; was == nil || was.Hash() != e.Hash() {
				mark(k, name)
			}
		}
		for name := range old[k] {
			if next[k][name] == nil {
				mark(k, name)
			}
		}
	}
	s.rouse()
}

// touch marks a name that changed in the view. The view is locked.
func (s *Stream) touch(k kind, name string, ch *books.Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.books[k].Mark(name, false) {
		s.cache.metrics.Coalesced.Inc()
	}
	// A stream that is many changes behind is not measured by each of them.
	const most = 16
	if n := len(s.changes); n < most && (n == 0 || s.changes[n-1] != ch) {
		ch.Reaches()
		s.changes = append(s.changes, ch)
	}
	s.rouse()
}

// rouse wakes the sender if there is something to send.
func (s *Stream) rouse() {
	something := false
	for _, b := range s.books {
		something = something || b.Pending()
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
		ch.Done()
	}
	s.changes = nil
	for _, b := range s.books {
		b.Close()
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
		s.cache.metrics.Ignored.Inc()
		return nil
	}
	s.mu.Lock()
	if r.Nonce != "" {
		s.answered(k, r)
	}
	if k == members && r.Rejected {
		s.mu.Unlock()
		return errNoCollections
	}
	quick := s.books[k].Seen() && len(r.Subscribe) == 0 && len(r.Unsubscribe) == 0
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
	if s.closed {
		return nil // it came while the stream was ended, which asks for nothing
	}
	s.view.sets[k].subscribe(s, s.books[k].Ask(r, s.names(k), func(name string) (string, *Entry) { return s.intern(k, name) }))
	s.rouse()
	s.tell()
	n := 0
	for _, b := range s.books {
		n += b.Size()
	}
	if n > wire.MaxNames {
		return fmt.Errorf("the stream subscribes to %d names; allowed are %d", n, wire.MaxNames)
	}
	return nil
}

// errNoCollections ends a stream that has rejected members. Its next gets its
// endpoints in assignments: see [Stream.TakesCollections].
var errNoCollections = errors.New("members of a collection were rejected: come back for assignments")

// TakesCollections reports whether the node may be given endpoints in
// collections: it has never rejected one.
func (s *Stream) TakesCollections() bool { return !s.cache.rejected.Any(s.nodeID, members) }

// answered takes an ACK or a rejection. The stream is locked.
func (s *Stream) answered(k kind, r *wire.Request) {
	m := s.cache.metrics
	a := s.books[k].Answer(r, time.Now())
	if !a.Known {
		return
	}
	s.cache.Passing.Answered(s.nodeID, k, r, a.Took)
	if len(a.Cleared) > 0 {
		s.cache.rejected.Forget(s.nodeID, k, a.Cleared)
	}
	if k == endpoints && s.books[k].Settled() {
		s.cache.rejected.Doubt(s.nodeID, false)
	}
	if !a.Rejected {
		m.Ack.Observe(a.Took.Seconds())
		for _, ch := range a.Changes {
			figures.Since(m.EachAck, ch)
		}
		return
	}
	m.ByKind[k].Nacks.Inc()
	for _, x := range a.Refused {
		s.cache.rejected.Keep(s.nodeID, k, x)
		s.log.Warn("envoy rejected a resource", "node", s.nodeID, "type", k.String(), "name", x.Name,
			"version", x.Version, "source", x.Source, "error", x.Error)
	}
	if k != endpoints {
		return
	}
	s.cache.rejected.Doubt(s.nodeID, true)
	// A rejection ends the waiting of other clusters, empty: theirs go again.
	for name := range s.books[clusters].Waiting {
		if !s.books[k].Alone(name) && s.books[k].Wants(name) {
			s.books[k].Mark(name, true)
		}
	}
}

// names are all that the stream may see of a type. The view and the stream
// are locked.
func (s *Stream) names(k kind) iter.Seq[string] {
	return func(yield func(string) bool) {
		for name := range s.view.sets[k].entries {
			if !yield(name) {
				return
			}
		}
		for name := range s.private[k] {
			if !yield(name) {
				return
			}
		}
	}
}

// intern is the one copy of a name that is kept, and what the stream may see
// under it. The view and the stream are locked.
func (s *Stream) intern(k kind, name string) (string, *Entry) {
	e := s.lookup(k, name)
	if e != nil {
		name = e.Name()
	}
	return name, e
}

// lookup finds what the stream may see under a name. The view is locked for
// reading, the stream is locked.
func (s *Stream) lookup(k kind, name string) *Entry {
	if e := s.private[k][name]; e != nil {
		return e
	}
	return s.view.sets[k].entries[name].entry
}
