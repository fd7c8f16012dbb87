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
// told of, sorted by name: those that it names, and those that their routes
// lead to, without what is hidden from its workload. The result must not be
// changed.
func (s *Snapshot) Told(namespace string, d Dependencies, h Hidden) []*Service {
	if d == "" && h == "" {
		return s.Namespace(namespace)
	}
	if d == "" {
		return slices.DeleteFunc(slices.Clone(s.Namespace(namespace)), func(v *Service) bool { return h.has(v.Name.DiscoveryName) })
	}
	var out []*Service
	names := strings.Split(string(d), ",")
	for i := 0; i < len(names); i++ {
		v := s.Service(ServiceName{Namespace: namespace, DiscoveryName: names[i]})
		if v == nil || h.has(names[i]) {
			continue
		}
		out = append(out, v)
		for _, target := range v.Policy.Targets() {
			if !slices.Contains(names, target) {
				names = append(names, target)
			}
		}
	}
	slices.SortFunc(out, func(a, b *Service) int { return a.Name.Compare(b.Name) })
	return out
}
