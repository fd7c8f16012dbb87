package translate

import (
	"cmp"
	"net/netip"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	dnscommonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/common/dns/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"patchbay/mesh"
	"patchbay/xds/bootstrap"
	"patchbay/xds/translate/extension"
	"patchbay/xds/translate/traffic"
	"patchbay/xds/views"
)

// externalTrust names the secret with the roots of a target outside the mesh.
// They are apart from the issuers' bundles: who may sign for somebody else's API
// may not sign for services.
func externalTrust(s mesh.ServiceName) string { return "external/" + s.String() }

// externalCluster is a target outside the mesh. Envoy resolves its names, so
// that it has no EDS.
func externalCluster(v views.View, s *mesh.Service) Resource {
	e, name := s.External, s.Name.String()
	c := targetCluster(name, e.Discovery, e.Addresses)
	if s.Protocol.L7() {
		c.TypedExtensionProtocolOptions = httpOptions(s.Protocol != mesh.HTTP, s.Timeouts)
	} else {
		c.UpstreamConnectionOptions = &clusterv3.UpstreamConnectionOptions{TcpKeepalive: tcpKeepalive()}
	}
	traffic.Cluster(c, v.Effective(s), traffic.Speak{H2: s.Protocol.L7() && s.Protocol != mesh.HTTP, Host: cmp.Or(e.Host, name)}, 0)
	if e.TLS != nil {
		c.TransportSocket = externalTLS(s)
	}
	return Resource{ClusterType, name, c}
}

// targetCluster has addresses that Envoy finds itself.
func targetCluster(name, discovery string, addresses []mesh.HostPort) *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		Name:           name,
		ConnectTimeout: durationpb.New(connectTimeout),
		LoadAssignment: &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{}}},
	}
	if discovery == "STATIC" {
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
	} else {
		c.ClusterDiscoveryType = &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
			Name: "envoy.cluster.dns",
			TypedConfig: extension.Pack(&dnsv3.DnsCluster{
				RespectDnsTtl: true,
				// Where there is no way out by IPv6, its addresses are no help.
				DnsLookupFamily:              dnscommonv3.DnsLookupFamily_V4_PREFERRED,
				AllAddressesInSingleEndpoint: discovery == "LOGICAL_DNS",
			}),
		}}
		c.UpstreamBindConfig = &corev3.BindConfig{SocketOptions: socketOption(ipTTL, bootstrap.OutsideTTL)}
	}
	for _, a := range addresses {
		lb := &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: socketAddress(a.Host, a.Port)}}}
		c.LoadAssignment.Endpoints[0].LbEndpoints = append(c.LoadAssignment.Endpoints[0].LbEndpoints, lb)
	}
	return c
}

// refuseOurs lets a listener for an alias of a target outside the mesh not hear
// of connections by this Envoy to what a name has resolved to: if that is the
// alias itself, or leads there, each would be followed by the next.
func refuseOurs() []*corev3.SocketOption { return socketOption(ipMinTTL, bootstrap.OutsideTTL+1) }

// Linux's numbers, whatever this process runs on: <linux/in.h>.
const (
	ipprotoIP = 0
	ipTTL     = 2
	ipMinTTL  = 21
)

func socketOption(name, value int64) []*corev3.SocketOption {
	return []*corev3.SocketOption{{
		Level: ipprotoIP, Name: name, Value: &corev3.SocketOption_IntValue{IntValue: value}, State: corev3.SocketOption_STATE_PREBIND,
	}}
}

// externalTLS always verifies: a chain to the target's roots, and one of its
// names.
func externalTLS(s *mesh.Service) *corev3.TransportSocket {
	t := s.External.TLS
	var names []*tlsv3.SubjectAltNameMatcher
	for _, n := range t.Names {
		kind := tlsv3.SubjectAltNameMatcher_DNS
		if _, err := netip.ParseAddr(n); err == nil {
			kind = tlsv3.SubjectAltNameMatcher_IP_ADDRESS
		}
		names = append(names, &tlsv3.SubjectAltNameMatcher{SanType: kind, Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: n}}})
	}
	params := onlyTLS13()
	if t.MinimumVersion == "1.2" {
		params.TlsMinimumProtocolVersion = tlsv3.TlsParameters_TLSv1_2
	}
	common := &tlsv3.CommonTlsContext{
		TlsParams: params,
		ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
			DefaultValidationContext:         &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: names},
			ValidationContextSdsSecretConfig: sds(externalTrust(s.Name)),
		}},
	}
	switch {
	case s.Protocol == mesh.HTTP:
		common.AlpnProtocols = []string{"http/1.1"}
	case s.Protocol.L7():
		common.AlpnProtocols = []string{"h2"}
	}
	return tlsSocket(&tlsv3.UpstreamTlsContext{CommonTlsContext: common, Sni: t.SNI, MaxSessionKeys: wrapperspb.UInt32(sessionKeys)})
}

// hostOf is what requests to s name as their host; empty: what they said.
func hostOf(s *mesh.Service) string {
	if s.External == nil {
		return ""
	}
	return s.External.Host
}
