package books

import "patchbay/xds/delta/wire"

// Verdict is what the client must hear of a name.
type Verdict int

// The verdicts.
const (
	Nothing     Verdict = iota
	Send                // the entry
	Gone                // that there is none
	Placeholder         // that it is empty: Envoy waits, and absence would not end that
)

// Judge says what the client must hear of a due name, of which e is the entry
// or nil. stays says, for endpoints, that their cluster stays. What is to be
// sent may be an older entry: while the newest is refused, the last good one
// stands in its place.
func (b *Books) Judge(d Due, e *wire.Entry, stays bool) (*wire.Entry, Verdict) {
	t := b.names.get(d.Name)
	has := b.version(t)
	// Unknown and new: the client must not wait for it.
	absent := Nothing
	if has == 0 && d.Force && b.Wants(d.Name) {
		absent = Gone
		if b.kind == wire.Endpoints {
			absent = Placeholder
		}
	}
	if r, held := b.refused[d.Name]; held && e != nil && r.version == e.Hash() {
		if e = b.standIn(r.good, t); e == nil {
			return nil, absent // held back until its content changes
		}
	}
	switch {
	case e != nil && !b.Wants(d.Name), e != nil && has == e.Hash() && !d.Force:
		return nil, Nothing
	case e != nil:
		return e, Send
	case absent != Nothing:
		return nil, absent
	case b.kind == wire.Endpoints && stays:
		return nil, Nothing // never take the endpoints of a cluster that stays
	case has != 0, d.Force && b.Wants(d.Name):
		return nil, Gone
	}
	return nil, Nothing
}

// standIn is what takes the place of a refused version: what the client was
// told since, or the last that it accepted, unless it says that it has another.
func (b *Books) standIn(good *wire.Entry, t told) *wire.Entry {
	switch v := b.version(t); {
	case v == 0 || t.is(refused):
		return good
	case t.is(claimed) && good != nil && (v == good.Hash() || v == unknown):
		return good
	}
	return t.known()
}

// Split parts entries that Envoy waits for from the others, each in order.
func (b *Books) Split(all []*wire.Entry) (awaited, rest []*wire.Entry) {
	for _, e := range all {
		if b.Awaited(e.Name()) {
			awaited = append(awaited, e)
		} else {
			rest = append(rest, e)
		}
	}
	return awaited, rest
}
