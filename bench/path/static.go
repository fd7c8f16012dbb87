package path

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"patchbay/bench/load"
)

// The pair that was tuned by hand. It has what patchbay's has, so that only
// the way to the configuration differs: HTTP/2 with one connection for each
// worker between the two, retries, outlier detection, timeouts, request ids, no
// limits in the way, few statistics. It knows nothing of a control plane.

type obj = map[string]any

const extensions = "type.googleapis.com/envoy.extensions."

func typed(typeURL string, o obj) obj {
	o["@type"] = extensions + typeURL
	return o
}

func address(ip string, port uint16) obj {
	return obj{"socket_address": obj{"address": ip, "port_value": port}}
}

func h2() obj {
	return obj{"max_concurrent_streams": 1024, "allow_connect": true,
		"connection_keepalive": obj{"interval": "30s", "timeout": "5s", "interval_jitter": obj{"value": 15}}}
}

// openStatic starts both Envoys.
func (w *world) openStatic(ctx context.Context, v variant) (*route, error) {
	r := &route{addresses: map[string]string{}}
	r.stop = func() {
		for _, e := range r.envoys {
			e.stop()
		}
	}
	egress, ingress, err := w.static(v, r.addresses)
	if err != nil {
		return nil, err
	}
	for _, b := range []obj{ingress, egress} {
		e, err := w.byHand(ctx, b)
		if err != nil {
			r.stop()
			return nil, err
		}
		r.envoys = append(r.envoys, e)
	}
	if err := r.reached(ctx); err != nil {
		r.stop()
		return nil, err
	}
	return r, nil
}

// byHand starts an Envoy with a hand-made bootstrap.
func (w *world) byHand(ctx context.Context, b obj) (*envoy, error) {
	dir, admin, err := place(w.Options)
	if err != nil {
		return nil, err
	}
	b["admin"] = obj{"address": obj{"pipe": obj{"path": admin, "mode": 0o600}}}
	text, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	return w.startEnvoy(ctx, dir, admin, text)
}

// static is the configuration of both; it fills in where clients connect.
func (w *world) static(v variant, addresses map[string]string) (egress, ingress obj, err error) {
	var inListeners, outListeners, inClusters, outClusters []obj
	for _, p := range load.Protocols {
		in, err := freePort("127.0.0.1")
		if err != nil {
			return nil, nil, err
		}
		out, err := freePort("127.0.0.1")
		if err != nil {
			return nil, nil, err
		}
		addresses[p] = local(out)
		var down, up obj
		if v.tls {
			if down, up, err = w.staticTLS(p); err != nil {
				return nil, nil, err
			}
		}
		l := listener("ingress-"+p, "0.0.0.0", in, "INBOUND", filterOf(p, "ingress", "app-"+p, false, v.log), down)
		l["connection_balance_config"] = obj{"exact_balance": obj{}}
		inListeners = append(inListeners, l)
		outListeners = append(outListeners, listener("egress-"+p, "127.0.0.1", out, "OUTBOUND", filterOf(p, "egress", p+".prod", true, v.log), nil))
		inClusters = append(inClusters, clusterTo("app-"+p, w.ports[p], p, p == "http", false, nil))
		outClusters = append(outClusters, clusterTo(p+".prod", in, p, false, true, up))
	}
	return whole(outListeners, outClusters), whole(inListeners, inClusters), nil
}

func whole(listeners, clusters []obj) obj {
	kept := `cluster\..+\.(` + strings.Join([]string{
		`upstream_rq_(total|time|timeout|active|retry.*|[1-5]xx)`, `upstream_cx_(total|active|connect_fail|http[12]_total)`,
		`membership_(healthy|total)`, `outlier_detection\..+`, `ssl\..+`,
	}, "|") + `)|(http|listener|server|tcp)\..+`
	return obj{
		"static_resources":      obj{"listeners": listeners, "clusters": clusters},
		"stats_config":          obj{"stats_matcher": obj{"inclusion_list": obj{"patterns": []obj{{"safe_regex": obj{"regex": kept}}}}}},
		"deferred_stat_options": obj{"enable_deferred_creation_stats": true},
	}
}

func listener(name, ip string, port uint16, direction string, filter, socket obj) obj {
	chain := obj{"filters": []obj{filter}}
	if socket != nil {
		chain["transport_socket"] = socket
	}
	return obj{"name": name, "address": address(ip, port), "traffic_direction": direction, "stat_prefix": strings.ToLower(direction), "filter_chains": []obj{chain}}
}

func filterOf(protocol, stat, cluster string, egress, log bool) obj {
	var f obj
	name := "envoy.filters.network.http_connection_manager"
	if protocol == "tcp" {
		name = "envoy.filters.network.tcp_proxy"
		f = typed("filters.network.tcp_proxy.v3.TcpProxy", obj{"stat_prefix": stat, "cluster": cluster, "idle_timeout": "3600s", "max_connect_attempts": 3})
	} else {
		f = typed("filters.network.http_connection_manager.v3.HttpConnectionManager", obj{
			"stat_prefix": stat, "codec_type": "AUTO", "route_config": routesTo(cluster, protocol, egress),
			"http_filters":    []obj{{"name": "envoy.filters.http.router", "typed_config": typed("filters.http.router.v3.Router", obj{"suppress_envoy_headers": true})}},
			"upgrade_configs": []obj{{"upgrade_type": "websocket"}}, "http_protocol_options": obj{"accept_http_10": true},
			"http2_protocol_options": h2(), "stream_idle_timeout": "0s", "server_header_transformation": "PASS_THROUGH",
		})
	}
	if log {
		f["access_log"] = []obj{accessLog(protocol)}
	}
	return obj{"name": name, "typed_config": f}
}

func routesTo(cluster, protocol string, egress bool) obj {
	action := obj{"cluster": cluster, "timeout": "0s", "idle_timeout": "0s"}
	if egress {
		on := "connect-failure,refused-stream,reset-before-request,retriable-status-codes"
		if protocol == "grpc" {
			on += ",unavailable"
		}
		action = obj{"cluster": cluster, "timeout": "15s", "idle_timeout": "300s", "retry_policy": obj{
			"retry_on": on, "num_retries": 2, "retriable_status_codes": []int{503}, "host_selection_retry_max_attempts": 5,
			"retry_host_predicate": []obj{{"name": "envoy.retry_host_predicates.previous_hosts",
				"typed_config": typed("retry.host.previous_hosts.v3.PreviousHostsPredicate", obj{})}},
		}}
	}
	return obj{"name": cluster, "virtual_hosts": []obj{{"name": cluster, "domains": []string{"*"},
		"routes": []obj{{"match": obj{"prefix": "/"}, "route": action}}}}}
}

// clusterTo is one host: HTTP/1.1 or HTTP/2, with what a caller needs if many
// is true.
func clusterTo(name string, port uint16, protocol string, h1, many bool, socket obj) obj {
	c := obj{
		"name": name, "type": "STATIC", "connect_timeout": "2s",
		"circuit_breakers": obj{"thresholds": []obj{{"max_connections": 1 << 30, "max_pending_requests": 1 << 30, "max_requests": 1 << 30, "max_retries": 1 << 30}}},
		"load_assignment":  obj{"cluster_name": name, "endpoints": []obj{{"lb_endpoints": []obj{{"endpoint": obj{"address": address("127.0.0.1", port)}}}}}},
	}
	if protocol != "tcp" {
		explicit := obj{"http2_protocol_options": h2()}
		if h1 {
			explicit = obj{"http_protocol_options": obj{}}
		}
		c["typed_extension_protocol_options"] = obj{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed("upstreams.http.v3.HttpProtocolOptions",
			obj{"explicit_http_config": explicit, "common_http_protocol_options": obj{"idle_timeout": "300s"}})}
	}
	if many {
		c["outlier_detection"] = obj{
			"interval": "30s", "base_ejection_time": "30s", "max_ejection_time": "300s", "max_ejection_percent": 100, "split_external_local_origin_errors": true,
			"consecutive_local_origin_failure": 5, "enforcing_consecutive_local_origin_failure": 100,
			"consecutive_gateway_failure": 5, "enforcing_consecutive_gateway_failure": 100,
			"enforcing_consecutive_5xx": 0, "enforcing_success_rate": 0, "enforcing_local_origin_success_rate": 0,
		}
	}
	if socket != nil {
		c["transport_socket"] = socket
	}
	return c
}

// staticTLS makes a certificate for a service and the sockets of both sides.
func (w *world) staticTLS(protocol string) (down, up obj, err error) {
	name := protocol + ".prod"
	chain, key, err := w.ca.Issue(name)
	if err != nil {
		return nil, nil, err
	}
	file := func(kind string, b []byte) string {
		path := filepath.Join(w.Dir, name+"."+kind+".pem")
		if err == nil {
			err = os.WriteFile(path, b, 0o600)
		}
		return path
	}
	leaf := obj{"certificate_chain": obj{"filename": file("chain", chain)}, "private_key": obj{"filename": file("key", key)}}
	trust := obj{"trusted_ca": obj{"filename": file("ca", w.ca.RootPEM)},
		"match_typed_subject_alt_names": []obj{{"san_type": "DNS", "matcher": obj{"exact": name}}}}
	only13 := obj{"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}
	inside := obj{"tls_params": only13, "tls_certificates": []obj{leaf}}
	outside := obj{"tls_params": only13, "validation_context": trust}
	if protocol != "tcp" {
		inside["alpn_protocols"], outside["alpn_protocols"] = []string{"h2", "http/1.1"}, []string{"h2"}
	}
	socket := func(kind string, o obj) obj {
		return obj{"name": "envoy.transport_sockets.tls", "typed_config": typed("transport_sockets.tls.v3."+kind, o)}
	}
	return socket("DownstreamTlsContext", obj{"common_tls_context": inside}),
		socket("UpstreamTlsContext", obj{"common_tls_context": outside, "sni": name, "max_session_keys": 64}), err
}

// accessLog is a JSON line on standard output with the fields of patchbay's.
func accessLog(protocol string) obj {
	format := obj{
		"start_time": "%START_TIME%", "method": "%REQ(:METHOD)%", "path": "%PATH(NQ:ORIG_OR_PATH)%", "protocol": "%PROTOCOL%", "response_code": "%RESPONSE_CODE%",
		"bytes_received": "%BYTES_RECEIVED%", "bytes_sent": "%BYTES_SENT%", "duration": "%DURATION%",
		"upstream_service_time": "%COMMON_DURATION(US_TX_BEG:US_RX_BEG:ms)%", "forwarded_for": "%REQ(X-FORWARDED-FOR)%", "user_agent": "%REQ(USER-AGENT)%",
		"request_id": "%REQ(X-REQUEST-ID)%", "authority": "%REQ(:AUTHORITY)%", "upstream_host": "%UPSTREAM_HOST%",
	}
	switch protocol {
	case "tcp":
		format = obj{
			"start_time": "%START_TIME%", "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%", "downstream_remote_port": "%DOWNSTREAM_REMOTE_PORT%",
			"bytes_received": "%BYTES_RECEIVED%", "bytes_sent": "%BYTES_SENT%", "duration": "%DURATION%",
			"connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%", "connection_id": "%CONNECTION_ID%",
		}
	case "grpc":
		format["grpc_status"] = "%GRPC_STATUS%"
		fallthrough
	case "http2":
		format["stream_id"] = "%STREAM_ID%"
	}
	return obj{"name": "envoy.access_loggers.stdout", "typed_config": typed("access_loggers.stream.v3.StdoutAccessLog", obj{"log_format": obj{"json_format": format}})}
}
