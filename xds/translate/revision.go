package translate

import (
	"cmp"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"patchbay/mesh"
	"patchbay/xds/translate/traffic"
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
func revisions(v View, s *mesh.Service) (out []Resource) {
	if !s.Protocol.L7() {
		return nil
	}
	for _, r := range s.Deployment.Revisions() {
		one, name := of(s, r), revisionCluster(s.Name, r)
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

// of is s with the endpoints of one revision. If it has none (left), it has
// those that are in production: until an Envoy has its new routes, requests
// still come here.
func of(s *mesh.Service, revision string) *mesh.Service {
	out := *s
	out.Endpoints = slices.DeleteFunc(slices.Clone(s.Endpoints), func(e mesh.Endpoint) bool { return e.Revision != revision })
	if len(callable(&out)) == 0 {
		return produced(s)
	}
	// Whether it speaks TLS is the service's to say: a revision's cluster may
	// get other endpoints at any time.
	if out.TLS == nil && knowsTLS(s) {
		out.TLS = &mesh.ServiceTLS{}
	}
	return &out
}

// produced is s with the endpoints that are in production.
func produced(s *mesh.Service) *mesh.Service {
	if s.Deployment == nil || len(s.Deployment.Shares) == 0 {
		return s
	}
	members, shares, several := map[string]uint32{}, map[string]uint32{}, 0
	for _, sh := range s.Deployment.Shares {
		shares[sh.Revision] = sh.Weight
	}
	for _, e := range callable(s) {
		if members[e.Revision]++; members[e.Revision] == 1 && shares[e.Revision] > 0 {
			several++
		}
	}
	out := *s
	out.Endpoints = nil
	for _, e := range s.Endpoints {
		w := shares[e.Revision]
		if w == 0 {
			continue
		}
		if several > 1 {
			e.Weight *= max(w*mesh.Whole/max(members[e.Revision], 1), 1)
		}
		out.Endpoints = append(out.Endpoints, e)
	}
	if len(callable(&out)) == 0 {
		return s // better another revision than none
	}
	if out.TLS == nil && knowsTLS(s) {
		out.TLS = &mesh.ServiceTLS{}
	}
	return &out
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

// unready are the revisions that now calls and old has no cluster for.
func unready(old, now *mesh.Service) []string {
	if !now.Protocol.L7() {
		return nil
	}
	has := old.Deployment.Revisions()
	return slices.DeleteFunc(now.Deployment.Revisions(), func(r string) bool { return slices.Contains(has, r) })
}

// warming is old with clusters for further revisions.
func warming(old *mesh.Deployment, cold []string) *mesh.Deployment {
	d := mesh.Deployment{}
	if old != nil {
		d = *old
	}
	d.Warm = slices.Sorted(slices.Values(append(slices.Clone(d.Warm), cold...)))
	return &d
}
