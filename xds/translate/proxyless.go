package translate

import (
	"slices"
	"strconv"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"patchbay/mesh"
	"patchbay/xds/transition"
	"patchbay/xds/translate/extension"
	"patchbay/xds/views"
)

// providerInstance is the certificate provider of a gRPC client's bootstrap
// that must hold the roots of the mesh: gRPC takes none from a control plane.
const providerInstance = "default"

// Proxyless is a service as gRPC clients without a proxy see it: for each alias
// a listener "dnsName:port", which they dial as xds:///dnsName:port, its routes
// within, the cluster and its endpoints. Services of other protocols are not
// there, nor are targets outside the mesh, nor is one that requires a certificate
// of its callers: gRPC takes none from a control plane. Ordered by type, then name.
func Proxyless(s *mesh.Service) []Resource {
	if s.Protocol != mesh.GRPC || s.External != nil || transition.Requires(s) {
		return nil
	}
	name := s.Name.String()
	out := []Resource{
		{ClusterType, name, proxylessCluster(s)},
		{EndpointType, name, proxylessAssignment(s)},
	}
	for _, a := range s.Aliases {
		target := a.DNSName + ":" + strconv.Itoa(int(a.Port))
		out = append(out, Resource{ListenerType, target, apiListener(target, s)})
	}
	return sorted(out)
}

// proxylessCluster has no sockets that differ by endpoint: gRPC knows none.
func proxylessCluster(s *mesh.Service) *clusterv3.Cluster {
	name := s.Name.String()
	c := &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads()},
		LbPolicy:             clusterv3.Cluster_ROUND_ROBIN,
	}
	if s.TLS == nil {
		return c
	}
	c.TransportSocket = tlsSocket(&tlsv3.UpstreamTlsContext{Sni: name, CommonTlsContext: &tlsv3.CommonTlsContext{
		ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
			CaCertificateProviderInstance: &tlsv3.CertificateProviderPluginInstance{InstanceName: providerInstance},
			// The field's successor is not read by gRPC.
			MatchSubjectAltNames: []*matcherv3.StringMatcher{{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: name}}}, //nolint:staticcheck // see above
		}},
	}})
	return c
}

// proxylessAssignment lists the endpoints that speak what the cluster speaks.
// gRPC wants a locality everywhere, and leaves out those without a weight.
func proxylessAssignment(s *mesh.Service) *endpointv3.ClusterLoadAssignment {
	fitting := *transition.Production(s)
	fitting.Endpoints = slices.DeleteFunc(slices.Clone(fitting.Endpoints), func(e mesh.Endpoint) bool { return e.TLS != (s.TLS != nil) })
	a := Assignment(&fitting)
	for _, l := range a.Endpoints {
		if l.Locality == nil {
			l.Locality = &corev3.Locality{}
		}
		l.LoadBalancingWeight = wrapperspb.UInt32(uint32(len(l.LbEndpoints))) //nolint:gosec // a number of endpoints
	}
	return a
}

func apiListener(target string, s *mesh.Service) *listenerv3.Listener {
	p := views.View{}.Effective(s)
	routes := &routev3.RouteConfiguration{Name: target, VirtualHosts: []*routev3.VirtualHost{{
		Name: target, Domains: []string{"*"},
		Routes: []*routev3.Route{{
			Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: ""}},
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{
				ClusterSpecifier:  &routev3.RouteAction_Cluster{Cluster: s.Name.String()},
				MaxStreamDuration: &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: durationpb.New(time.Duration(*p.Timeout.PerRequest))},
				RetryPolicy:       &routev3.RetryPolicy{RetryOn: "unavailable", NumRetries: wrapperspb.UInt32(*p.Retries.Max)},
			}},
		}},
	}}}
	return &listenerv3.Listener{Name: target, ApiListener: &listenerv3.ApiListener{ApiListener: extension.Pack(&hcmv3.HttpConnectionManager{
		StatPrefix:     statEgress,
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: routes},
		HttpFilters: []*hcmv3.HttpFilter{{
			Name:       "envoy.filters.http.router",
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: extension.Pack(&routerv3.Router{})},
		}},
	})}}
}
