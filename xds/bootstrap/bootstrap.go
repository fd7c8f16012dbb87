package bootstrap

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"patchbay/mesh"
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
	// IPv6Only is set where nothing is reached by IPv4: of a control plane with
	// both families the IPv6 address is taken.
	IPv6Only bool
	// ServerName is the DNS SAN that the control plane's certificate must
	// have, whatever host name is dialled.
	ServerName string
	// AdminSocket is the path of Envoy's admin interface.
	AdminSocket string
	// TapSocket is where the agent takes what a tap shows; needed if Meta.Tap
	// is set.
	TapSocket string
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
	sdsCertFile = "sds-cert.yaml"
	sdsCAFile   = "sds-ca.yaml"
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
		sdsCertFile: secret("node", "tls_certificate", obj{"certificate_chain": at(CertFile), "private_key": at(KeyFile)}),
		sdsCAFile:   secret("control-ca", "validation_context", obj{"trusted_ca": at(CAFile)}),
	}
}

// JSON is the bootstrap file. CDS and LDS are waited for without limit: ready
// means configured.
func (c Config) JSON() ([]byte, error) {
	if err := c.validate(); err != nil {
		return nil, err
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
	clusters := []obj{c.xdsCluster()}
	file := obj{
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
		"static_resources":      obj{"clusters": clusters},
		"stats_config":          obj{"stats_matcher": obj{"inclusion_list": obj{"patterns": []obj{{"safe_regex": obj{"regex": statPattern}}}}}},
		"deferred_stat_options": obj{"enable_deferred_creation_stats": true},
		"typed_dns_resolver_config": obj{
			"name": "envoy.network.dns_resolver.cares",
			"typed_config": obj{
				"@type":                 "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
				"query_timeout_seconds": dnsTimeout, "query_tries": dnsTries,
			},
		},
	}
	if c.Meta.Tap {
		clusters = append(clusters, tapCluster(c.TapSocket))
		file["static_resources"] = obj{"clusters": clusters}
		file["layered_runtime"] = obj{"layers": []obj{{"name": "admin", "admin_layer": obj{}}}}
	}
	if c.Zone != "" && c.Meta.Wiring != mesh.NoEgress {
		kind := LocalCrowd(c.NodeCluster)
		if own, ok := c.Meta.LocalService(filepath.Dir(c.NodeCluster)); ok {
			kind = LocalName(own)
		}
		file["static_resources"] = obj{"clusters": append(clusters, localCluster(kind))}
		file["cluster_manager"] = obj{"local_cluster_name": LocalCluster}
	}
	return json.MarshalIndent(file, "", "  ")
}

// Envoy starts when it has asked once for each name outside the mesh, and asks
// again for ever. Of a DNS server that does not answer it would take note after
// 72 s (measured); with these two it is a tenth of that: the second try takes
// twice as long, and it asks for IPv6, then for IPv4.
const (
	dnsTimeout = 1 // second, of the first try
	dnsTries   = 2
)

// maxPath is what a Unix socket's address can hold.
const maxPath = 107

func (c Config) validate() error {
	var errs []error
	need := func(ok bool, what string) {
		if !ok {
			errs = append(errs, fmt.Errorf("bootstrap: %s", what))
		}
	}
	need(c.NodeID != "", "a node id is needed")
	need(c.NodeCluster != "", "a node cluster is needed")
	need(len(c.XDS) > 0, "an xDS address is needed")
	for _, a := range c.XDS {
		need(a.Host != "" && a.Port != 0, fmt.Sprintf("xDS address %q, port %d; allowed: a host name or an IP address, and a port of 1 to 65535", a.Host, a.Port))
	}
	need(filepath.IsAbs(c.AdminSocket) && len(c.AdminSocket) <= maxPath, fmt.Sprintf("admin socket %q; allowed: an absolute path of at most %d bytes", c.AdminSocket, maxPath))
	need(!c.Meta.Tap || filepath.IsAbs(c.TapSocket) && len(c.TapSocket) <= maxPath, fmt.Sprintf("tap socket %q; allowed: an absolute path of at most %d bytes", c.TapSocket, maxPath))
	need(c.TLSDir == "" || filepath.IsAbs(c.TLSDir), fmt.Sprintf("certificate directory %q; allowed: an absolute path", c.TLSDir))
	need(c.TLSDir == "" || c.ServerName != "", "with a certificate directory, the control plane's name is needed")
	return errors.Join(errs...)
}

// statPattern keeps what operators, the agent and tests read; the rest costs
// 30 kB for each cluster (measured at 1,000 clusters). The last words of a
// cluster's name can't be told from a statistic's, so the pattern is anchored
// at the end. It is one expression because Envoy asks an expression once for
// each name, and holds every name that a request counts against each prefix:
// nine prefixes took 3.6 % of the instructions of a request of http (the part
// instructions of make bench, with them and without).
var statPattern = `cluster\..+\.(` + strings.Join([]string{
	`upstream_rq_(total|time|timeout|active|retry.*|pending_overflow|[1-5]xx|[1-5]\d\d)`,
	`upstream_cx_(total|active|overflow|connect_fail|connect_timeout|connect_ms|http[12]_total|(rx|tx)_bytes_total)`,
	`membership_(healthy|total)`, `lb_(zone|healthy_panic|local).*`, `outlier_detection\..+`,
	`update_(success|empty|rejected|no_rebuild)`, `init_fetch_timeout`, `assignment_use_cached`,
	`ssl\..+`, `client_ssl_socket_factory\..+`,
}, "|") + `)|(` + strings.Join([]string{
	"http", "listener", "listener_manager", "cluster_manager", "server", "control_plane", "tcp", "local_rate_limit",
}, "|") + `)\..+`

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
		// A name that only a hosts file has is asked for its IPv4 address
		// first: no name server is waited for.
		cluster["dns_lookup_family"] = "V4_PREFERRED"
		if c.IPv6Only {
			cluster["dns_lookup_family"] = "AUTO" // IPv6, then IPv4
		}
	}
	if c.TLSDir == "" {
		return cluster
	}
	cluster["transport_socket"] = c.xdsSocket()
	return cluster
}

// xdsSocket shows the node's certificate and trusts the control channel's CA
// for the control plane's name alone.
func (c Config) xdsSocket() obj {
	file := func(name, path string) obj {
		return obj{"name": name, "sds_config": obj{
			"path_config_source": obj{"path": filepath.Join(c.TLSDir, path)}, "resource_api_version": "V3",
		}}
	}
	return obj{"name": "envoy.transport_sockets.tls", "typed_config": obj{
		"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
		"sni":   c.ServerName,
		"common_tls_context": obj{
			"tls_params":                         obj{"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
			"alpn_protocols":                     []string{"h2"},
			"tls_certificate_sds_secret_configs": []obj{file("node", sdsCertFile)},
			"combined_validation_context": obj{
				"default_validation_context": obj{"match_typed_subject_alt_names": []obj{{
					"san_type": "DNS", "matcher": obj{"exact": c.ServerName},
				}}},
				"validation_context_sds_secret_config": file("control-ca", sdsCAFile),
			},
		},
	}}
}
