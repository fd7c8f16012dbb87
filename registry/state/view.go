package state

import (
	"iter"
	"maps"
	"strings"
)

// View is the records as readers see them. Nothing of what it returns may be
// changed, and lists must be read to their end before the view ends.
type View struct {
	tx         *Tx
	httpNames  map[string]string // HttpName → namespace id
	namespaces Sorted[Namespace]
	services   Sorted[Service]
	named      map[string]*Service // by namespace and name
	folded     map[string]*Service // by namespace and lower-case name: those with DNS records
	members    map[string]*Sorted[Instance]
	operations Sorted[Operation]
	unfinished Sorted[Operation]
	locks      map[string]string    // what is worked on → operation id
	tokens     map[string]string    // token → operation id
	pending    map[string]*Instance // health that is not yet to be seen
	leased     map[string]*Instance
}

func newView() *View {
	return &View{
		httpNames: map[string]string{}, named: map[string]*Service{}, folded: map[string]*Service{},
		members: map[string]*Sorted[Instance]{}, locks: map[string]string{}, tokens: map[string]string{},
		pending: map[string]*Instance{}, leased: map[string]*Instance{},
	}
}

// Namespace is the one with id; nil if there is none.
func (v *View) Namespace(id string) *Namespace { return v.tx.Namespaces.rows[id] }

// NamespaceByHTTPName is the one with that HttpName; nil if there is none.
func (v *View) NamespaceByHTTPName(name string) *Namespace {
	return v.Namespace(v.httpNames[name])
}

// Namespaces are all, by id.
func (v *View) Namespaces() *Sorted[Namespace] { return &v.namespaces }

// Service is the one with id; nil if there is none.
func (v *View) Service(id string) *Service { return v.tx.Services.rows[id] }

// ServiceByName is the one of that name in a namespace; nil if there is none.
func (v *View) ServiceByName(namespace, name string) *Service {
	return v.named[within(namespace, name)]
}

// Services are all, by id.
func (v *View) Services() *Sorted[Service] { return &v.services }

// Members are a service's, which must exist.
func (v *View) Members(service string) Members { return *v.tx.Members.rows[service] }

// Instance is the one of that id of a service; nil if there is none.
func (v *View) Instance(service, id string) *Instance {
	return v.InstanceByKey(InstanceKey(service, id))
}

// InstanceByKey is the one with that InstanceKey; nil if there is none.
func (v *View) InstanceByKey(key string) *Instance { return v.tx.Instances.rows[key] }

// Instances are a service's, by id; nil if it has none.
func (v *View) Instances(service string) *Sorted[Instance] { return v.members[service] }

// Operation is the one with id; nil if there is none.
func (v *View) Operation(id string) *Operation { return v.tx.Operations.rows[id] }

// Operations are all, by id. Ids grow with time.
func (v *View) Operations() *Sorted[Operation] { return &v.operations }

// Unfinished are the operations that have not finished, by id.
func (v *View) Unfinished() *Sorted[Operation] { return &v.unfinished }

// Pending are the instances whose health is about to change.
func (v *View) Pending() iter.Seq[*Instance] { return maps.Values(v.pending) }

// Leased are the instances that have a lease.
func (v *View) Leased() iter.Seq[*Instance] { return maps.Values(v.leased) }

func within(namespace, name string) string { return namespace + "/" + name }

func (v *View) namespaceChanged(id string, old, now *Namespace) {
	if now != nil {
		v.httpNames[now.HTTPName] = id
		v.namespaces.put(id, now)
		return
	}
	if v.httpNames[old.HTTPName] == id { // a new one may have the name by now
		delete(v.httpNames, old.HTTPName)
	}
	v.namespaces.remove(id)
}

func (v *View) serviceChanged(id string, old, now *Service) {
	if old != nil {
		drop(v.named, within(old.NamespaceID, old.Name), old)
		drop(v.folded, within(old.NamespaceID, strings.ToLower(old.Name)), old)
	}
	if now == nil {
		v.services.remove(id)
		return
	}
	v.services.put(id, now)
	v.named[within(now.NamespaceID, now.Name)] = now
	if now.DNS != nil {
		v.folded[within(now.NamespaceID, strings.ToLower(now.Name))] = now
	}
}

func (v *View) instanceChanged(key string, old, now *Instance) {
	if now == nil {
		list := v.members[old.ServiceID]
		if list.remove(old.ID); list.Len() == 0 {
			delete(v.members, old.ServiceID)
		}
	} else {
		if v.members[now.ServiceID] == nil {
			v.members[now.ServiceID] = &Sorted[Instance]{}
		}
		v.members[now.ServiceID].put(now.ID, now)
	}
	keepIf(v.pending, key, now, now != nil && now.Next != nil)
	keepIf(v.leased, key, now, now != nil && now.Lease > 0)
}

func (v *View) operationChanged(id string, old, now *Operation) {
	switch {
	case now == nil:
		v.operations.remove(id)
		if v.tokens[old.Token] == id {
			delete(v.tokens, old.Token)
		}
	default:
		v.operations.put(id, now)
		if now.Token != "" {
			v.tokens[now.Token] = id
		}
	}
	if now != nil && !now.Done() {
		v.unfinished.put(id, now)
		v.locks[now.Lock] = id
		return
	}
	v.unfinished.remove(id)
	if old != nil && v.locks[old.Lock] == id {
		delete(v.locks, old.Lock)
	}
}

func keepIf[V any](m map[string]*V, key string, v *V, keep bool) {
	if keep {
		m[key] = v
	} else {
		delete(m, key)
	}
}

// drop removes key if it still leads to v.
func drop[V any](m map[string]*V, key string, v *V) {
	if m[key] == v {
		delete(m, key)
	}
}
