package declare

import (
	"regexp"

	"patchbay/mesh"
)

// ofCloudMap is which discoveryNames Cloud Map takes as a service's name: a label
// of DNS. ECS's own rule is wider, and its deployment fails then.
var ofCloudMap = regexp.MustCompile(`^([a-z0-9_][a-z0-9_-]{0,61}[a-z0-9_]|[a-z0-9])$`)

// held holds the discoveryName of an entry, or the portName in its place, against
// Cloud Map's rule.
func (c *checker) held(path string, s serviceEntry, name string) {
	if !mesh.ValidDiscoveryName(name) || ofCloudMap.MatchString(name) {
		return
	}
	const allowed = "up to 63, ending in one of [a-z0-9_]"
	if s.DiscoveryName != "" {
		c.bad(path+".discoveryName", "%s is no name that Cloud Map takes; allowed: %s", quote(name), allowed)
		return
	}
	c.bad(path+".portName", "%s is no name that Cloud Map takes; allowed: a discoveryName beside it, %s", quote(name), allowed)
}
