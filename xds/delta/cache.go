package delta

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"patchbay/xds/delta/books"
	"patchbay/xds/delta/crowd"
	figures "patchbay/xds/delta/metrics"
	"patchbay/xds/delta/watch"
	"patchbay/xds/delta/wire"
)

// Cache holds the views and knows which stream subscribes to what. It is safe
// for concurrent use.
//
// Locks are taken in the order cache, view, stream, and none is held while a
// message is sent.
type Cache struct {
	mu    sync.Mutex
	views map[string]*view

	seq     atomic.Uint64 // of responses, over all streams: the nonce
	streams atomic.Int64  // attached
	behind  atomic.Int64  // of them, those that have something to send
	metrics *figures.Set

	rejected *books.Memory
	Passing  watch.Hub // shows what passes on the streams
}

// nodesKept bounds how many nodes' rejections are remembered.
const nodesKept = 4096

// view is what many streams see in common.
type view struct {
	mu      sync.RWMutex
	sets    [kinds]set
	streams crowd.Crowd[*Stream]
}

// set is one type of a view: its entries, and who is to be told of them.
type set struct {
	entries map[string]slot
	byName  map[string]*crowd.Group // members are asked for by collection
	wild    crowd.Group

	collections map[string]*collection // of members only
}

// slot is a name's entry, and the number of the last response that was made
// before it: every later one tells this entry or a newer.
type slot struct {
	entry *Entry
	since uint64
}

// NewCache returns a cache without views. metrics may be nil.
func NewCache(metrics *figures.Set) *Cache {
	if metrics == nil {
		metrics = NewMetrics(nil)
	}
	c := &Cache{views: map[string]*view{}, metrics: metrics, rejected: books.NewMemory(nodesKept)}
	metrics.Ask(figures.Now{Behind: func() int { n, _ := c.Behind(); return n }, HeldBack: c.heldBack})
	return c
}

func (c *Cache) view(key string) *view {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.views[key]
	if v == nil {
		v = &view{}
		for k := range v.sets {
			v.sets[k] = set{entries: map[string]slot{}, byName: map[string]*crowd.Group{}, collections: map[string]*collection{}}
		}
		c.views[key] = v
	}
	return v
}

// allStreams are the attached streams of all views, in no order.
func (c *Cache) allStreams() (all []*Stream) {
	for _, v := range c.allViews() {
		v.mu.RLock()
		all = slices.AppendSeq(all, v.streams.All())
		v.mu.RUnlock()
	}
	return all
}

func (c *Cache) allViews() []*view {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]*view, 0, len(c.views))
	for _, v := range c.views {
		all = append(all, v)
	}
	return all
}

// Apply changes one view, in one step: a stream sees all of it or nothing. An
// entry whose version the view already has is no change. Only streams that
// subscribe to a changed name are woken. It returns how many entries changed.
// A view that does not exist is made. f is told of the change's way to the last
// ACK; it may be nil.
func (c *Cache) Apply(key string, entries []*Entry, removed []Ref, f Follower) int {
	v := c.view(key)
	ch := books.NewChange(time.Now(), c.metrics.Over)
	ch.Follower = f
	defer ch.Done()
	v.mu.Lock()
	defer v.mu.Unlock()
	n := 0
	for _, e := range entries {
		s := &v.sets[e.Kind()]
		if old := s.entries[e.Name()].entry; old != nil && old.Hash() == e.Hash() {
			continue
		}
		s.entries[e.Name()] = slot{e, c.seq.Load()}
		if e.Kind() == members {
			s.join(e.Name())
		}
		v.touch(e.Kind(), e.Name(), ch)
		n++
	}
	for _, r := range removed {
		k, ok := wire.KindOf(r.TypeURL)
		if !ok {
			continue
		}
		s := &v.sets[k]
		if k == members && wire.IsCollection(r.Name) {
			s.dissolve(r.Name)
			continue
		}
		if s.entries[r.Name].entry == nil {
			continue
		}
		delete(s.entries, r.Name)
		if k == members {
			s.part(r.Name)
		}
		v.touch(k, r.Name, ch)
		n++
	}
	if n > 0 {
		c.metrics.Pushes.Inc()
		c.metrics.Changed.Add(float64(n))
	}
	return n
}

// touch tells every stream that subscribes to name. The view is locked.
func (v *view) touch(k kind, name string, ch *books.Change) {
	s, by := &v.sets[k], name
	if k == members {
		by = wire.Collection(name)
	}
	for st := range v.streams.Of(s.byName[by], &s.wild) {
		st.touch(k, name, ch)
	}
}

// Drop forgets a view that no stream sees. It reports whether the view is
// gone.
func (c *Cache) Drop(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.views[key]
	if v == nil {
		return true
	}
	v.mu.RLock()
	used := v.streams.Size() > 0
	v.mu.RUnlock()
	if !used {
		delete(c.views, key)
	}
	return !used
}

// Behind is how many of all streams still have something to send: changes come
// faster than they can be written, or a reader is slow.
func (c *Cache) Behind() (behind, streams int) {
	return int(c.behind.Load()), int(c.streams.Load())
}

// attach makes s see the view, from its first request on.
func (c *Cache) attach(key string, s *Stream) {
	v := c.view(key)
	v.mu.Lock()
	defer v.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.view, s.viewKey = v, key
	s.place = v.streams.Enter(s)
	c.streams.Add(1)
	c.rejected.Recall(s.nodeID, &s.books, s.lookup)
}

// detach forgets s. Nobody waits for it any more.
func (c *Cache) detach(s *Stream) {
	v := s.view
	v.mu.Lock()
	defer v.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	c.streams.Add(-1)
	if s.books[endpoints].Open() {
		c.rejected.Doubt(s.nodeID, true) // its answer may have been a rejection
	}
	for k := range v.sets {
		v.sets[k].wild.Remove(s.place)
		for name := range s.books[k].Wanted() {
			v.sets[k].forget(name, s)
		}
	}
	v.streams.Leave(s.place)
	s.finish()
}

// subscribe notes what a request of st asked for.
func (s *set) subscribe(st *Stream, a books.Asked) {
	for _, name := range a.Added {
		if s.byName[name] == nil {
			s.byName[name] = &crowd.Group{}
		}
		s.byName[name].Add(st.place)
	}
	for _, name := range a.Dropped {
		s.forget(name, st)
	}
	if a.Wildcard {
		s.wild.Add(st.place)
	} else {
		s.wild.Remove(st.place)
	}
}

func (s *set) forget(name string, st *Stream) {
	if g := s.byName[name]; g != nil {
		if g.Remove(st.place); g.Size() == 0 {
			delete(s.byName, name)
		}
	}
}

// heldBack is how many rejected resources are held back, over all streams.
func (c *Cache) heldBack() (n int) {
	for _, s := range c.allStreams() {
		s.mu.Lock()
		for _, b := range s.books {
			for range b.Refused {
				n++
			}
		}
		s.mu.Unlock()
	}
	return n
}
