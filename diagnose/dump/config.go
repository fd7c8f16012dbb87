package dump

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"patchbay/admin/api"
)

// The parts of Envoy's configuration that a diagnosis needs. Fields that could
// hold a key are left out: what is not decoded can't be shown.
type (
	section struct {
		Type      string         `json:"@type"`
		Clusters  []versioned    `json:"dynamic_active_clusters"`
		Warming   []versioned    `json:"dynamic_warming_clusters"`
		Listeners []listenerDump `json:"dynamic_listeners"`
		Routes    []versioned    `json:"dynamic_route_configs"`
		Secrets   []secretDump   `json:"dynamic_active_secrets"`
		Waiting   []secretDump   `json:"dynamic_warming_secrets"`
		Endpoints []struct {
			Config assignment `json:"endpoint_config"`
		} `json:"dynamic_endpoint_configs"`
	}
	versioned struct {
		Version string          `json:"version_info"`
		Cluster clusterConfig   `json:"cluster"`
		Route   routeConfig     `json:"route_config"`
		Lis     json.RawMessage `json:"listener"`
	}
	listenerDump struct {
		Name    string     `json:"name"`
		Active  *versioned `json:"active_state"`
		Warming *versioned `json:"warming_state"`
		Error   *struct {
			Details string `json:"details"`
		} `json:"error_state"`
	}
	tlsConfig struct {
		SNI    string `json:"sni"`
		Common struct {
			Certificates []named `json:"tls_certificate_sds_secret_configs"`
			Combined     struct {
				Default struct {
					SANs []struct {
						Matcher struct {
							Exact string `json:"exact"`
						} `json:"matcher"`
					} `json:"match_typed_subject_alt_names"`
				} `json:"default_validation_context"`
				Secret named `json:"validation_context_sds_secret_config"`
			} `json:"combined_validation_context"`
		} `json:"common_tls_context"`
	}
	named     struct{ Name string }
	transport struct {
		Name  string    `json:"name"`
		Typed tlsConfig `json:"typed_config"`
	}
	clusterConfig struct {
		Name   string     `json:"name"`
		Socket *transport `json:"transport_socket"`
	}
	routeConfig struct {
		Name  string `json:"name"`
		Hosts []struct {
			Routes []struct {
				Route struct {
					Cluster  string `json:"cluster"`
					Weighted struct {
						Clusters []named `json:"clusters"`
					} `json:"weighted_clusters"`
					Timeout string `json:"timeout"`
					Retry   struct {
						On string `json:"retry_on"`
					} `json:"retry_policy"`
				} `json:"route"`
			} `json:"routes"`
		} `json:"virtual_hosts"`
	}
	listenerConfig struct {
		Chains []struct {
			Socket  *transport `json:"transport_socket"`
			Filters []struct {
				Typed struct {
					Rds struct {
						Name string `json:"route_config_name"`
					} `json:"rds"`
					Cluster string `json:"cluster"`
				} `json:"typed_config"`
			} `json:"filters"`
		} `json:"filter_chains"`
	}
	assignment struct {
		Cluster   string `json:"cluster_name"`
		Endpoints []struct {
			Hosts []struct {
				Endpoint struct {
					Address struct {
						Socket socket `json:"socket_address"`
					} `json:"address"`
				} `json:"endpoint"`
				Metadata struct {
					Filter map[string]map[string]any `json:"filter_metadata"`
				} `json:"metadata"`
			} `json:"lb_endpoints"`
		} `json:"endpoints"`
	}
)

// config reads /config_dump?include_eds.
func config(t *api.Task, b []byte) error {
	var v struct {
		Configs []section `json:"configs"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	plain := map[string]bool{}
	for _, s := range v.Configs {
		for _, c := range s.Clusters {
			t.Clusters = append(t.Clusters, cluster(c, api.Active))
		}
		for _, c := range s.Warming {
			t.Clusters = append(t.Clusters, cluster(c, api.Warming))
		}
		for _, l := range s.Listeners {
			one, err := listener(l)
			if err != nil {
				return err
			}
			t.Listeners = append(t.Listeners, one)
		}
		for _, r := range s.Routes {
			t.Routes = append(t.Routes, route(r))
		}
		for _, x := range s.Secrets {
			t.Secrets = append(t.Secrets, secret(x, api.Active))
		}
		for _, x := range s.Waiting {
			t.Secrets = append(t.Secrets, secret(x, api.Warming))
		}
		for _, e := range s.Endpoints {
			plainHosts(e.Config, plain)
		}
	}
	t.Plain = slices.Sorted(maps.Keys(plain))
	return nil
}

func plainHosts(a assignment, plain map[string]bool) {
	for _, l := range a.Endpoints {
		for _, h := range l.Hosts {
			if h.Metadata.Filter["envoy.transport_socket_match"]["tls"] == false {
				plain[a.Cluster+" "+h.Endpoint.Address.Socket.String()] = true
			}
		}
	}
}

func cluster(c versioned, state string) api.TaskCluster {
	out := api.TaskCluster{Name: c.Cluster.Name, Version: c.Version, State: state, Hosts: []api.TaskHost{}}
	if s := c.Cluster.Socket; s != nil && strings.HasSuffix(s.Name, ".tls") {
		out.TLS, out.SNI, out.Trust = true, s.Typed.SNI, s.Typed.Common.Combined.Secret.Name
		for _, san := range s.Typed.Common.Combined.Default.SANs {
			out.SANs = append(out.SANs, san.Matcher.Exact)
		}
	}
	return out
}

func listener(l listenerDump) (api.TaskListener, error) {
	out := api.TaskListener{Name: l.Name, State: api.Broken}
	if l.Error != nil {
		out.Error = l.Error.Details
	}
	has := l.Active
	switch {
	case l.Active != nil:
		out.State = api.Active
	case l.Warming != nil:
		out.State, has = api.Warming, l.Warming
	}
	if has == nil {
		return out, nil
	}
	out.Version = has.Version
	var c listenerConfig
	if err := json.Unmarshal(has.Lis, &c); err != nil {
		return out, err
	}
	for _, chain := range c.Chains {
		if s := chain.Socket; s != nil && len(s.Typed.Common.Certificates) > 0 {
			out.Secret = s.Typed.Common.Certificates[0].Name
		}
		for _, f := range chain.Filters {
			if f.Typed.Rds.Name != "" {
				out.Route = f.Typed.Rds.Name
			}
			if f.Typed.Cluster != "" {
				out.Cluster = f.Typed.Cluster
			}
		}
	}
	return out, nil
}

func route(r versioned) api.TaskRoute {
	out := api.TaskRoute{Name: r.Route.Name, Version: r.Version, Clusters: []string{}}
	for _, h := range r.Route.Hosts {
		for _, x := range h.Routes {
			if x.Route.Cluster != "" {
				out.Clusters = append(out.Clusters, x.Route.Cluster)
			}
			for _, w := range x.Route.Weighted.Clusters {
				out.Clusters = append(out.Clusters, w.Name)
			}
			out.Timeout, out.RetryOn = x.Route.Timeout, x.Route.Retry.On
		}
	}
	return out
}
