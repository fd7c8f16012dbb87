package xds

import (
	"log/slog"
	"slices"
	"time"

	"patchbay/mesh"
	"patchbay/xds/delta"
	"patchbay/xds/leds"
	"patchbay/xds/transition"
	"patchbay/xds/translate"
	"patchbay/xds/valid"
	"patchbay/xds/views"
)

// view is what one view of the cache shows, in the mesh's words.
type view struct {
	views.View
	key   string // in the cache
	users int
	left  time.Time // when users became 0

	snap     *mesh.Snapshot  // what it was last brought to
	told     []*mesh.Service // its services in that, sorted by name
	services map[mesh.ServiceName]state
	held     map[mesh.ServiceName]*hold
	bundles  map[string]*mesh.Bundle
	owner    map[delta.Ref]string // of each resource: a service, or sharedOwner
	owned    map[string][]delta.Ref
	withheld valid.Book
	locals   map[mesh.ServiceName]*mesh.Service // of sidecars of the view, as shown to them; nil: not yet, or gone
	crowds   map[string]map[string]int          // of sidecars of the view that offer nothing, by workload, as shown
	counted  map[string]crowd                   // all crowds, as they are
	asked    bool                               // for one more
	leds     *leds.Splitter                     // nil: all endpoints are in assignments
	versions map[string]string                  // of clusters as they are shown; with leds only
	members  map[string]map[string]shownMember

	asks     bool                      // a service asks for certificates: see callers.go
	lacking  int                       // nodes that have none
	presents bool                      // clusters present them
	quiet    map[mesh.ServiceName]bool // services that are shown as if they did not ask
}

// state is a service in the snapshot, and what the view shows of it.
type state struct{ stored, shown *mesh.Service }

// clusters are those that the view shows of a service.
func (v *view) clusters(n mesh.ServiceName) []string {
	if s := v.services[n].shown; s != nil {
		return translate.Clusters(s)
	}
	return nil
}

// hold is a service of which an interim is shown, see [transition.Interim].
type hold struct {
	old   *mesh.Service // before the interim
	since time.Time
	over  bool // all have acknowledged the interim
}

const sharedOwner = "shared by all"

func newView(v views.View, mode leds.Mode) *view {
	out := &view{
		View: v, key: v.Key(),
		services: map[mesh.ServiceName]state{}, held: map[mesh.ServiceName]*hold{}, owner: map[delta.Ref]string{}, owned: map[string][]delta.Ref{},
		withheld: valid.Book{}, locals: map[mesh.ServiceName]*mesh.Service{}, crowds: map[string]map[string]int{}, quiet: map[mesh.ServiceName]bool{},
	}
	if v.Collections {
		out.leds, out.versions, out.members = leds.New(mode), map[string]string{}, map[string]map[string]shownMember{}
	}
	return out
}

// update compares the view with a snapshot by pointer and translates what
// differs. The view then counts as brought to the snapshot.
func (v *view) update(snap *mesh.Snapshot, now time.Time, log *slog.Logger) (entries []*delta.Entry, removed []delta.Ref) {
	if snap == v.snap && len(v.held) == 0 && !v.asked && (len(v.quiet) == 0 || v.lacking > 0) {
		return nil, nil
	}
	v.snap = snap
	var changed []*mesh.Service // as they will be shown
	stale := map[string]bool{}
	fresh, left := v.compare(snap, now)
	for _, name := range left {
		stale[name.String()] = true
		delete(v.services, name)
		delete(v.held, name)
		delete(v.quiet, name)
	}
	for _, s := range fresh {
		show := v.choose(s, now)
		v.services[s.Name] = state{stored: s, shown: show}
		stale[s.Name.String()] = true
		changed = append(changed, show)
	}
	locals, crowds := v.staleLocals(snap), v.staleCrowds()
	for _, n := range locals {
		stale[localOwner(n)] = true
	}
	for _, w := range crowds {
		stale[crowdOwner(w)] = true
	}
	trust := !sameBundles(v.bundles, snap.Bundles)
	if trust {
		stale[sharedOwner] = true
	}
	gone := v.disown(stale)
	if trust {
		v.bundles = snap.Bundles
		entries = append(entries, v.encode(sharedOwner, v.shared(snap.Bundles), gone, log)...)
	}
	entries = append(entries, v.showLocals(locals, snap, gone, log)...)
	entries = append(entries, v.showCrowds(crowds, gone, log)...)
	for _, s := range changed {
		all, apart := v.part(v.service(s))
		entries = append(entries, v.encode(s.Name.String(), all, gone, log)...)
		for _, r := range apart {
			fresh, left := v.collect(s.Name.String(), r, entries, gone, log)
			entries, removed = append(entries, fresh...), append(removed, left...)
		}
		for _, a := range v.Unserved(s) {
			log.Warn("an alias has no listener: the task itself uses its port", "view", v.key, "service", s.Name.String(),
				"alias", a.DNSName, "port", a.Port, "remedy", "choose another client alias port, or redirect wiring")
		}
	}
	return entries, append(removed, v.forget(gone)...)
}

// forget drops what is kept of resources that are gone, and returns them, with
// the members of their collections.
func (v *view) forget(gone map[delta.Ref]bool) (removed []delta.Ref) {
	for ref := range gone {
		removed = append(removed, ref)
		delete(v.withheld, ref)
		if v.leds != nil && ref.TypeURL == delta.ClusterType {
			delete(v.versions, ref.Name)
			removed = append(removed, refs(v.leds.Drop(ref.Name))...)
			delete(v.members, ref.Name)
		}
	}
	return removed
}

// compare returns the services that must be shown anew, sorted by name, and the
// names of those that have left.
func (v *view) compare(snap *mesh.Snapshot, now time.Time) (fresh []*mesh.Service, left []mesh.ServiceName) {
	before := v.told
	v.told = snap.Told(v.Namespace, v.Dependencies, v.Hidden)
	fresh, left = differences(before, v.told)
	v.asks = asks(v.told)
	for name := range v.quiet {
		if s := snap.Service(name); s != nil && v.lacking == 0 {
			fresh = append(fresh, s)
		}
	}
	for name := range v.held {
		if s := snap.Service(name); s != nil && v.released(name, now) {
			fresh = append(fresh, s)
		}
	}
	slices.SortFunc(fresh, func(a, b *mesh.Service) int { return a.Name.Compare(b.Name) })
	return slices.Compact(fresh), left
}

// differences compares two lists that are sorted by name: a service whose
// pointer is another is fresh, a name that is no longer there has left.
func differences(before, now []*mesh.Service) (fresh []*mesh.Service, left []mesh.ServiceName) {
	for len(before) > 0 || len(now) > 0 {
		switch {
		case len(before) == 0 || len(now) > 0 && before[0].Name.Compare(now[0].Name) > 0:
			fresh, now = append(fresh, now[0]), now[1:]
		case len(now) == 0 || before[0].Name != now[0].Name:
			left, before = append(left, before[0].Name), before[1:]
		default:
			if before[0] != now[0] {
				fresh = append(fresh, now[0])
			}
			before, now = before[1:], now[1:]
		}
	}
	return fresh, left
}

// service and shared are the view's resources.
func (v *view) service(s *mesh.Service) []translate.Resource {
	if v.Proxyless {
		return translate.Proxyless(s)
	}
	return translate.Service(v.View, s)
}

func (v *view) shared(bundles map[string]*mesh.Bundle) []translate.Resource {
	if v.Proxyless {
		return nil // their trust is in their own bootstrap
	}
	return translate.Shared(v.View, bundles)
}

func (v *view) released(name mesh.ServiceName, now time.Time) bool {
	h := v.held[name]
	return h != nil && (h.over || now.Sub(h.since) >= holdMax)
}

// choose is what to show of s: itself, or an interim that its callers' Envoys
// must take first (see [transition.Interim]); either as if it did not ask for
// certificates, while a node has none (see identifies).
func (v *view) choose(s *mesh.Service, now time.Time) *mesh.Service {
	old := v.services[s.Name].shown
	h := v.held[s.Name]
	if h != nil {
		old = h.old
	}
	between := transition.Interim(old, s)
	if between == nil || v.released(s.Name, now) {
		delete(v.held, s.Name)
		return v.identifies(s)
	}
	if h == nil {
		v.held[s.Name] = &hold{old: old, since: now}
	}
	return v.identifies(between)
}

// disown takes the resources of the named owners away and returns them: those
// that nobody claims again are gone.
func (v *view) disown(owners map[string]bool) map[delta.Ref]bool {
	gone := map[delta.Ref]bool{}
	if len(owners) == 0 {
		return gone
	}
	for o := range owners {
		for _, ref := range v.owned[o] {
			gone[ref] = true
			delete(v.owner, ref)
		}
		delete(v.owned, o)
	}
	return gone
}

// encode claims resources for their owner. One that is invalid, or another's,
// is withheld; what the view shows under its name then stays.
func (v *view) encode(owner string, all []translate.Resource, gone map[delta.Ref]bool, log *slog.Logger) (entries []*delta.Entry) {
	for _, r := range all {
		if !v.claim(owner, r, gone, log) {
			continue
		}
		if e := v.withheld.Encode(r, v.key, owner, log); e != nil {
			entries = append(entries, e)
		}
	}
	return entries
}

// claim makes a resource its owner's, unless it is another's.
func (v *view) claim(owner string, r translate.Resource, gone map[delta.Ref]bool, log *slog.Logger) bool {
	ref := delta.Ref{TypeURL: r.TypeURL, Name: r.Name}
	if other := v.owner[ref]; other != "" {
		// Not in the books of what is withheld: there is one row for each
		// resource, and it is the other's.
		log.Error("a resource is withheld", "seen_by", v.key, "source", owner, "resource", ref.String(), "reason", "it is already that of "+other)
		return false
	}
	v.owner[ref] = owner
	v.owned[owner] = append(v.owned[owner], ref)
	delete(gone, ref)
	return true
}

func sameBundles(a, b map[string]*mesh.Bundle) bool {
	if a == nil || len(a) != len(b) {
		return false
	}
	for issuer, x := range a {
		if b[issuer] != x {
			return false
		}
	}
	return true
}
