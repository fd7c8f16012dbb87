package translate

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	roundrobinv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"patchbay/mesh"
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
// so that their changes never touch it; one thing excepted: it learns TLS
// when the first endpoint of a plain service speaks it.
func cluster(s *mesh.Service) Resource {
	name := s.Name.String()
	c := &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads()},
		ConnectTimeout:       durationpb.New(connectTimeout),
		LoadBalancingPolicy:  roundRobin(),
		CircuitBreakers:      breakers(),
		OutlierDetection:     outliers(),
		// The registry is the authority on who is a member.
		IgnoreHealthOnHostRemoval: true,
	}
	if s.Protocol.L7() {
		// Our ingress takes HTTP/2 for every protocol. A foreign service has
		// none, so there the application's own version is spoken.
		c.TypedExtensionProtocolOptions = httpOptions(!s.Foreign || s.Protocol != mesh.HTTP, s.Timeouts)
	} else {
		c.UpstreamConnectionOptions = &clusterv3.UpstreamConnectionOptions{TcpKeepalive: tcpKeepalive()}
	}
	sockets(c, s)
	return Resource{ClusterType, name, c}
}

// appCluster is the application beside the node's Envoy.
func appCluster(in mesh.Ingress) Resource {
	name, addr := "app-"+in.PortName, "127.0.0.1"
	if in.AppAddr.IsValid() {
		addr = in.AppAddr.String()
	}
	c := &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:       durationpb.New(connectTimeout),
		CircuitBreakers:      breakers(),
		LoadAssignment: &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
			LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
				Endpoint: &endpointv3.Endpoint{Address: socketAddress(addr, in.AppPort)},
			}}},
		}}},
	}
	if in.Protocol.L7() {
		c.TypedExtensionProtocolOptions = httpOptions(in.Protocol != mesh.HTTP, in.Timeouts)
	}
	return Resource{ClusterType, name, c}
}

func roundRobin() *clusterv3.LoadBalancingPolicy {
	return &clusterv3.LoadBalancingPolicy{Policies: []*clusterv3.LoadBalancingPolicy_Policy{{
		TypedExtensionConfig: &corev3.TypedExtensionConfig{Name: "envoy.load_balancing_policies.round_robin", TypedConfig: pack(&roundrobinv3.RoundRobin{})},
	}}}
}

// outliers ejects a host after failures in a row: of connections, or answers
// of a gateway (the peer's Envoy, when its application is gone). An
// application's other errors are answers, and nothing is judged by
// comparison with other hosts.
func outliers() *clusterv3.OutlierDetection {
	never, always, failures := wrapperspb.UInt32(0), wrapperspb.UInt32(100), wrapperspb.UInt32(outlierFailures)
	return &clusterv3.OutlierDetection{
		Interval:                               durationpb.New(outlierInterval),
		BaseEjectionTime:                       durationpb.New(outlierEjection),
		MaxEjectionTime:                        durationpb.New(outlierMax),
		MaxEjectionPercent:                     wrapperspb.UInt32(maxEjectedPercent),
		SplitExternalLocalOriginErrors:         true,
		ConsecutiveLocalOriginFailure:          failures,
		EnforcingConsecutiveLocalOriginFailure: always,
		ConsecutiveGatewayFailure:              failures,
		EnforcingConsecutiveGatewayFailure:     always,
		EnforcingConsecutive_5Xx:               never,
		EnforcingSuccessRate:                   never,
		EnforcingLocalOriginSuccessRate:        never,
	}
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
		ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{HttpProtocolOptions: &corev3.Http1ProtocolOptions{}},
	}
	if h2 {
		explicit.ProtocolConfig = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
			Http2ProtocolOptions: h2Options(),
		}
	}
	return map[string]*anypb.Any{httpOptionsKey: pack(&httpv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: durationpb.New(or(t.Idle, idleL7))},
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

func breakers() *clusterv3.CircuitBreakers {
	max := wrapperspb.UInt32(unlimited)
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxConnections: max, MaxPendingRequests: max, MaxRequests: max, MaxRetries: max,
	}}}
}
