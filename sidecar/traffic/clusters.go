package traffic

import (
	"regexp"
	"strings"
)

// Clusters are those that an Envoy has, as its statistics tell. What a cluster
// answers Envoy counts a second time by kind, as cluster.NAME.retry,
// NAME.external, NAME.internal or NAME.zone.FROM.TO, which no name tells from a
// cluster of a namespace such as demo.internal. But connections and members are
// counted for clusters alone. The zero value has none; not for concurrent use.
type Clusters struct{ names map[string]bool }

var ofClusterAlone = regexp.MustCompile(`^cluster\.(.+)\.(?:upstream_cx_total|upstream_cx_rx_bytes_total|membership_total)$`)

// Add takes note of the cluster that the statistic of this name tells of, if
// it is one that clusters alone have.
func (c *Clusters) Add(stat string) {
	m := ofClusterAlone.FindStringSubmatch(stat)
	if m == nil {
		return
	}
	if c.names == nil {
		c.names = map[string]bool{}
	}
	c.names[m[1]] = true
}

// Service is the service of the mesh that a cluster's endpoints belong to; ok
// is false for Envoy's other clusters, such as the application's, and for what
// is no cluster.
func (c *Clusters) Service(cluster string) (name string, ok bool) {
	return service(cluster), c.names[cluster] && mine(cluster)
}

// mine reports whether a cluster is a service of the mesh: discoveryName, dot,
// namespace.
func mine(cluster string) bool {
	return cluster != "xds" && !strings.HasPrefix(cluster, "app-") && strings.Contains(cluster, ".")
}

// service is the one that a cluster belongs to: a revision's is NAME~REVISION.
func service(cluster string) string {
	name, _, _ := strings.Cut(cluster, "~")
	return name
}
