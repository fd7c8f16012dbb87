package mesh

import (
	"cmp"
	"slices"
	"strings"
)

// CertificateName is the name of w's certificate among those of services: no
// service has it, for a discoveryName holds no slash.
func (w Workload) CertificateName() ServiceName {
	return ServiceName{Namespace: w.Namespace, DiscoveryName: workloadPrefix + w.Name}
}

const workloadPrefix = "workload/"

// OfWorkload is the reverse of [Workload.CertificateName]: the workload whose
// certificate has the name n; false if n is a service.
func (n ServiceName) OfWorkload() (Workload, bool) {
	name, ok := strings.CutPrefix(n.DiscoveryName, workloadPrefix)
	return Workload{Namespace: n.Namespace, Name: name}, ok
}

// SPIFFEID is the name by which a workload shows itself to the services that
// it calls.
func (w Workload) SPIFFEID(trustDomain string) string {
	return WorkloadsOf(trustDomain, w.Namespace) + w.Name
}

// WorkloadsOf is how the SPIFFE IDs of a namespace's workloads begin; with an
// empty namespace, of all workloads.
func WorkloadsOf(trustDomain, namespace string) string {
	all := "spiffe://" + trustDomain + "/workload/"
	if namespace == "" {
		return all
	}
	return all + namespace + "/"
}

// SetCallers says which workloads need a certificate to call with: their
// services' certificates are others. Only Namespace and Name count. It reports
// whether there was a change.
func (s *Store) SetCallers(callers []Workload) bool {
	list := make([]Workload, 0, len(callers))
	for _, w := range callers {
		list = append(list, Workload{Namespace: w.Namespace, Name: w.Name})
	}
	same := func(a, b Workload) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	}
	slices.SortFunc(list, same)
	list = slices.CompactFunc(list, func(a, b Workload) bool { return same(a, b) == 0 })
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.EqualFunc(s.now.Callers, list, func(a, b Workload) bool { return same(a, b) == 0 }) {
		return false
	}
	snap := s.next()
	snap.Callers = list
	s.publish(snap)
	return true
}
