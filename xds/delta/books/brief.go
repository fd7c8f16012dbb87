package books

import (
	"slices"
	"strings"
	"time"

	"patchbay/xds/delta/wire"
)

// Brief is what one line says of the books. Unlike [TypeStatus] it costs next
// to nothing while all is well, whatever the number of resources.
type Brief struct {
	Type         string // cds, eds, sds, lds, rds
	Resources    int    // names that the client was told of
	LastAck      time.Time
	LastTook     time.Duration // from sending what LastAck answered
	UnackedSince time.Time     // as in TypeStatus
	Waiting      []string      // for an ACK; sorted
	Pending      []string      // changed and not sent yet; sorted
	Missing      []string      // of sds: asked for and not there; sorted
	Rejected     []Rejection   // sorted by name
}

// Brief is a short copy of the books.
func (b *Books) Brief() Brief {
	out := Brief{Type: b.kind.String(), Resources: b.held, LastAck: b.lastAck, LastTook: b.lastTook}
	if len(b.inflight) > 0 {
		out.UnackedSince = b.inflight[0].at
		for name := range b.Waiting {
			out.Waiting = append(out.Waiting, name)
		}
		slices.Sort(out.Waiting)
		out.Waiting = slices.Compact(out.Waiting)
	}
	for name := range b.dirty {
		out.Pending = append(out.Pending, name)
	}
	if b.kind == wire.Secrets {
		for name := range b.Wanted() {
			if !b.Has(name) {
				out.Missing = append(out.Missing, name)
			}
		}
	}
	for _, r := range b.refused {
		out.Rejected = append(out.Rejected, r)
	}
	slices.Sort(out.Pending)
	slices.Sort(out.Missing)
	slices.SortFunc(out.Rejected, func(a, b Rejection) int { return strings.Compare(a.Name, b.Name) })
	return out
}
