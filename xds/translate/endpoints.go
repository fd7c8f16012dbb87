package translate

import (
	"maps"
	"net/netip"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"patchbay/mesh"
	"patchbay/xds/bootstrap"
	"patchbay/xds/transition"
	"patchbay/xds/views"
)

var healths = map[mesh.Health]corev3.HealthStatus{
	mesh.Healthy:   corev3.HealthStatus_HEALTHY,
	mesh.Unhealthy: corev3.HealthStatus_UNHEALTHY,
	mesh.Unknown:   corev3.HealthStatus_UNKNOWN,
}

func assignment(v views.View, s *mesh.Service) Resource {
	return Resource{EndpointType, s.Name.String(), placed(v, Assignment(s))}
}

// Local are the endpoints of a service as its own tasks have them besides: to
// know how they are spread over zones, as callers of others.
func Local(s *mesh.Service) Resource {
	own := Assignment(s)
	own.ClusterName = bootstrap.LocalName(s.Name)
	return Resource{EndpointType, own.ClusterName, own}
}

// Crowd is the same for sidecars that offer nothing: so many in each zone. The
// addresses are nobody's (240.0.0.0/4 is reserved), and are never called.
func Crowd(name string, zones map[string]int) Resource {
	cla := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	for i, zone := range slices.Sorted(maps.Keys(zones)) {
		l := &endpointv3.LocalityLbEndpoints{Locality: &corev3.Locality{Zone: zone}}
		for n := range zones[zone] {
			l.LbEndpoints = append(l.LbEndpoints, lbEndpoint(mesh.Endpoint{
				Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{240, 0, byte(i), byte(n)}), 1), Health: mesh.Healthy,
			}, false))
		}
		cla.Endpoints = append(cla.Endpoints, l)
	}
	return Resource{EndpointType, name, cla}
}

// placed puts zones in the view's region. Envoy compares the whole of it with
// its own place.
func placed(v views.View, a *endpointv3.ClusterLoadAssignment) *endpointv3.ClusterLoadAssignment {
	for _, l := range a.GetEndpoints() {
		if l.Locality != nil {
			l.Locality.Region = v.Region
		}
	}
	return a
}

// zones is in how many zones the endpoints of s are; those of which it is not
// known count as one.
func zones(s *mesh.Service) int {
	seen := map[string]bool{}
	for _, e := range transition.Callable(s) {
		seen[e.Zone] = true
	}
	return len(seen)
}

// Assignment is the ClusterLoadAssignment of a service: a locality for each
// zone, sorted. It is empty, not absent, when the service has no endpoint. A
// service that is locked to TLS does not list endpoints that speak plain text.
func Assignment(s *mesh.Service) *endpointv3.ClusterLoadAssignment {
	name := s.Name.String()
	cla := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	byZone := map[string][]mesh.Endpoint{}
	for _, e := range transition.Callable(s) {
		byZone[e.Zone] = append(byZone[e.Zone], e)
	}
	tls := transition.KnowsTLS(s)
	for _, zone := range slices.Sorted(maps.Keys(byZone)) {
		l := &endpointv3.LocalityLbEndpoints{}
		if zone != "" {
			l.Locality = &corev3.Locality{Zone: zone}
		}
		slices.SortFunc(byZone[zone], mesh.Endpoint.Compare)
		for _, e := range byZone[zone] {
			l.LbEndpoints = append(l.LbEndpoints, lbEndpoint(e, tls && !e.TLS))
		}
		cla.Endpoints = append(cla.Endpoints, l)
	}
	return cla
}

func lbEndpoint(e mesh.Endpoint, saysPlain bool) *endpointv3.LbEndpoint {
	lb := &endpointv3.LbEndpoint{
		HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Address: socketAddress(e.Addr.Addr().String(), e.Addr.Port()),
		}},
		HealthStatus: healths[e.Health],
	}
	if e.Weight > 1 {
		lb.LoadBalancingWeight = wrapperspb.UInt32(e.Weight)
	}
	if saysPlain {
		lb.Metadata = plainMetadata()
	}
	return lb
}

// Says is what an endpoint says besides its address. Two endpoints of one
// address that say the same are equal.
type Says struct {
	Health corev3.HealthStatus
	Weight uint32
	Plain  bool
}

// SaysOf reads it. The endpoint must be of [Assignment]'s making.
func SaysOf(e *endpointv3.LbEndpoint) Says {
	return Says{e.GetHealthStatus(), e.GetLoadBalancingWeight().GetValue(), e.GetMetadata() != nil}
}

func socketAddress(ip string, port uint16) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: ip, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}
