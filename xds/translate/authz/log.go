package authz

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"patchbay/xds/translate/extension"
)

// Log writes a line of JSON to Envoy's standard output for each call that is
// refused, or in a dry run would be: who called, whom, what, and why not. Of
// tcp it is for dry runs: see [Refusals].
func Log(p Port, l7 bool) *accesslogv3.AccessLog {
	filter, decided, what := tcpFilter, "enforced_engine_result", "denied"
	if p.Rules.DryRun {
		decided, what = "shadow_engine_result", "would be denied"
	}
	fields := map[string]string{"authorization": what, "details": "%CONNECTION_TERMINATION_DETAILS%"}
	if l7 {
		filter = httpFilter
		fields["method"], fields["path"], fields["request_id"] = "%REQ(:METHOD)%", "%PATH(NQ:PATH)%", "%REQ(X-REQUEST-ID)%"
		fields["details"] = "%RESPONSE_CODE_DETAILS%"
	}
	return p.line(fields, &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_MetadataFilter{MetadataFilter: &accesslogv3.MetadataFilter{
		Matcher: &matcherv3.MetadataMatcher{
			Filter: filter, Path: []*matcherv3.MetadataMatcher_PathSegment{{Segment: &matcherv3.MetadataMatcher_PathSegment_Key{Key: decided}}},
			Value: &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_StringMatch{StringMatch: exactly("denied")}},
		},
		MatchIfKeyNotFound: wrapperspb.Bool(false),
	}}})
}

// Refusals are the lines for connections that are refused in the handshake,
// because of the name that the caller has shown: see [Names]. It is the
// listener's own log, since no filter ever hears of them. A caller that shows
// no certificate is no such case, nor is one that nobody trusts.
func Refusals(p Port) *accesslogv3.AccessLog {
	return p.line(map[string]string{"authorization": "denied", "details": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%"},
		&accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ExtensionFilter{ExtensionFilter: &accesslogv3.ExtensionFilter{
			Name: "envoy.access_loggers.extension_filters.cel",
			// Envoy's words for a certificate that is good but for its names (measured).
			ConfigType: &accesslogv3.ExtensionFilter_TypedConfig{TypedConfig: extension.Pack(&celv3.ExpressionFilter{
				Expression: `connection.transport_failure_reason.contains("SAN matcher")`,
			})},
		}}})
}

// line is a log of the fields, and of what every line has, for what passes the
// filter.
func (p Port) line(fields map[string]string, filter *accesslogv3.AccessLogFilter) *accesslogv3.AccessLog {
	values := map[string]*structpb.Value{}
	for k, v := range map[string]string{
		"time": "%START_TIME%", "service": p.Service.String(), "caller": "%DOWNSTREAM_PEER_URI_SAN%", "address": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
		"why": "no rule of its authorization allows it",
	} {
		values[k] = structpb.NewStringValue(v)
	}
	for k, v := range fields {
		values[k] = structpb.NewStringValue(v)
	}
	return &accesslogv3.AccessLog{
		Name:   "envoy.access_loggers.stdout",
		Filter: filter,
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: extension.Pack(&streamv3.StdoutAccessLog{
			AccessLogFormat: &streamv3.StdoutAccessLog_LogFormat{LogFormat: &corev3.SubstitutionFormatString{
				Format: &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: &structpb.Struct{Fields: values}},
			}},
		})},
	}
}
