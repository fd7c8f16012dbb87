package delta

import (
	"cmp"
	"fmt"
	"slices"
	"time"
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
	st.Warming = s.warming()
	return st
}

// warming explains every cluster without an ACK. The stream is locked.
func (s *Stream) warming() (all []string) {
	eds := s.books[endpoints]
	var missing []string
	for name := range s.books[secrets].Wanted() {
		if !s.books[secrets].Has(name) {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	for name := range s.books[clusters].Waiting {
		switch {
		case !eds.Wants(name):
			all = append(all, fmt.Sprintf("%s: Envoy has not asked for its endpoints", name))
		case eds.Awaited(name):
			all = append(all, fmt.Sprintf("%s: its endpoints have not been sent", name))
		case len(missing) > 0:
			all = append(all, fmt.Sprintf("%s: its endpoints have been sent; secrets that do not exist: %q", name, missing))
		default:
			all = append(all, fmt.Sprintf("%s: everything has been sent", name))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
