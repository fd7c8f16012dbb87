package translate

import (
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"patchbay/mesh"
	"patchbay/mesh/policy"
	"patchbay/xds/bootstrap"
	"patchbay/xds/translate/accesslog"
	"patchbay/xds/translate/authz"
	"patchbay/xds/translate/extension"
	"patchbay/xds/translate/tapped"
	"patchbay/xds/translate/traffic"
	"patchbay/xds/views"
)

// blackhole is the name of a cluster that never exists: a connection to a
// virtual address without a listener ends there at once.
const blackhole = "blackhole"

// redirectListener receives every connection to the VIP range and hands it to
// the listener of its original destination; one without is closed.
func redirectListener(port uint16, exclusive bool) Resource {
	const name = bootstrap.EgressListener
	return Resource{ListenerType, name, &listenerv3.Listener{
		Name:             name,
		Address:          socketAddress("127.0.0.1", port),
		EnableReusePort:  reusePort(exclusive),
		UseOriginalDst:   wrapperspb.Bool(true),
		TrafficDirection: corev3.TrafficDirection_OUTBOUND,
		StatPrefix:       statEgress,
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{
			filter(tcpProxyName, &tcpv3.TcpProxy{
				StatPrefix: "unknown_vip", ClusterSpecifier: &tcpv3.TcpProxy_Cluster{Cluster: blackhole},
			}),
		}}},
	}}
}

// reusePort is off where another Envoy may have the port: two of one user
// would share it in silence (measured). Elsewhere it is Envoy's default, on.
func reusePort(exclusive bool) *wrapperspb.BoolValue {
	if exclusive {
		return wrapperspb.Bool(false)
	}
	return nil
}

// egressListener is immutable for the life of its alias: routes come by RDS,
// and a tcp alias keeps its cluster's name.
func egressListener(v views.View, s *mesh.Service, a mesh.Alias, name string) Resource {
	l := &listenerv3.Listener{
		Name:             name,
		Address:          socketAddress(a.VIP.String(), a.Port),
		TrafficDirection: corev3.TrafficDirection_OUTBOUND,
		StatPrefix:       statEgress,
	}
	if v.Wiring == mesh.Redirect {
		l.BindToPort = wrapperspb.Bool(false)
	} else {
		l.EnableReusePort = reusePort(v.Exclusive)
		if s.External != nil {
			l.SocketOptions = refuseOurs()
		}
	}
	log := accesslog.Log(v.AccessLog, s.Protocol)
	if v.Tap {
		log = append(log, tapped.Log(bootstrap.TapEgress, s.Protocol))
	}
	p := v.Effective(s)
	f := filter(tcpProxyName, tcpProxy(statEgress, s.Name.String(), time.Duration(*p.Timeout.Idle), 1+*p.Retries.Max, log))
	if s.Protocol.L7() {
		f = httpFilter(statEgress, name, log, v.Tracing, traffic.FaultFilter())
	}
	l.FilterChains = []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{f}}}
	return Resource{ListenerType, name, l}
}

// ingressListener is where the other tasks, and load balancers, connect to.
// Where the task can listen on IPv6, one socket takes both.
func ingressListener(in mesh.Ingress, meta bootstrap.NodeMeta, id Identity, trace views.Tracing) Resource {
	name := "ingress-" + in.PortName
	idle := policy.IdleOf(in.Timeouts.Idle, false)
	if idle > 0 {
		idle += ingressGrace
	}
	log := accesslog.Log(meta.AccessLog, in.Protocol)
	if meta.Tap {
		log = append(log, tapped.Log(bootstrap.TapIngress, in.Protocol))
	}
	chain := &listenerv3.FilterChain{}
	if in.Protocol.L7() {
		chain.Filters = []*listenerv3.Filter{ingressHTTP(in, id, name, log, trace)}
	} else {
		chain.Filters = ingressTCP(in, id, idle, log)
	}
	if in.TLS != nil {
		chain.TransportSocket = downstreamTLS(in, id)
	}
	return Resource{ListenerType, name, &listenerv3.Listener{
		Name:             name,
		AccessLog:        id.refusals(in),
		Address:          wildcard(in.ListenerPort, meta.IPv6),
		EnableReusePort:  reusePort(meta.Exclusive || meta.ExclusiveIngress),
		TrafficDirection: corev3.TrafficDirection_INBOUND,
		StatPrefix:       name, // a task has few of them
		FilterChains:     []*listenerv3.FilterChain{chain},
		// Two h2 connections of one caller land on one worker in half of all
		// starts without it (measured).
		ConnectionBalanceConfig: &listenerv3.Listener_ConnectionBalanceConfig{
			BalanceType: &listenerv3.Listener_ConnectionBalanceConfig_ExactBalance_{ExactBalance: &listenerv3.Listener_ConnectionBalanceConfig_ExactBalance{}},
		},
	}}
}

// ingressHTTP has no filter but the router unless the policy wants one.
func ingressHTTP(in mesh.Ingress, id Identity, routes string, log []*accesslogv3.AccessLog, trace views.Tracing) *listenerv3.Filter {
	var first []*hcmv3.HttpFilter
	var rules *policy.Authorization
	if p := in.Policy; p != nil {
		if rules = p.Authorization; rules != nil {
			port := authz.Port{Service: in.Service, TrustDomain: id.TrustDomain, Rules: rules}
			first, log = append(first, authz.HTTP(port)), append(log, authz.Log(port, true))
		}
		if p.RateLimit != nil {
			first = append(first, traffic.HTTPLimit(p.RateLimit))
		}
	}
	m := httpManager(statIngress, routes, log, first...)
	authz.Normalize(m, rules)
	sendSpans(m, trace)
	return filter(httpManagerName, m)
}

// ingressTCP is the same for connections.
func ingressTCP(in mesh.Ingress, id Identity, idle time.Duration, log []*accesslogv3.AccessLog) (out []*listenerv3.Filter) {
	if p := in.Policy; p != nil {
		if p.Authorization != nil && p.Authorization.DryRun {
			port := authz.Port{Service: in.Service, TrustDomain: id.TrustDomain, Rules: p.Authorization}
			out, log = append(out, authz.TCP(port)), append(log, authz.Log(port, false))
		}
		if p.RateLimit != nil {
			out = append(out, traffic.TCPLimit(p.RateLimit))
		}
	}
	proxy := tcpProxy(statIngress, "app-"+in.PortName, idle, 1, log)
	if in.Policy.RequiresAt(in.PortName) { // else the application hears of those who are then refused
		proxy.UpstreamConnectMode, proxy.MaxEarlyDataBytes = tcpv3.UpstreamConnectMode_ON_DOWNSTREAM_TLS_HANDSHAKE, wrapperspb.UInt32(0)
	}
	return append(out, filter(tcpProxyName, proxy))
}

func wildcard(port uint16, ipv6 bool) *corev3.Address {
	if !ipv6 {
		return socketAddress("0.0.0.0", port)
	}
	a := socketAddress("::", port)
	a.GetSocketAddress().Ipv4Compat = true
	return a
}

const httpManagerName = "envoy.filters.network.http_connection_manager"

func httpFilter(stat, routes string, log []*accesslogv3.AccessLog, trace views.Tracing, first ...*hcmv3.HttpFilter) *listenerv3.Filter {
	m := httpManager(stat, routes, log, first...)
	sendSpans(m, trace)
	return filter(httpManagerName, m)
}

// httpManager changes nothing that an application would notice: host, path and
// the server header stay, and no header of Envoy's own is added but the
// request id. HTTP/1.0 is accepted: nginx speaks it to its upstreams. Trailers
// of HTTP/1.1 pass, which Envoy would drop. The filters in first stand before
// the router.
func httpManager(stat, routes string, log []*accesslogv3.AccessLog, first ...*hcmv3.HttpFilter) *hcmv3.HttpConnectionManager {
	return &hcmv3.HttpConnectionManager{
		StatPrefix: stat,
		AccessLog:  log,
		CodecType:  hcmv3.HttpConnectionManager_AUTO,
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
			ConfigSource: ads(), RouteConfigName: routes,
		}},
		HttpFilters: append(first, &hcmv3.HttpFilter{
			Name:       "envoy.filters.http.router",
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: extension.Pack(&routerv3.Router{SuppressEnvoyHeaders: true})},
		}),
		UpgradeConfigs:             []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
		HttpProtocolOptions:        &corev3.Http1ProtocolOptions{AcceptHttp_10: true, EnableTrailers: true},
		Http2ProtocolOptions:       h2Options(),
		StreamIdleTimeout:          durationpb.New(0), // the route's governs
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,
	}
}

const tcpProxyName = "envoy.filters.network.tcp_proxy"

func tcpProxy(stat, cluster string, idle time.Duration, tries uint32, log []*accesslogv3.AccessLog) *tcpv3.TcpProxy {
	return &tcpv3.TcpProxy{
		StatPrefix:         stat,
		AccessLog:          log,
		ClusterSpecifier:   &tcpv3.TcpProxy_Cluster{Cluster: cluster},
		IdleTimeout:        durationpb.New(idle),
		MaxConnectAttempts: wrapperspb.UInt32(tries),
	}
}

func filter(name string, m proto.Message) *listenerv3.Filter {
	return &listenerv3.Filter{Name: name, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: extension.Pack(m)}}
}
