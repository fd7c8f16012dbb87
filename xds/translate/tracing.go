package translate

import (
	"net/netip"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tracev3 "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	uuidv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/request_id/uuid/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"patchbay/mesh"
	"patchbay/xds/translate/extension"
	"patchbay/xds/views"
)

// collector is the name of its cluster. It has no dot: services have one.
const collector = "tracing"

// spanTimeout is how long the collector may take. Spans are then lost; requests
// never wait for it.
const spanTimeout = 5 * time.Second

func tracingCluster(t views.Tracing) Resource {
	discovery := "LOGICAL_DNS"
	if _, err := netip.ParseAddr(t.Collector.Host); err == nil {
		discovery = "STATIC"
	}
	c := targetCluster(collector, discovery, []mesh.HostPort{t.Collector})
	c.TypedExtensionProtocolOptions = httpOptions(!t.HTTP, mesh.Timeouts{})
	return Resource{ClusterType, collector, c}
}

// sendSpans makes a connection manager send spans. The request id stays what it
// is: by default Envoy writes its decision into it.
func sendSpans(m *hcmv3.HttpConnectionManager, t views.Tracing) {
	if !t.On() {
		return
	}
	otel := &tracev3.OpenTelemetryConfig{ServiceName: t.Service}
	if t.HTTP {
		otel.HttpService = &corev3.HttpService{HttpUri: &corev3.HttpUri{
			Uri:              "http://" + t.Collector.String() + "/v1/traces",
			HttpUpstreamType: &corev3.HttpUri_Cluster{Cluster: collector}, Timeout: durationpb.New(spanTimeout),
		}}
	} else {
		otel.GrpcService = &corev3.GrpcService{
			TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: collector}}, Timeout: durationpb.New(spanTimeout),
		}
	}
	m.Tracing = &hcmv3.HttpConnectionManager_Tracing{
		RandomSampling: &typev3.Percent{Value: t.Percent},
		Provider:       &tracev3.Tracing_Http{Name: "envoy.tracers.opentelemetry", ConfigType: &tracev3.Tracing_Http_TypedConfig{TypedConfig: extension.Pack(otel)}},
	}
	m.RequestIdExtension = &hcmv3.RequestIDExtension{TypedConfig: extension.Pack(&uuidv3.UuidRequestIdConfig{
		PackTraceReason: wrapperspb.Bool(false), UseRequestIdForTraceSampling: wrapperspb.Bool(false),
	})}
}
