package delta

import (
	"cmp"
	"slices"
	"time"

	"patchbay/xds/delta/books"
)

// StreamBrief is what one line says of one Envoy.
type StreamBrief struct {
	Node    string
	View    string
	Opened  time.Time
	Types   []books.Brief // in the order of sending; only types that were asked for
	Warming []string      // as in [StreamStatus]
	// Behind is when the oldest change was made that is not sent yet; zero if
	// there is none.
	Behind time.Time
}

// Brief is the state of all streams, sorted by node, then by age. While all is
// well it does not look at single resources, so it may be asked for often.
func (c *Cache) Brief() []StreamBrief {
	var all []StreamBrief
	for _, s := range c.allStreams() {
		all = append(all, s.brief())
	}
	slices.SortFunc(all, func(a, b StreamBrief) int { return cmp.Or(cmp.Compare(a.Node, b.Node), a.Opened.Compare(b.Opened)) })
	return all
}

// behind is when the oldest change was made that is not sent. The stream is
// locked.
func (s *Stream) behind() time.Time {
	at := s.marked
	for _, ch := range s.changes {
		if at.IsZero() || ch.At.Before(at) {
			at = ch.At
		}
	}
	return at
}

func (s *Stream) brief() StreamBrief {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := StreamBrief{Node: s.nodeID, View: s.viewKey, Opened: s.opened, Behind: s.behind()}
	for _, b := range s.books {
		if b.Seen() {
			out.Types = append(out.Types, b.Brief())
		}
	}
	out.Warming = books.Warming(&s.books)
	return out
}
