package traffic

import (
	"patchbay/agentapi"
	"patchbay/mesh"
)

// revision is one deployment of a service.
type revision struct{ service, name string }

// divide books what a task has counted by revision, and returns it. The ledger
// is locked.
func (l *Ledger) divide(was map[revision]Flow, t *agentapi.Traffic) map[revision]Flow {
	now := map[revision]Flow{}
	for _, c := range t.GetCalled() {
		for _, r := range c.GetRevisions() {
			key := revision{c.GetService(), r.GetRevision()}
			f := Flow{Requests: r.GetRequests(), Errors: r.GetErrors()}
			now[key] = f
			if l.split[key] == nil {
				l.split[key] = &Flow{}
			}
			l.split[key].Add(f.minus(was[key]))
		}
	}
	return now
}

// Revision is what sidecars have counted of requests to one revision of a
// service since this process started, and how many of them failed.
func (l *Ledger) Revision(service mesh.ServiceName, name string) (requests, failed uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.split[revision{service.String(), name}]; f != nil {
		return f.Requests, f.Errors
	}
	return 0, 0
}
