package bootstrap

import "patchbay/mesh"

// LocalName names the endpoints of a service as its own tasks get them, to know
// how they are spread over zones. Two clusters of one Envoy can't share an
// assignment, so the name is another than that which callers use.
func LocalName(s mesh.ServiceName) string { return "local/" + s.String() }

// LocalService is the service that an Envoy in a known zone takes for its own
// kind: the first that its task offers. It is false if it offers nothing.
func (m NodeMeta) LocalService(namespace string) (mesh.ServiceName, bool) {
	if len(m.Ports) == 0 {
		return mesh.ServiceName{}, false
	}
	return mesh.ServiceName{Namespace: namespace, DiscoveryName: m.Ports[0].DiscoveryName}, true
}

// LocalCrowd names the same for the tasks of a workload, "NAMESPACE/WORKLOAD",
// that offer nothing.
func LocalCrowd(workload string) string { return "local/" + workload }

// localCluster is the cluster of an Envoy's own kind. An Envoy that waits for
// it for ever would serve nobody: it starts without.
func localCluster(endpoints string) obj {
	return obj{
		"name": LocalCluster, "type": "EDS", "connect_timeout": "2s",
		"eds_cluster_config": obj{
			"service_name": endpoints,
			"eds_config":   obj{"ads": obj{}, "resource_api_version": "V3", "initial_fetch_timeout": "0.001s"},
		},
	}
}
