package bootstrap

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"
)

// Config is what one sidecar's Envoy starts with.
type Config struct {
	NodeID      string // mesh.Node.ID()
	NodeCluster string // "namespace/workload"
	Zone        string // availability zone id; may be empty
	Meta        NodeMeta
	// XDS lists the control plane's addresses, HOST:PORT; at least one.
	XDS []HostPort
	// TLSDir holds the node's certificate for the control channel, see
	// [SDSFiles]. Empty: plain text, which the control plane allows on
	// loopback only.
	TLSDir string
	// ServerName is the DNS SAN that the control plane's certificate must
	// have, whatever host name is dialled.
	ServerName string
	// AdminSocket is the path of Envoy's admin interface.
	AdminSocket string
}

// HostPort is an address of a control plane replica.
type HostPort struct {
	Host string
	Port uint16
}

// Files below TLSDir. The agent swaps the symlink `current` to renew; Envoy
// watches the directory and reads all three again.
const (
	CertFile    = "current/cert.pem"
	KeyFile     = "current/key.pem"
	CAFile      = "current/ca.pem"
	SDSCertFile = "sds-cert.yaml"
	SDSCAFile   = "sds-ca.yaml"
)

// reconnectMax bounds Envoy's back-off to the control plane: a new name is to
// be served soon after an outage ends.
const reconnectMax = 2 * time.Second

type obj = map[string]any

// SDSFiles are the two static files, by name, that make Envoy read the node's
// certificate from dir (an absolute path).
func SDSFiles(dir string) map[string][]byte {
	at := func(name string) obj { return obj{"filename": filepath.Join(dir, name)} }
	secret := func(name, kind string, content obj) []byte {
		content["watched_directory"] = obj{"path": dir}
		b, _ := json.MarshalIndent(obj{"resources": []obj{{
			"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret", "name": name, kind: content,
		}}}, "", "  ")
		return b
	}
	return map[string][]byte{
		SDSCertFile: secret("node", "tls_certificate", obj{"certificate_chain": at(CertFile), "private_key": at(KeyFile)}),
		SDSCAFile:   secret("control-ca", "validation_context", obj{"trusted_ca": at(CAFile)}),
	}
}

// JSON is the bootstrap file. CDS and LDS are waited for without limit: ready
// means configured.
func (c Config) JSON() ([]byte, error) {
	if len(c.XDS) == 0 || c.NodeID == "" || c.NodeCluster == "" || c.AdminSocket == "" {
		return nil, fmt.Errorf("bootstrap: node id, node cluster, admin socket and an xDS address are needed: %+v", c)
	}
	meta, err := c.Meta.Struct()
	if err != nil {
		return nil, err
	}
	node := obj{"id": c.NodeID, "cluster": c.NodeCluster, "metadata": meta.AsMap()}
	if c.Zone != "" {
		node["locality"] = obj{"zone": c.Zone}
	}
	fromADS := obj{"ads": obj{}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
	return json.MarshalIndent(obj{
		"node":  node,
		"admin": obj{"address": obj{"pipe": obj{"path": c.AdminSocket, "mode": 0o600}}},
		"dynamic_resources": obj{
			"ads_config": obj{
				"api_type": "DELTA_GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": true,
				"grpc_services": []obj{{"envoy_grpc": obj{
					"cluster_name": "xds",
					"retry_policy": obj{"retry_back_off": obj{"base_interval": "0.2s", "max_interval": fmt.Sprintf("%gs", reconnectMax.Seconds())}},
				}}},
			},
			"cds_config": fromADS,
			"lds_config": fromADS,
		},
		"static_resources": obj{"clusters": []obj{c.xdsCluster()}},
		"stats_config":     obj{"stats_matcher": obj{"inclusion_list": obj{"patterns": statPatterns}}},
		"deferred_stat_options": obj{
			"enable_deferred_creation_stats": true,
		},
		"layered_runtime": obj{"layers": []obj{{
			"name": "static", "static_layer": obj{"re2.max_program_size.error_level": 1000},
		}}},
	}, "", "  ")
}

// statPatterns keep what operators and the agent read; the rest costs 30 kB
// for each cluster (measured at 1,000 clusters).
var statPatterns = []obj{
	{"safe_regex": obj{"regex": `cluster\..*\.(upstream_rq_(total|[1-5]xx|time|retry|timeout)|upstream_cx_(active|total|connect_fail)|membership_(healthy|total)|ssl\..*|lb_zone.*|outlier_detection\..*)`}},
	{"prefix": "http."},
	{"prefix": "listener."},
	{"prefix": "listener_manager."},
	{"prefix": "cluster_manager."},
	{"prefix": "server."},
	{"prefix": "control_plane."},
	{"prefix": "tcp."},
}

func (c Config) xdsCluster() obj {
	var endpoints []obj
	kind := "STATIC"
	for _, a := range c.XDS {
		if _, err := netip.ParseAddr(a.Host); err != nil {
			kind = "STRICT_DNS"
		}
		endpoints = append(endpoints, obj{"endpoint": obj{"address": obj{"socket_address": obj{"address": a.Host, "port_value": a.Port}}}})
	}
	cluster := obj{
		"name": "xds", "type": kind, "connect_timeout": "2s",
		"load_assignment": obj{"cluster_name": "xds", "endpoints": []obj{{"lb_endpoints": endpoints}}},
		"typed_extension_protocol_options": obj{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": obj{
			"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
			"explicit_http_config": obj{"http2_protocol_options": obj{
				"connection_keepalive": obj{"interval": "30s", "timeout": "5s"},
			}},
		}},
	}
	if kind == "STRICT_DNS" {
		// A name that stands in a hosts file only has no IPv6 answer, and
		// Envoy would wait seconds for one.
		cluster["dns_lookup_family"] = "V4_PREFERRED"
	}
	if c.TLSDir == "" {
		return cluster
	}
	file := func(name, path string) obj {
		return obj{"name": name, "sds_config": obj{
			"path_config_source": obj{"path": filepath.Join(c.TLSDir, path)}, "resource_api_version": "V3",
		}}
	}
	cluster["transport_socket"] = obj{"name": "envoy.transport_sockets.tls", "typed_config": obj{
		"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
		"sni":   c.ServerName,
		"common_tls_context": obj{
			"tls_params":                         obj{"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
			"alpn_protocols":                     []string{"h2"},
			"tls_certificate_sds_secret_configs": []obj{file("node", SDSCertFile)},
			"combined_validation_context": obj{
				"default_validation_context": obj{"match_typed_subject_alt_names": []obj{{
					"san_type": "DNS", "matcher": obj{"exact": c.ServerName},
				}}},
				"validation_context_sds_secret_config": file("control-ca", SDSCAFile),
			},
		},
	}}
	return cluster
}
