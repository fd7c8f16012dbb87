package books

import (
	"slices"
	"strings"
	"time"

	"patchbay/xds/delta/wire"
)

// TypeStatus is what the books say of one type of a stream.
type TypeStatus struct {
	Type       string    `json:"type"` // cds, eds, sds, lds, rds
	Wildcard   bool      `json:"wildcard"`
	Subscribed int       `json:"subscribed"` // names asked for, without the wildcard
	LastAck    time.Time `json:"lastAck,omitzero"`
	// UnackedSince is when the oldest response without an answer was sent; zero
	// if there is none. For cds it means that a cluster is warming.
	UnackedSince time.Time        `json:"unackedSince,omitzero"`
	Resources    []ResourceStatus `json:"resources"`          // sorted by name
	Missing      []string         `json:"missing,omitempty"`  // asked for and told that there is none; sorted
	Rejected     []Rejection      `json:"rejected,omitempty"` // sorted by name
}

// ResourceStatus is one name of a type. Sent and Accepted are versions; ""
// means none.
type ResourceStatus struct {
	Name     string `json:"name"`
	Sent     string `json:"sent"`
	Accepted string `json:"accepted"`
	Waiting  bool   `json:"waiting"` // for an ACK
	Pending  bool   `json:"pending"` // it changed and was not sent yet
}

// Status is a copy of the books.
func (b *Books) Status() TypeStatus {
	t := TypeStatus{Type: b.kind.String(), Wildcard: b.wildcard, Subscribed: b.asked, LastAck: b.lastAck, Resources: []ResourceStatus{}}
	if len(b.inflight) > 0 {
		t.UnackedSince = b.inflight[0].at
	}
	for name := range b.all(heard) {
		told := b.names.get(name)
		_, dirty := b.dirty[name]
		t.Resources = append(t.Resources, ResourceStatus{Name: name, Sent: wire.FormatVersion(b.version(told)),
			Accepted: wire.FormatVersion(b.version(b.taken(name))), Waiting: told.seq() > b.settled, Pending: dirty})
	}
	for name := range b.Wanted() {
		if !b.Has(name) {
			t.Missing = append(t.Missing, name)
		}
	}
	for _, r := range b.refused {
		t.Rejected = append(t.Rejected, r)
	}
	slices.Sort(t.Missing)
	slices.SortFunc(t.Resources, func(a, b ResourceStatus) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(t.Rejected, func(a, b Rejection) int { return strings.Compare(a.Name, b.Name) })
	return t
}
