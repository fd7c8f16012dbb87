package mesh

import (
	"slices"
	"strings"
)

// MaxDependencies is how many services one task may declare that it calls.
const MaxDependencies = 500

// Dependencies are the discovery names of what a task calls, in its own
// namespace: its sidecar is told of these only. Empty means all. Equal sets are
// equal strings.
type Dependencies string

// DependenciesOf is the set of names, in any order.
func DependenciesOf(names []string) Dependencies {
	return Dependencies(strings.Join(slices.Compact(slices.Sorted(slices.Values(names))), ","))
}

// Told are the services of a namespace that a task with these dependencies is
// told of, sorted by name. The result must not be changed.
func (s *Snapshot) Told(namespace string, d Dependencies) []*Service {
	if d == "" {
		return s.Namespace(namespace)
	}
	var out []*Service
	for name := range strings.SplitSeq(string(d), ",") {
		if v := s.Service(ServiceName{Namespace: namespace, DiscoveryName: name}); v != nil {
			out = append(out, v)
		}
	}
	return out
}
