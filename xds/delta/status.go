package delta

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"patchbay/xds/delta/wire"
)

// StreamStatus is what the books say of one Envoy.
type StreamStatus struct {
	Node    string
	Cluster string
	View    string
	Opened  time.Time
	Types   []TypeStatus // in the order of sending; only types that were asked for
}

// TypeStatus is one type of a stream.
type TypeStatus struct {
	Type       string // cds, eds, sds, lds, rds
	Wildcard   bool
	Subscribed int // names asked for, without the wildcard
	LastAck    time.Time
	// UnackedSince is when the oldest response without an answer was sent; zero
	// if there is none. For cds it means that a cluster is warming.
	UnackedSince time.Time
	Resources    []ResourceStatus // sorted by name
	Rejected     []Rejection      // sorted by name
}

// ResourceStatus is one name of a type. Sent and Accepted are versions; ""
// means none.
type ResourceStatus struct {
	Name     string
	Sent     string
	Accepted string
	Waiting  bool // for an ACK
	Pending  bool // it changed and was not sent yet
}

// Status is the state of all streams, sorted by node, then by age.
func (c *Cache) Status() []StreamStatus {
	var all []StreamStatus
	for _, v := range c.allViews() {
		v.mu.RLock()
		streams := slices.Collect(maps.Keys(v.streams))
		v.mu.RUnlock()
		for _, s := range streams {
			all = append(all, s.status())
		}
	}
	slices.SortFunc(all, func(a, b StreamStatus) int { return cmp.Or(cmp.Compare(a.Node, b.Node), a.Opened.Compare(b.Opened)) })
	return all
}

func (s *Stream) status() StreamStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := StreamStatus{Node: s.nodeID, Cluster: s.cluster, View: s.viewKey, Opened: s.opened}
	for k := range s.books {
		b := &s.books[k]
		if !b.seen {
			continue
		}
		t := TypeStatus{Type: kind(k).String(), Wildcard: b.wildcard, Subscribed: len(b.want), LastAck: b.lastAck}
		if len(b.inflight) > 0 {
			t.UnackedSince = b.inflight[0].at
		}
		for name, told := range b.told {
			ok, _ := b.accepted(name)
			_, dirty := b.dirty[name]
			t.Resources = append(t.Resources, ResourceStatus{Name: name, Sent: wire.FormatVersion(told.version),
				Accepted: wire.FormatVersion(ok), Waiting: told.seq > b.settled, Pending: dirty})
		}
		slices.SortFunc(t.Resources, func(a, b ResourceStatus) int { return cmp.Compare(a.Name, b.Name) })
		for _, r := range b.refused {
			t.Rejected = append(t.Rejected, r)
		}
		slices.SortFunc(t.Rejected, func(a, b Rejection) int { return cmp.Compare(a.Name, b.Name) })
		st.Types = append(st.Types, t)
	}
	return st
}
