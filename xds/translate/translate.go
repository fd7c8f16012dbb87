// Package translate turns the mesh into Envoy resources.
//
// It owns which Envoy configuration a service, a view and a node need, one
// file per Envoy concept. It is pure: no clock, no logger, no I/O; equal
// inputs give equal bytes. It must not know streams, versions or where the
// mesh comes from. Start reading at [Service] and [Node].
package translate

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"patchbay/mesh"
	"patchbay/xds/bootstrap"
	"patchbay/xds/transition"
	"patchbay/xds/views"
)

// The type URLs that patchbay serves.
const (
	ClusterType  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	EndpointType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	ListenerType = "type.googleapis.com/envoy.config.listener.v3.Listener"
	RouteType    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	SecretType   = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
)

// Resource is one xDS resource. Its name is unique in its type.
type Resource struct {
	TypeURL string
	Name    string
	Message proto.Message
}

// Service is everything of one service that the view's sidecars share: its
// cluster, its endpoints, and a listener (with a route configuration where
// Envoy parses requests) for each alias. Ordered by type, then name.
func Service(v views.View, s *mesh.Service) []Resource {
	if v.Wiring == mesh.NoEgress || !v.Knows(s) {
		return nil
	}
	out := []Resource{cluster(v, s)}
	if s.External == nil {
		out = append(append(out, assignment(v, transition.Production(s))), revisions(v, s)...)
	} else if s.External.TLS != nil {
		out = append(out, trustSecret(externalTrust(s.Name), s.External.TLS.Roots))
	}
	if v.Local != "" && s.Name == (mesh.ServiceName{Namespace: v.Namespace, DiscoveryName: v.Local}) {
		own := placed(v, Assignment(s))
		own.ClusterName = bootstrap.LocalCluster
		out = append(out, Resource{EndpointType, own.ClusterName, own})
	}
	for _, a := range s.Aliases {
		a = v.Alias(a)
		if !a.VIP.IsValid() || v.Blocks(a.Port) {
			continue
		}
		name := EgressName(a)
		out = append(out, egressListener(v, s, a, name))
		if s.Protocol.L7() {
			out = append(out, egressRoute(v, s, name))
		}
	}
	return sorted(out)
}

// Shared is what the view's sidecars share besides services: the listener to
// which redirected connections come, and what to trust. Ordered by type, then
// name.
func Shared(v views.View, bundles map[string]*mesh.Bundle) []Resource {
	var out []Resource
	if v.Wiring == mesh.Redirect && !v.AWS {
		out = append(out, redirectListener(redirectPort, v.Exclusive))
	}
	if v.Tracing.On() {
		out = append(out, tracingCluster(v.Tracing))
	}
	return sorted(append(out, trustSecrets(bundles)...))
}

// Node is what one node alone has: a listener, a route and an application's
// cluster for each port that it offers, the leaves of these services, and the
// certificate that it shows to those that it calls, if it has one.
// Ports of services that its workload does not offer get nothing; leaf returns
// nil where there is none yet (the listener then waits for its secret). A node
// in the form of AWS's agent has its own egress listener besides.
// Ordered by type, then name.
func Node(n mesh.Node, meta bootstrap.NodeMeta, leaf func(mesh.ServiceName) *mesh.Leaf, id Identity, trace views.Tracing) []Resource {
	var out []Resource
	seen := map[mesh.ServiceName]bool{}
	if meta.AWS != nil && meta.AWS.EgressPort != 0 {
		out = append(out, redirectListener(meta.AWS.EgressPort, false))
	}
	if id.Leaf != nil {
		out = append(out, identitySecret(id.Leaf))
	}
	for _, p := range meta.Ports {
		in := p.Ingress(n.Workload.Namespace)
		if meta.AWS != nil {
			in.AppAddr = meta.AWS.Apps[p.PortName]
		}
		if !n.Workload.Offers(in.Service) {
			continue
		}
		out = append(out, appCluster(in, meta.EitherLoopback), ingressListener(in, meta, id, trace))
		if in.Protocol.L7() {
			out = append(out, ingressRoute(in))
		}
		if in.TLS == nil || seen[in.Service] {
			continue
		}
		seen[in.Service] = true
		if l := leaf(in.Service); l != nil {
			out = append(out, leafSecret(l))
		}
	}
	return sorted(out)
}

// EgressName names the listener and the route configuration of an alias.
func EgressName(a mesh.Alias) string {
	return "egress-" + a.VIP.String() + "-" + strconv.Itoa(int(a.Port))
}

func sorted(rs []Resource) []Resource {
	slices.SortFunc(rs, func(a, b Resource) int {
		return cmp.Or(strings.Compare(a.TypeURL, b.TypeURL), strings.Compare(a.Name, b.Name))
	})
	return rs
}
