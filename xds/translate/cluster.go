package translate

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"patchbay/mesh"
	"patchbay/mesh/policy"
	"patchbay/xds/translate/extension"
	"patchbay/xds/translate/traffic"
	"patchbay/xds/views"
)

const httpOptionsKey = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// ads is the source of everything dynamic: the one stream.
func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
		InitialFetchTimeout:   durationpb.New(fetchTimeout),
	}
}

// cluster is a service as its callers see it. It holds nothing of endpoints,
// so that their changes never touch it; two things excepted: it learns TLS
// when the first endpoint of a plain service speaks it, and in how many zones
// the endpoints are.
func cluster(v views.View, s *mesh.Service) Resource {
	if s.External != nil {
		return externalCluster(v, s)
	}
	name := s.Name.String()
	c := &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads()},
		ConnectTimeout:       durationpb.New(connectTimeout),
		// The registry is the authority on who is a member.
		IgnoreHealthOnHostRemoval: true,
	}
	if s.Protocol.L7() {
		// Our ingress takes HTTP/2 for every protocol. A foreign service has
		// none, so there the application's own version is spoken.
		c.TypedExtensionProtocolOptions = httpOptions(speaksH2(s), s.Timeouts)
	} else {
		c.UpstreamConnectionOptions = &clusterv3.UpstreamConnectionOptions{TcpKeepalive: tcpKeepalive()}
	}
	traffic.Cluster(c, v.Effective(s), traffic.Speak{H2: s.Protocol.L7() && speaksH2(s), Host: name}, zones(s))
	sockets(c, s)
	return Resource{ClusterType, name, c}
}

// appCluster is the application beside the node's Envoy. Where it may listen on
// loopback of either family, a connection that 127.0.0.1 refuses is tried at ::1.
func appCluster(in mesh.Ingress, either bool) Resource {
	name := "app-" + in.PortName
	app := &endpointv3.Endpoint{Address: socketAddress("127.0.0.1", in.AppPort)}
	switch {
	case in.AppAddr.IsValid():
		app.Address = socketAddress(in.AppAddr.String(), in.AppPort)
	case either:
		app.AdditionalAddresses = []*endpointv3.Endpoint_AdditionalAddress{{Address: socketAddress("::1", in.AppPort)}}
	}
	c := &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:       durationpb.New(connectTimeout),
		CircuitBreakers:      traffic.Unlimited(),
		LoadAssignment: &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
			LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: app}}},
		}}},
	}
	if in.Protocol.L7() {
		c.TypedExtensionProtocolOptions = httpOptions(in.Protocol != mesh.HTTP, in.Timeouts)
	}
	return Resource{ClusterType, name, c}
}

// tcpKeepalive finds peers that vanished without a word under connections
// that are silent by nature.
func tcpKeepalive() *corev3.TcpKeepalive {
	return &corev3.TcpKeepalive{
		KeepaliveTime:     wrapperspb.UInt32(uint32(pingInterval.Seconds())),
		KeepaliveInterval: wrapperspb.UInt32(uint32(pingTimeout.Seconds())),
		KeepaliveProbes:   wrapperspb.UInt32(3),
	}
}

// httpOptions choose the upstream's HTTP version. Between sidecars it is
// HTTP/2: a fifth less CPU under load (measured).
func httpOptions(h2 bool, t mesh.Timeouts) map[string]*anypb.Any {
	explicit := &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
		ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{HttpProtocolOptions: &corev3.Http1ProtocolOptions{EnableTrailers: true}},
	}
	if h2 {
		explicit.ProtocolConfig = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
			Http2ProtocolOptions: h2Options(),
		}
	}
	return map[string]*anypb.Any{httpOptionsKey: extension.Pack(&httpv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: durationpb.New(policy.IdleOf(t.Idle, true))},
		UpstreamProtocolOptions:   &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: explicit},
	})}
}

// h2Options allow extended CONNECT: a WebSocket travels between sidecars as
// one stream of HTTP/2.
func h2Options() *corev3.Http2ProtocolOptions {
	return &corev3.Http2ProtocolOptions{
		MaxConcurrentStreams: wrapperspb.UInt32(h2Streams),
		AllowConnect:         true,
		ConnectionKeepalive: &corev3.KeepaliveSettings{
			Interval: durationpb.New(pingInterval), Timeout: durationpb.New(pingTimeout),
			IntervalJitter: &typev3.Percent{Value: pingJitter},
		},
	}
}

// speaksH2 reports whether the endpoints of s take HTTP/2.
func speaksH2(s *mesh.Service) bool { return !s.Foreign || s.Protocol != mesh.HTTP }
