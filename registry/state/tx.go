package state

import "strings"

// Tx is one transaction.
type Tx struct {
	Namespaces *Table[Namespace]
	Services   *Table[Service]
	Members    *Table[Members]
	Instances  *Table[Instance]
	Operations *Table[Operation]
	Floors     *Table[Floor]

	view  *View // of what is durable; read by nobody else during a transaction
	after []func()
}

// After has f called once the transaction is durable and visible, in the order
// of the transactions. f must not block and must not start one itself.
func (t *Tx) After(f func()) { t.after = append(t.after, f) }

func (t *Tx) tables() []anyTable {
	return []anyTable{t.Namespaces, t.Services, t.Members, t.Instances, t.Operations, t.Floors}
}

func (t *Tx) byName() map[string]anyTable {
	m := map[string]anyTable{}
	for _, t := range t.tables() {
		m[t.title()] = t
	}
	return m
}

// NamespaceNamed is the namespace of that type, VPC and name; nil if there is
// none.
func (t *Tx) NamespaceNamed(kind, vpc, name string) *Namespace {
	for _, n := range t.Namespaces.All() {
		if n.Name == name && n.Type == kind && n.VPC == vpc {
			return n
		}
	}
	return nil
}

// HasHTTPName reports whether a namespace has that HttpName.
func (t *Tx) HasHTTPName(name string) bool {
	for _, n := range t.Namespaces.All() {
		if n.HTTPName == name {
			return true
		}
	}
	return false
}

// ServiceNamed is the service of that name in a namespace; nil if there is
// none. With dns, a service with DNS records has the name in any case of its
// letters.
func (t *Tx) ServiceNamed(namespace, name string, dns bool) *Service {
	same := func(s *Service) bool {
		return s.NamespaceID == namespace && (s.Name == name || dns && s.DNS != nil && strings.EqualFold(s.Name, name))
	}
	for _, s := range t.Services.fresh() {
		if same(s) {
			return s
		}
	}
	found := t.view.named[within(namespace, name)]
	if found == nil && dns {
		found = t.view.folded[within(namespace, strings.ToLower(name))]
	}
	if found == nil || t.Services.Get(found.ID) == nil {
		return nil
	}
	return found
}

// Holder is the operation that has not finished and works on what lock names;
// nil if there is none.
func (t *Tx) Holder(lock string) *Operation {
	return t.operation(t.view.locks[lock], func(o *Operation) bool { return o.Lock == lock && !o.Done() })
}

// Replayed is the operation that a request with this token made; nil if there
// is none.
func (t *Tx) Replayed(token string) *Operation {
	return t.operation(t.view.tokens[token], func(o *Operation) bool { return o.Token == token })
}

func (t *Tx) operation(durable string, is func(*Operation) bool) *Operation {
	for _, o := range t.Operations.fresh() {
		if is(o) {
			return o
		}
	}
	if o := t.Operations.Get(durable); o != nil && is(o) {
		return o
	}
	return nil
}
