package claim

import (
	"fmt"
	"maps"
	"slices"

	"patchbay/mesh/policy"
	"patchbay/xds/bootstrap"
)

// maxPolicies bounds what a node may want of others: an answer for each of
// its dependencies.
const maxPolicies = 200

// policyProblems holds what a node wants against the rules of its declaration:
// an agent has checked them, but may be of another version.
func policyProblems(meta bootstrap.NodeMeta) (wrong []string) {
	if n := len(meta.Policies); n > maxPolicies {
		return []string{fmt.Sprintf("%d of them; allowed: up to %d", n, maxPolicies)}
	}
	add := func(of string, problems []policy.Problem) {
		for _, x := range problems {
			wrong = append(wrong, of+"."+x.Path+": "+x.Text)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(meta.Policies)) {
		if p := meta.Policies[name]; p != nil {
			add(name, append(p.Problems(), p.Misplaced(policy.OfCaller, true)...))
		}
	}
	for _, port := range meta.Ports {
		if port.Policy != nil {
			add(port.DiscoveryName, append(port.Policy.Problems(), port.Policy.Misplaced(policy.OfService, port.Protocol.L7())...))
			if port.TLS == nil {
				add(port.DiscoveryName, port.Policy.WithoutTLS())
			}
		}
	}
	return wrong
}
