package translate

import (
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"patchbay/mesh"
)

var healths = map[mesh.Health]corev3.HealthStatus{
	mesh.Healthy:   corev3.HealthStatus_HEALTHY,
	mesh.Unhealthy: corev3.HealthStatus_UNHEALTHY,
	mesh.Unknown:   corev3.HealthStatus_UNKNOWN,
}

func assignment(s *mesh.Service) Resource {
	return Resource{EndpointType, s.Name.String(), Assignment(s)}
}

// Assignment is the ClusterLoadAssignment of a service: a locality for each
// zone, sorted. It is empty, not absent, when the service has no endpoint. A
// service that is locked to TLS does not list endpoints that speak plain text.
func Assignment(s *mesh.Service) *endpointv3.ClusterLoadAssignment {
	name := s.Name.String()
	cla := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	byZone := map[string][]mesh.Endpoint{}
	for _, e := range callable(s) {
		byZone[e.Zone] = append(byZone[e.Zone], e)
	}
	tls := knowsTLS(s)
	for _, zone := range sortedKeys(byZone) {
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
