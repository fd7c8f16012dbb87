// Package tapped is the log that `patchbay tap` reads: one in each listener,
// switched off.
//
// It owns when it logs, what of a request, and where to. It must not know who
// reads it. It is all in [Log].
package tapped

import (
	"slices"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	grpclogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	tracingv3 "github.com/envoyproxy/go-control-plane/envoy/type/tracing/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"patchbay/mesh"
	"patchbay/xds/bootstrap"
	"patchbay/xds/translate/extension"
)

// quiet is how often a worker looks for entries that wait. None does: each is
// sent at once, so that nobody is woken for a log that is off.
const quiet = 3600

// Log has the name [bootstrap.TapIngress] or [bootstrap.TapEgress]. It is off until runtime says otherwise (see [bootstrap.TapFraction]); until
// then a request costs one look-up. An entry is sent at once, or dropped where
// the agent does not read: the buffer of one byte holds one entry, and what is
// on its way is bounded by the stream's window.
func Log(name string, p mesh.Protocol) *accesslogv3.AccessLog {
	common := &grpclogv3.CommonGrpcAccessLogConfig{
		LogName: name,
		GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
			EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: bootstrap.TapCluster},
		}},
		TransportApiVersion: corev3.ApiVersion_V3,
		BufferSizeBytes:     wrapperspb.UInt32(1),
		BufferFlushInterval: &durationpb.Duration{Seconds: quiet},
	}
	common.CustomTags = []*tracingv3.CustomTag{{Tag: bootstrap.TapTag, Type: &tracingv3.CustomTag_Value{Value: "%UPSTREAM_TLS_VERSION% %UPSTREAM_PEER_URI_SAN%"}}}
	out := &accesslogv3.AccessLog{Name: "envoy.access_loggers.tcp_grpc", Filter: lifted()}
	if !p.L7() {
		out.ConfigType = &accesslogv3.AccessLog_TypedConfig{TypedConfig: extension.Pack(&grpclogv3.TcpGrpcAccessLogConfig{CommonConfig: common})}
		return out
	}
	http := &grpclogv3.HttpGrpcAccessLogConfig{CommonConfig: common}
	if name == bootstrap.TapIngress { // a task has few; the names of headers would double what a log costs
		http.AdditionalRequestHeadersToLog = slices.Concat(bootstrap.TapHeaders, bootstrap.TapSecrets)
	}
	if p == mesh.GRPC { // a formatter in a tag sees neither (measured)
		http.AdditionalResponseHeadersToLog, http.AdditionalResponseTrailersToLog = []string{bootstrap.TapGRPCStatus}, []string{bootstrap.TapGRPCStatus}
	}
	out.Name = "envoy.access_loggers.http_grpc"
	out.ConfigType = &accesslogv3.AccessLog_TypedConfig{TypedConfig: extension.Pack(http)}
	return out
}

// lifted is true for the share of requests that runtime names, of those with
// the status that it names, or a higher one. A connection of tcp has status 0.
func lifted() *accesslogv3.AccessLogFilter {
	share := &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_RuntimeFilter{RuntimeFilter: &accesslogv3.RuntimeFilter{
		RuntimeKey: bootstrap.TapFraction, PercentSampled: &typev3.FractionalPercent{Denominator: typev3.FractionalPercent_MILLION}, UseIndependentRandomness: true,
	}}}
	status := &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_StatusCodeFilter{StatusCodeFilter: &accesslogv3.StatusCodeFilter{
		Comparison: &accesslogv3.ComparisonFilter{Op: accesslogv3.ComparisonFilter_GE, Value: &corev3.RuntimeUInt32{RuntimeKey: bootstrap.TapStatus}},
	}}}
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_AndFilter{AndFilter: &accesslogv3.AndFilter{
		Filters: []*accesslogv3.AccessLogFilter{share, status},
	}}}
}
