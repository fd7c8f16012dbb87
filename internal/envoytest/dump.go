package envoytest

import (
	"encoding/json"
	"testing"
)

// Ref names a resource that Envoy holds.
type Ref struct{ TypeURL, Name string }

// Dump is what /config_dump says of dynamic resources.
type Dump struct {
	Versions map[Ref]string // of those in use
	Warming  []string       // clusters and listeners that wait for something
	Errors   []string       // listeners that could not be added, with Envoy's words
}

const types = "type.googleapis.com/envoy."

type named struct {
	Name        string
	ClusterName string `json:"cluster_name"`
}

// configDump is the part of the answer that is read.
type configDump struct {
	Configs []struct {
		ActiveClusters []struct {
			Version string `json:"version_info"`
			Cluster named
		} `json:"dynamic_active_clusters"`
		WarmingClusters []struct{ Cluster named } `json:"dynamic_warming_clusters"`
		Listeners       []struct {
			Name   string
			Active *struct {
				Version string `json:"version_info"`
			} `json:"active_state"`
			Warming *struct{}                 `json:"warming_state"`
			Error   *struct{ Details string } `json:"error_state"`
		} `json:"dynamic_listeners"`
		Routes []struct {
			Version string `json:"version_info"`
			Route   named  `json:"route_config"`
		} `json:"dynamic_route_configs"`
		Secrets []struct {
			Name    string
			Version string `json:"version_info"`
		} `json:"dynamic_active_secrets"`
	}
}

// Dump reads the configuration that is in use.
func (e *Envoy) Dump(t testing.TB) Dump {
	t.Helper()
	var all configDump
	if err := json.Unmarshal([]byte(e.ConfigDump(t)), &all); err != nil {
		t.Fatal(err)
	}
	d := Dump{Versions: map[Ref]string{}}
	for _, c := range all.Configs {
		for _, x := range c.ActiveClusters {
			d.Versions[Ref{types + "config.cluster.v3.Cluster", x.Cluster.Name}] = x.Version
		}
		for _, x := range c.WarmingClusters {
			d.Warming = append(d.Warming, x.Cluster.Name)
		}
		for _, x := range c.Listeners {
			if x.Active != nil {
				d.Versions[Ref{types + "config.listener.v3.Listener", x.Name}] = x.Active.Version
			}
			if x.Warming != nil {
				d.Warming = append(d.Warming, x.Name)
			}
			if x.Error != nil {
				d.Errors = append(d.Errors, x.Name+": "+x.Error.Details)
			}
		}
		for _, x := range c.Routes {
			d.Versions[Ref{types + "config.route.v3.RouteConfiguration", x.Route.Name}] = x.Version
		}
		for _, x := range c.Secrets {
			d.Versions[Ref{types + "extensions.transport_sockets.tls.v3.Secret", x.Name}] = x.Version
		}
	}
	return d
}
