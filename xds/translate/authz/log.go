package authz

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"patchbay/xds/translate/extension"
)

// Log writes a line of JSON to Envoy's standard output for each call that is
// refused, or in a dry run would be: who called, whom, what, and why not.
func Log(p Port, l7 bool) *accesslogv3.AccessLog {
	filter, decided := tcpFilter, "enforced_engine_result" // which the filter of tcp does not leave
	if l7 {
		filter = httpFilter
	}
	what := "denied"
	if p.Rules.DryRun {
		decided, what = "shadow_engine_result", "would be denied"
	}
	fields := map[string]string{
		"authorization": what, "time": "%START_TIME%", "service": p.Service.String(),
		"caller": "%DOWNSTREAM_PEER_URI_SAN%", "address": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
		"why": "no rule of its authorization allows it",
	}
	if l7 {
		fields["method"], fields["path"], fields["request_id"] = "%REQ(:METHOD)%", "%PATH(NQ:ORIG_OR_PATH)%", "%REQ(X-REQUEST-ID)%"
		fields["details"] = "%RESPONSE_CODE_DETAILS%"
	} else {
		fields["details"] = "%CONNECTION_TERMINATION_DETAILS%"
	}
	values := map[string]*structpb.Value{}
	for k, v := range fields {
		values[k] = structpb.NewStringValue(v)
	}
	return &accesslogv3.AccessLog{
		Name: "envoy.access_loggers.stdout",
		Filter: &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_MetadataFilter{MetadataFilter: &accesslogv3.MetadataFilter{
			Matcher: &matcherv3.MetadataMatcher{
				Filter: filter, Path: []*matcherv3.MetadataMatcher_PathSegment{{Segment: &matcherv3.MetadataMatcher_PathSegment_Key{Key: decided}}},
				Value: &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_StringMatch{StringMatch: exactly("denied")}},
			},
			MatchIfKeyNotFound: wrapperspb.Bool(false),
		}}},
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: extension.Pack(&streamv3.StdoutAccessLog{
			AccessLogFormat: &streamv3.StdoutAccessLog_LogFormat{LogFormat: &corev3.SubstitutionFormatString{
				Format: &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: &structpb.Struct{Fields: values}},
			}},
		})},
	}
}
