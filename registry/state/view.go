package state

import (
	"iter"
	"maps"
)

// View is the records as readers see them. Nothing of what it returns may be
// changed.
type View struct {
	tx         *Tx
	httpNames  map[string]string // HttpName → namespace id
	services   map[string]map[string]*Service
	members    map[string]map[string]*Instance
	unfinished map[string]*Operation
	pending    map[string]*Instance // health that is not yet to be seen
	leased     map[string]*Instance
}

func newView() *View {
	return &View{
		httpNames: map[string]string{}, services: map[string]map[string]*Service{}, members: map[string]map[string]*Instance{},
		unfinished: map[string]*Operation{}, pending: map[string]*Instance{}, leased: map[string]*Instance{},
	}
}

// Namespace is the one with id; nil if there is none.
func (v *View) Namespace(id string) *Namespace { return v.tx.Namespaces.rows[id] }

// NamespaceByHTTPName is the one with that HttpName; nil if there is none.
func (v *View) NamespaceByHTTPName(name string) *Namespace {
	return v.Namespace(v.httpNames[name])
}

// Namespaces are all.
func (v *View) Namespaces() iter.Seq[*Namespace] { return maps.Values(v.tx.Namespaces.rows) }

// Service is the one with id; nil if there is none.
func (v *View) Service(id string) *Service { return v.tx.Services.rows[id] }

// ServiceByName is the one of that name in a namespace; nil if there is none.
func (v *View) ServiceByName(namespace, name string) *Service { return v.services[namespace][name] }

// Services are all.
func (v *View) Services() iter.Seq[*Service] { return maps.Values(v.tx.Services.rows) }

// Instances are a service's, by id.
func (v *View) Instances(service string) map[string]*Instance { return v.members[service] }

// Operation is the one with id; nil if there is none.
func (v *View) Operation(id string) *Operation { return v.tx.Operations.rows[id] }

// Operations are all.
func (v *View) Operations() iter.Seq[*Operation] { return maps.Values(v.tx.Operations.rows) }

// Unfinished are the operations that have not finished.
func (v *View) Unfinished() iter.Seq[*Operation] { return maps.Values(v.unfinished) }

// Pending are the instances whose health is about to change.
func (v *View) Pending() iter.Seq[*Instance] { return maps.Values(v.pending) }

// Leased are the instances that have a lease.
func (v *View) Leased() iter.Seq[*Instance] { return maps.Values(v.leased) }

func (v *View) namespaceChanged(id string, old, now *Namespace) {
	switch {
	case now != nil:
		v.httpNames[now.HTTPName] = id
	case v.httpNames[old.HTTPName] == id: // a new one may have the name by now
		delete(v.httpNames, old.HTTPName)
	}
}

func (v *View) serviceChanged(_ string, old, now *Service) {
	switch {
	case now != nil:
		put(v.services, now.NamespaceID, now.Name, now)
	case v.services[old.NamespaceID][old.Name] == old: // a new one may have the name by now
		remove(v.services, old.NamespaceID, old.Name)
	}
}

func (v *View) instanceChanged(key string, old, now *Instance) {
	if now == nil {
		remove(v.members, old.ServiceID, old.ID)
	} else {
		put(v.members, now.ServiceID, now.ID, now)
	}
	keepIf(v.pending, key, now, now != nil && now.Next != nil)
	keepIf(v.leased, key, now, now != nil && now.Lease > 0)
}

func (v *View) operationChanged(id string, _, now *Operation) {
	keepIf(v.unfinished, id, now, now != nil && !now.Done())
}

func keepIf[V any](m map[string]*V, key string, v *V, keep bool) {
	if keep {
		m[key] = v
	} else {
		delete(m, key)
	}
}

func put[V any](m map[string]map[string]*V, outer, inner string, v *V) {
	if m[outer] == nil {
		m[outer] = map[string]*V{}
	}
	m[outer][inner] = v
}

func remove[V any](m map[string]map[string]*V, outer, inner string) {
	delete(m[outer], inner)
	if len(m[outer]) == 0 {
		delete(m, outer)
	}
}
