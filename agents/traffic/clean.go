package traffic

import (
	"maps"
	"math"
	"slices"
	"strings"

	"patchbay/agentapi"
	"patchbay/mesh"
)

// msMost bounds what is taken for a duration, in milliseconds: eleven days.
const msMost = 1e9

// clean leaves the services and revisions that the mesh has.
func clean(t *agentapi.Traffic, snap *mesh.Snapshot, namespace string) {
	called := make([]*agentapi.Called, 0, len(t.GetCalled()))
	seen := map[string]bool{}
	for _, c := range t.GetCalled() {
		name, in := strings.CutSuffix(c.GetService(), "."+namespace)
		v := snap.Service(mesh.ServiceName{Namespace: namespace, DiscoveryName: name})
		if !in || v == nil || seen[name] {
			continue
		}
		seen[name] = true
		c.P50Ms, c.P99Ms = milliseconds(c.GetP50Ms()), milliseconds(c.GetP99Ms())
		c.Revisions = slices.DeleteFunc(c.GetRevisions(), func(r *agentapi.Revision) bool { return !has(v, r.GetRevision()) })
		called = append(called, c)
	}
	t.Called = called
}

// has reports whether a service has a revision.
func has(v *mesh.Service, name string) bool {
	return slices.ContainsFunc(v.Endpoints, func(e mesh.Endpoint) bool { return e.Revision == name }) || slices.Contains(v.Deployment.Revisions(), name)
}

// milliseconds is 0 for what is no duration.
func milliseconds(v float64) float64 {
	if math.IsNaN(v) || v < 0 {
		return 0
	}
	return min(v, msMost)
}

// keep forgets what was counted of services that the mesh no longer has. The
// ledger is locked.
func (l *Ledger) keep(snap *mesh.Snapshot) {
	there := make(map[string]bool, len(snap.Services))
	for _, v := range snap.Services {
		there[v.Name.String()] = true
	}
	gone := func(service string) bool { return !there[service] }
	maps.DeleteFunc(l.totals, func(service string, _ *Flow) bool { return gone(service) })
	maps.DeleteFunc(l.split, func(r revision, _ *Flow) bool { return gone(r.service) })
	for _, a := range l.tasks {
		a.traffic.Called = slices.DeleteFunc(a.traffic.GetCalled(), func(c *agentapi.Called) bool { return gone(c.GetService()) })
	}
}
