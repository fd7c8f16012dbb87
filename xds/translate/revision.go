package translate

import (
	"cmp"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"patchbay/mesh"
	"patchbay/xds/transition"
	"patchbay/xds/translate/traffic"
	"patchbay/xds/views"
)

// While the calls of a service are divided, each of its revisions has a cluster
// of its own, and routes divide requests: a change of weights is a change of
// routes alone. The service's cluster stays beside them, with the endpoints that
// are in production, each as heavy as its revision's share says: for tcp, whose
// listeners name it for life, and for routes of other services.

// testHeader marks test traffic unless the service says otherwise, as in ECS's
// blue/green deployments.
const testHeader = "x-amzn-ecs-blue-green-test"

// revisionCluster names the cluster of a revision, and its endpoints.
func revisionCluster(n mesh.ServiceName, revision string) string { return n.String() + "~" + revision }

// Clusters are the names of a service's clusters, sorted.
func Clusters(s *mesh.Service) []string {
	out := []string{s.Name.String()}
	if s.Protocol.L7() {
		for _, r := range s.Deployment.Revisions() {
			out = append(out, revisionCluster(s.Name, r))
		}
	}
	return out
}

// revisions are the clusters of s's revisions and their endpoints.
func revisions(v views.View, s *mesh.Service) (out []Resource) {
	if !s.Protocol.L7() {
		return nil
	}
	for _, r := range s.Deployment.Revisions() {
		one, name := transition.Revision(s, r), revisionCluster(s.Name, r)
		if c, ok := cluster(v, one).Message.(*clusterv3.Cluster); ok {
			c.Name = name
			out = append(out, Resource{ClusterType, name, c})
		}
		if a, ok := assignment(v, one).Message.(*endpointv3.ClusterLoadAssignment); ok {
			a.ClusterName = name
			out = append(out, Resource{EndpointType, name, a})
		}
	}
	return out
}

// split is how a route divides what goes to s.
func split(s *mesh.Service) (out []traffic.Part) {
	if s.Deployment == nil {
		return nil
	}
	for _, sh := range s.Deployment.Shares {
		out = append(out, traffic.Part{Cluster: revisionCluster(s.Name, sh.Revision), Weight: sh.Weight})
	}
	return out
}

// test is where requests with the test header go; nil: where others do.
func test(s *mesh.Service) *traffic.Test {
	if s.Deployment == nil || s.Deployment.Test == "" {
		return nil
	}
	t := &traffic.Test{Header: testHeader, Cluster: revisionCluster(s.Name, s.Deployment.Test)}
	if s.Policy != nil && s.Policy.TestTraffic != nil {
		t.Header, t.Value = cmp.Or(s.Policy.TestTraffic.Header, testHeader), s.Policy.TestTraffic.Value
	}
	return t
}
