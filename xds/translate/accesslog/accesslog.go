// Package accesslog is the log that Service Connect documents, as Envoy writes
// it to its standard output.
//
// It owns the fields, their order, and both forms. It must not know in which
// listener it is. It is all in [Log].
package accesslog

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"patchbay/mesh"
	"patchbay/xds/bootstrap"
	"patchbay/xds/translate/extension"
)

// field is one field of an access log: its JSON key, and Envoy's operator.
type field struct{ key, operator string }

// path is filled in by [Log]: with or without the query string.
const path = "path"

// upstreamTime stands for the header of that name, which sidecars here don't
// add to responses: from the first byte sent upstream to the first received.
const upstreamTime = "%COMMON_DURATION(US_TX_BEG:US_RX_BEG:ms)%"

// fieldsOf are the documented fields in their order (Service Connect's page
// "Envoy access logs"). The duration's key depends on the protocol there, too.
func fieldsOf(p mesh.Protocol) []field {
	if p == mesh.TCP {
		return []field{
			{"start_time", "%START_TIME%"}, {"downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"}, {"downstream_remote_port", "%DOWNSTREAM_REMOTE_PORT%"},
			{"bytes_received", "%BYTES_RECEIVED%"}, {"bytes_sent", "%BYTES_SENT%"}, {"duration", "%DURATION%"},
			{"connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"}, {"connection_id", "%CONNECTION_ID%"},
		}
	}
	f := []field{
		{"start_time", "%START_TIME%"}, {"method", "%REQ(:METHOD)%"}, {path, ""}, {"protocol", "%PROTOCOL%"}, {"response_code", "%RESPONSE_CODE%"},
	}
	if p == mesh.GRPC {
		f = append(f, field{"grpc_status", "%GRPC_STATUS%"})
	}
	duration := "duration"
	if p == mesh.HTTP {
		duration = "duration_ms"
	}
	f = append(f,
		field{"bytes_received", "%BYTES_RECEIVED%"}, field{"bytes_sent", "%BYTES_SENT%"}, field{duration, "%DURATION%"},
		field{"upstream_service_time", upstreamTime}, field{"forwarded_for", "%REQ(X-FORWARDED-FOR)%"}, field{"user_agent", "%REQ(USER-AGENT)%"},
		field{"request_id", "%REQ(X-REQUEST-ID)%"}, field{"authority", "%REQ(:AUTHORITY)%"}, field{"upstream_host", "%UPSTREAM_HOST%"})
	if p != mesh.HTTP {
		f = append(f, field{"stream_id", "%STREAM_ID%"})
	}
	return f
}

// quoted are the fields that a text line quotes: they may hold spaces.
var quoted = map[string]bool{
	"forwarded_for": true, "user_agent": true, "request_id": true, "authority": true, "upstream_host": true,
	"connection_termination_details": true,
}

// Log writes to Envoy's standard output. It is nil when nobody asked.
func Log(l bootstrap.AccessLog, p mesh.Protocol) []*accesslogv3.AccessLog {
	if l.Format == "" {
		return nil
	}
	fields := fieldsOf(p)
	for i := range fields {
		if fields[i].key == path {
			fields[i].operator = "%PATH(NQ:ORIG_OR_PATH)%"
			if l.QueryParameters {
				fields[i].operator = "%PATH(WQ:ORIG_OR_PATH)%"
			}
		}
	}
	format := &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_TextFormatSource{
		TextFormatSource: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: textFormat(fields)}},
	}}
	if l.Format == "JSON" {
		values := map[string]*structpb.Value{}
		for _, f := range fields {
			values[f.key] = structpb.NewStringValue(f.operator)
		}
		format.Format = &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: &structpb.Struct{Fields: values}}
	}
	return []*accesslogv3.AccessLog{{
		Name: "envoy.access_loggers.stdout",
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: extension.Pack(&streamv3.StdoutAccessLog{
			AccessLogFormat: &streamv3.StdoutAccessLog_LogFormat{LogFormat: format},
		})},
	}}
}

// textFormat is the line of the fields: the start in brackets, the request
// line in quotes, as Envoy's own format has them.
func textFormat(fields []field) string {
	line := ""
	for i, f := range fields {
		switch {
		case i == 0:
			line = "[" + f.operator + "]"
			continue
		case f.key == "method":
			line += ` "` + f.operator
			continue
		case f.key == "protocol":
			line += " " + f.operator + `"`
			continue
		case quoted[f.key]:
			line += ` "` + f.operator + `"`
		default:
			line += " " + f.operator
		}
	}
	return line + "\n"
}
