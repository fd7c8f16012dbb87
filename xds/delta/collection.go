package delta

import (
	"maps"
	"slices"

	"patchbay/xds/delta/wire"
)

// collection is what a view has of one collection of members. Envoy remembers
// no versions of members, so that nobody can tell what a returning client has:
// it is sent the whole, and told of everything that ever left.
type collection struct {
	names map[string]struct{}
	gone  map[string]struct{}
}

// join notes a new or changed member. The view is locked.
func (s *set) join(member string) {
	name := wire.Collection(member)
	c := s.collections[name]
	if c == nil {
		c = &collection{names: map[string]struct{}{}, gone: map[string]struct{}{}}
		s.collections[name] = c
	}
	c.names[member] = struct{}{}
	delete(c.gone, member)
}

// part notes a member that has left. The view is locked.
func (s *set) part(member string) {
	if c := s.collections[wire.Collection(member)]; c != nil {
		delete(c.names, member)
		c.gone[member] = struct{}{}
	}
}

// dissolve forgets a collection without a word to those who asked for it: their
// assignments name another now, and what they have serves until it has come.
// The view is locked.
func (s *set) dissolve(name string) {
	if c := s.collections[name]; c != nil {
		for member := range c.names {
			delete(s.entries, member)
		}
		delete(s.collections, name)
	}
}

// collections sends members. A collection that was asked for goes as a whole
// in one response, for Envoy takes the first one for all of it; what changed in
// others goes together.
func (f *flush) collections() {
	b, s := f.books[members], &f.view.sets[members]
	due, held := b.Take(f.now)
	f.again = f.again || held
	whole := map[string]bool{}
	for _, d := range due {
		if wire.IsCollection(d.Name) {
			whole[d.Name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(whole)) {
		f.whole(name, s.collections[name])
	}
	var upserts []*Entry
	var removed []string
	for _, d := range due {
		if name := wire.Collection(d.Name); whole[name] || s.collections[name] == nil {
			continue
		}
		if e := s.entries[d.Name].entry; e != nil {
			upserts = append(upserts, e)
		} else {
			removed = append(removed, d.Name)
		}
	}
	if len(upserts)+len(removed) > 0 {
		f.respond(members, upserts, removed)
	}
}

// whole sends a collection. An empty one, or one that does not exist, is
// answered by its own name being removed: silence would be waited for.
func (f *flush) whole(name string, c *collection) {
	if !f.books[members].Wants(name) {
		return
	}
	if c == nil {
		f.respond(members, nil, []string{name})
		return
	}
	all := make([]*Entry, 0, len(c.names))
	for _, member := range slices.Sorted(maps.Keys(c.names)) {
		all = append(all, f.view.sets[members].entries[member].entry)
	}
	removed := slices.Sorted(maps.Keys(c.gone))
	if len(all) == 0 {
		removed = append(removed, name)
	}
	f.respond(members, all, removed)
}
