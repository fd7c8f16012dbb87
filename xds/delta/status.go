package delta

import (
	"cmp"
	"slices"
	"time"

	"patchbay/xds/delta/books"
)

// StreamStatus is what the books say of one Envoy.
type StreamStatus struct {
	Node    string       `json:"node"`
	Cluster string       `json:"cluster"`
	View    string       `json:"view"`
	Opened  time.Time    `json:"opened"`
	Types   []TypeStatus `json:"types"` // in the order of sending; only types that were asked for
	// Warming says of each cluster without an ACK for what Envoy may be waiting,
	// sorted. Envoy withholds the ACKs of all clusters while one warms.
	Warming []string `json:"warming,omitempty"`
}

// Status is the state of all streams, sorted by node, then by age.
func (c *Cache) Status() []StreamStatus {
	all := []StreamStatus{}
	for _, s := range c.allStreams() {
		all = append(all, s.status())
	}
	slices.SortFunc(all, func(a, b StreamStatus) int { return cmp.Or(cmp.Compare(a.Node, b.Node), a.Opened.Compare(b.Opened)) })
	return all
}

func (s *Stream) status() StreamStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := StreamStatus{Node: s.nodeID, Cluster: s.cluster, View: s.viewKey, Opened: s.opened}
	for _, b := range s.books {
		if b.Seen() {
			st.Types = append(st.Types, b.Status())
		}
	}
	st.Warming = books.Warming(&s.books)
	return st
}

// Wanted is the state of the newest stream of a node, and the entries that it
// should have: of the names that it asked for, what there is now, in no order
// and some twice. It is nil if the node has no stream here.
func (c *Cache) Wanted(node string) (*StreamStatus, []*Entry) {
	var s *Stream
	for _, o := range c.allStreams() {
		if o.nodeID == node && (s == nil || o.opened.After(s.opened)) {
			s = o
		}
	}
	if s == nil {
		return nil, nil
	}
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	st := s.status()
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*Entry
	for k, b := range s.books {
		for name := range s.names(kind(k)) {
			if b.Wants(name) {
				out = append(out, s.lookup(kind(k), name))
			}
		}
	}
	return &st, out
}
