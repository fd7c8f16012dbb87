package bootstrap

// What a tap needs (decision 017): the log of it stands in every listener,
// switched off, and goes to the agent's socket once its runtime keys say so.
const (
	// TapCluster is where the log goes: the agent, by its Unix socket.
	TapCluster = "tap"
	// TapIngress and TapEgress are the logs' names: which way a request goes,
	// from the task's side.
	TapIngress = "ingress"
	TapEgress  = "egress"
	// TapFraction is the runtime key of how many requests of a million are
	// logged; without it, none.
	TapFraction = "patchbay.tap"
	// TapStatus is the runtime key of the least HTTP status that is logged;
	// without it, 0: all.
	TapStatus = "patchbay.tap_status"
	// TapMillion is the denominator of [TapFraction].
	TapMillion = 1_000_000
)

// TapTag is the custom tag with what Envoy's entry has no field for: the version
// of the upstream connection's TLS and the URI in its peer's certificate, with a
// space between, and "-" for what is not there. One tag, since each costs memory in
// every listener.
const TapTag = "more"

// TapGRPCStatus is the header, or trailer, of responses of gRPC that is logged.
const TapGRPCStatus = "grpc-status"

// TapHeaders are the request headers of an ingress that are logged besides
// those that have fields of their own; of [TapSecrets] nobody is shown more than
// that they are there. Envoy can log named headers only.
var TapHeaders = []string{
	"accept", "accept-encoding", "accept-language", "b3", "cache-control", "content-encoding", "content-length", "content-type", "expect", "forwarded",
	"grpc-encoding", "grpc-timeout", "if-match", "if-modified-since", "if-none-match", "origin", "prefer", "range", "te", "traceparent", "tracestate",
	"upgrade", "via", "x-amzn-trace-id", "x-b3-traceid", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto",
}

// TapSecrets are headers that may hold secrets.
var TapSecrets = []string{
	"authorization", "cookie", "idempotency-key", "proxy-authorization", "x-amz-security-token", "x-api-key", "x-auth-token", "x-csrf-token",
}

// tapWindow bounds what Envoy keeps, of each worker and direction, for an agent
// that does not read; it is HTTP/2's own least. Envoy's default is 16 MiB
// (measured).
const tapWindow = 65_535

// tapCluster is static: Envoy takes no other for a log.
func tapCluster(socket string) obj {
	return obj{
		"name": TapCluster, "type": "STATIC", "connect_timeout": "1s", "per_connection_buffer_limit_bytes": tapWindow,
		"load_assignment": obj{"cluster_name": TapCluster, "endpoints": []obj{{"lb_endpoints": []obj{{"endpoint": obj{"address": obj{"pipe": obj{"path": socket}}}}}}}},
		"typed_extension_protocol_options": obj{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": obj{
			"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
			"explicit_http_config": obj{"http2_protocol_options": obj{"initial_stream_window_size": tapWindow, "initial_connection_window_size": tapWindow}},
		}},
	}
}
