package translate

import (
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"patchbay/mesh"
)

// While TLS is switched on or off, a service has endpoints of both kinds, and
// for a moment an Envoy uses new endpoints with its old cluster: endpoints take
// effect at once, a cluster only when its secrets have come. So a cluster that
// could meet TLS speaks TLS, except to an endpoint that says of itself that it
// is plain. What went wrong for a moment then fails at connecting, and another
// host is tried; the opposite default would send a request in plain text.
//
// One step remains in which an endpoint that speaks TLS could be called in
// plain text: from a cluster that has never heard of TLS. See [Interim].

// knowsTLS reports whether the cluster of s speaks TLS.
func knowsTLS(s *mesh.Service) bool {
	return s.TLS != nil || slices.ContainsFunc(s.Endpoints, func(e mesh.Endpoint) bool { return e.TLS })
}

// callable are the endpoints that may be called at all: a service that is
// locked to TLS has no others.
func callable(s *mesh.Service) []mesh.Endpoint {
	if s.TLS == nil || !s.TLS.Only {
		return s.Endpoints
	}
	return slices.DeleteFunc(slices.Clone(s.Endpoints), func(e mesh.Endpoint) bool { return !e.TLS })
}

// saysPlain is what a plain endpoint of a service that knows TLS says of
// itself, and what its cluster looks for.
func saysPlain() *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{"tls": structpb.NewBoolValue(false)}}
}

func plainMetadata() *corev3.Metadata {
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"envoy.transport_socket_match": saysPlain()}}
}

// sockets decides between TLS and plain text for each endpoint.
func sockets(c *clusterv3.Cluster, s *mesh.Service) {
	if !knowsTLS(s) {
		return
	}
	c.TransportSocket = upstreamTLS(s)
	if s.TLS == nil || !s.TLS.Only {
		c.TransportSocketMatches = []*clusterv3.Cluster_TransportSocketMatch{{Name: "plain", Match: saysPlain(), TransportSocket: plainSocket()}}
	}
}

// Interim is what to show between old and now, two states of one service, or
// nil if now may be shown at once. It is not nil in three cases.
//
// When old's cluster does not know TLS and now has endpoints that speak it: an
// Envoy would call these in plain text until its cluster has been replaced. The
// interim has now's cluster and old's endpoints.
//
// When now calls a revision for which old has no cluster: an Envoy would refuse
// requests until it is in use. The interim has now's clusters and old's routes.
//
// When now begins to require certificates: an Envoy whose cluster presents none
// would be refused. The interim has now's clusters and old's endpoints.
//
// Show now when all have acknowledged the interim's [Clusters], which they do
// when these are in use.
func Interim(old, now *mesh.Service) *mesh.Service {
	if old == nil {
		return nil
	}
	between := *now
	cold := unready(old, now)
	if cold != nil {
		between.Deployment = warming(old.Deployment, cold)
	}
	if knowsTLS(old) || !slices.ContainsFunc(now.Endpoints, func(e mesh.Endpoint) bool { return e.TLS }) {
		starts := startsToRequire(old, now)
		if cold == nil && !starts {
			return nil
		}
		if starts {
			between.Endpoints = old.Endpoints
		}
		return &between
	}
	declared := mesh.ServiceTLS{}
	if now.TLS != nil {
		declared.Issuer = now.TLS.Issuer // not Only: it would drop the old endpoints
	}
	between.Endpoints, between.TLS = old.Endpoints, &declared
	return &between
}
