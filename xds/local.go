package xds

import (
	"log/slog"
	"slices"

	"patchbay/mesh"
	"patchbay/xds/delta"
	"patchbay/xds/translate"
)

// A sidecar in a known zone asks for the endpoints of its own service under
// another name: see [translate.Local]. They are shared by all sidecars of the
// view that offer it, and made only for services of which there is one.

// localOwner is the owner of such a resource in the view's books.
func localOwner(n mesh.ServiceName) string { return "tasks of " + n.String() }

// want has the view show a service to its own tasks, from now on.
func (v *view) want(n mesh.ServiceName) {
	if _, known := v.locals[n]; !known {
		v.locals[n], v.asked = nil, true
	}
}

// staleLocals are those that the snapshot has otherwise than the view, sorted.
func (v *view) staleLocals(snap *mesh.Snapshot) []mesh.ServiceName {
	v.asked = false
	var out []mesh.ServiceName
	for n, shown := range v.locals {
		if snap.Service(n) != shown {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, mesh.ServiceName.Compare)
	return out
}

// showLocals makes their entries. Those whose service is gone are claimed by
// nobody, and so gone.
func (v *view) showLocals(names []mesh.ServiceName, snap *mesh.Snapshot, gone map[delta.Ref]bool, log *slog.Logger) (entries []*delta.Entry) {
	for _, n := range names {
		s := snap.Service(n)
		if v.locals[n] = s; s != nil {
			entries = append(entries, v.encode(localOwner(n), []translate.Resource{translate.Local(s)}, gone, log)...)
		}
	}
	return entries
}
