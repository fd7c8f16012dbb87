package delta

import (
	"context"
	"slices"

	"patchbay/xds/delta/wire"
)

// WaitAcked waits until every connected stream that subscribes to a name has
// accepted its present state, or a newer one, in whatever view. It returns the
// node ids of those that had not when ctx ended, sorted; nil means all. A
// stream that closes or unsubscribes meanwhile no longer counts; one that
// subscribes meanwhile does.
func (c *Cache) WaitAcked(ctx context.Context, typeURL, name string) (missing []string) {
	k, ok := wire.KindOf(typeURL)
	if !ok {
		return nil
	}
	// What is sent after the mark tells the present state or a newer.
	now, marks := c.seq.Load(), map[*view]uint64{}
	for _, v := range c.allViews() {
		v.mu.RLock()
		if sl := v.sets[k].entries[name]; sl.entry != nil {
			marks[v] = sl.since
		}
		v.mu.RUnlock()
	}
	done := map[*Stream]bool{}
	for {
		all := c.subscribers(k, name)
		before := len(done)
		for _, s := range all {
			if done[s] {
				continue
			}
			done[s] = true
			mark, known := marks[s.view]
			if !known {
				mark = now
			}
			if !s.waitAccepted(ctx, k, name, mark, now) {
				missing = append(missing, s.nodeID)
			}
		}
		if len(done) == before {
			slices.Sort(missing)
			return slices.Compact(missing)
		}
	}
}

// Unacked names the connected nodes that subscribe to a name and have not
// accepted its present state. It only looks.
func (c *Cache) Unacked(typeURL, name string) (missing []string) {
	k, ok := wire.KindOf(typeURL)
	if !ok {
		return nil
	}
	for _, s := range c.subscribers(k, name) {
		if ok, _ := s.hasAccepted(k, name, c.seq.Load(), c.seq.Load()); !ok {
			missing = append(missing, s.nodeID)
		}
	}
	slices.Sort(missing)
	return slices.Compact(missing)
}

func (c *Cache) subscribers(k kind, name string) (all []*Stream) {
	for _, v := range c.allViews() {
		v.mu.RLock()
		all = slices.AppendSeq(all, v.streams.Of(v.sets[k].byName[name], &v.sets[k].wild))
		v.mu.RUnlock()
	}
	return all
}

// waitAccepted blocks until the client has accepted name as it is now, or a
// response sent after mark, or no longer asks for it; and likewise, with
// members, its collections. It is false if ctx ends first.
func (s *Stream) waitAccepted(ctx context.Context, k kind, name string, mark, members uint64) bool {
	for {
		ok, news := s.hasAccepted(k, name, mark, members)
		if ok {
			return true
		}
		select {
		case <-news:
		case <-ctx.Done():
			ok, _ = s.hasAccepted(k, name, mark, members)
			return ok
		}
	}
}

// hasAccepted also returns a channel that is closed when the answer may have
// changed.
func (s *Stream) hasAccepted(k kind, name string, mark, inside uint64) (bool, <-chan struct{}) {
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return true, nil
	}
	var now uint64
	ok := true
	if e := s.lookup(k, name); e != nil {
		now = e.Hash()
		for _, c := range e.Collections() {
			ok = ok && s.books[members].Accepted(c, 0, inside)
		}
	}
	if ok && s.books[k].Accepted(name, now, mark) {
		return true, nil
	}
	if s.news == nil {
		s.news = make(chan struct{})
	}
	return false, s.news
}
