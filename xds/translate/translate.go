// Package translate turns the mesh into Envoy resources.
//
// It owns which Envoy configuration a service, a view and a node need, one
// file per Envoy concept. It is pure: no clock, no logger, no I/O; equal
// inputs give equal bytes. It must not know streams, versions or where the
// mesh comes from. Start reading at [Service] and [Node].
package translate

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"patchbay/mesh"
	"patchbay/xds/bootstrap"
	"patchbay/xds/transition"
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

// View is what sidecars share: two with equal views get the same bytes. It is
// comparable and may key a map.
type View struct {
	Namespace string
	Wiring    mesh.Wiring
	// Blocked lists the ports on which no egress listener may be bound,
	// because a container of the task uses them: see [BlockedPorts]. Only in
	// bind wiring.
	Blocked string
	// Dependencies are what the sidecars are told of.
	Dependencies mesh.Dependencies
	// Hidden are targets outside the mesh that they are not told of.
	Hidden mesh.Hidden
	// AccessLog is what the task wants to be logged.
	AccessLog bootstrap.AccessLog
	// Tap says that their agents can show requests.
	Tap bool
	// Collections says that the sidecars take endpoints in collections (LEDS).
	// Nothing here depends on it; it keeps apart what such sidecars share.
	Collections bool
	// Proxyless says that they are no sidecars but gRPC clients: see [Proxyless].
	Proxyless bool
	// Exclusive says that they share a network namespace with others' Envoys:
	// a port that is taken is then refused instead of shared.
	Exclusive bool
	// AWS says that they are in the form of AWS's agent: each has the listener
	// for redirected connections on a port of its own, see [Node].
	AWS bool
	// Local is the discovery name whose endpoints such sidecars have as
	// "local_cluster" too; empty: they offer nothing.
	Local string
	// Region is where such sidecars say that they are; their endpoints are said
	// to be there too.
	Region string
	// Strict says that they see of the mesh what Service Connect would show:
	// the names that were there when their tasks started, and no policy.
	Strict bool
	// Names are those, in the form of [FrozenNames]; with Strict only.
	Names string
	// Late tells sidecars apart that came before they could be given a
	// certificate that services ask for: see package xds. Nothing here depends
	// on it.
	Late int
	// Policies is the sidecars' own word on services that they call: JSON of
	// [bootstrap.NodeMeta.Policies]; empty: none.
	Policies string
	// Tracing is where they send spans: one service, since a listener names it.
	Tracing Tracing
}

// BlockedPorts is the canonical form of a list of ports for [View].
func BlockedPorts(ports []uint16) string {
	sorted := slices.Compact(slices.Sorted(slices.Values(ports)))
	text := make([]string, len(sorted))
	for i, p := range sorted {
		text[i] = strconv.Itoa(int(p))
	}
	return strings.Join(text, ",")
}

// ViewOf is the view of a node.
func ViewOf(namespace string, meta bootstrap.NodeMeta) View {
	v := View{Namespace: namespace, Wiring: meta.Wiring, Exclusive: meta.Exclusive, AccessLog: meta.AccessLog, Tap: meta.Tap, Dependencies: mesh.DependenciesOf(meta.Dependencies)}
	if v.Wiring == mesh.Bind {
		v.Blocked = BlockedPorts(meta.ContainerPorts)
	}
	if len(meta.Policies) > 0 {
		if b, err := json.Marshal(meta.Policies); err == nil {
			v.Policies = string(b)
		}
	}
	if v.Strict = meta.Profile == mesh.Strict; v.Strict {
		v.Names = FrozenNames(meta.Names)
	}
	if v.AWS = meta.AWS != nil; v.AWS && len(meta.Ports) > 0 {
		v.Local = meta.Ports[0].DiscoveryName
	}
	return v
}

func (v View) blocks(port uint16) bool {
	return v.Blocked != "" && slices.Contains(strings.Split(v.Blocked, ","), strconv.Itoa(int(port)))
}

// Unserved lists the aliases of s for which the view has no listener, because
// the task itself uses the port.
func Unserved(v View, s *mesh.Service) []mesh.Alias {
	var out []mesh.Alias
	for _, a := range s.Aliases {
		if v.blocks(a.Port) && v.knows(s) {
			out = append(out, a)
		}
	}
	return out
}

// Service is everything of one service that the view's sidecars share: its
// cluster, its endpoints, and a listener (with a route configuration where
// Envoy parses requests) for each alias. Ordered by type, then name.
func Service(v View, s *mesh.Service) []Resource {
	if v.Wiring == mesh.NoEgress || !v.knows(s) {
		return nil
	}
	out := []Resource{cluster(v, s)}
	if s.External == nil {
		out = append(append(out, assignment(v, transition.Production(s))), revisions(v, s)...)
	} else if s.External.TLS != nil {
		out = append(out, trustSecret(externalTrust(s.Name), s.External.TLS.Roots))
	}
	if v.Local != "" && s.Name == (mesh.ServiceName{Namespace: v.Namespace, DiscoveryName: v.Local}) {
		own := v.placed(Assignment(s))
		own.ClusterName = bootstrap.LocalCluster
		out = append(out, Resource{EndpointType, own.ClusterName, own})
	}
	for _, a := range s.Aliases {
		a = v.alias(a)
		if !a.VIP.IsValid() || v.blocks(a.Port) {
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
func Shared(v View, bundles map[string]*mesh.Bundle) []Resource {
	var out []Resource
	if v.Wiring == mesh.Redirect && !v.AWS {
		out = append(out, redirectListener(redirectPort, v.Exclusive))
	}
	if v.Tracing.on() {
		out = append(out, v.Tracing.cluster())
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
func Node(n mesh.Node, meta bootstrap.NodeMeta, leaf func(mesh.ServiceName) *mesh.Leaf, id Identity, trace Tracing) []Resource {
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
		out = append(out, appCluster(in), ingressListener(in, meta, id, trace))
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
