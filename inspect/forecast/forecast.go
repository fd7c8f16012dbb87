// Package forecast says what a change would do to the mesh before it is made.
//
// It owns the comparison of the mesh as it is with the mesh as it would be, by
// the same translation that makes what is sent; nothing is published. It must
// not know where a change is written. Start reading at [Of].
package forecast

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"patchbay/admin/api"
	"patchbay/inspect/compare"
	"patchbay/mesh"
	"patchbay/mesh/policy"
	"patchbay/xds"
	"patchbay/xds/content"
	"patchbay/xds/translate"
)

// Of compares two snapshots as the views would show them.
func Of(old, now *mesh.Snapshot, views []xds.Seen) (*api.Forecast, error) {
	out := &api.Forecast{At: time.Now().UTC(), Services: []api.ServiceForecast{}, Resources: []api.ResourceForecast{}, Sidecars: []string{}}
	changed := differing(old, now)
	for _, name := range slices.SortedFunc(maps.Keys(changed), mesh.ServiceName.Compare) {
		s, err := service(name, old.Service(name), now.Service(name))
		if err != nil {
			return nil, err
		}
		out.Services = append(out.Services, *s)
	}
	touched := map[string]bool{}
	for _, v := range views {
		before, err := resources(v, old, changed)
		if err != nil {
			return nil, err
		}
		after, err := resources(v, now, changed)
		if err != nil {
			return nil, err
		}
		rows, err := rows(v, before, after)
		if err != nil {
			return nil, err
		}
		out.Resources = append(out.Resources, rows...)
		for _, n := range v.Nodes {
			if len(rows) > 0 {
				touched[n] = true
			}
		}
	}
	out.Sidecars = append(out.Sidecars, slices.Sorted(maps.Keys(touched))...)
	return out, nil
}

// differing are the services that are not the same in both.
func differing(old, now *mesh.Snapshot) map[mesh.ServiceName]bool {
	out := map[mesh.ServiceName]bool{}
	for _, s := range now.Services {
		if !old.Service(s.Name).Equal(s) {
			out[s.Name] = true
		}
	}
	for _, s := range old.Services {
		if now.Service(s.Name) == nil {
			out[s.Name] = true
		}
	}
	return out
}

// shape is a service in words that people compare.
type shape struct {
	Protocol   mesh.Protocol `json:"protocol,omitempty"`
	Aliases    []string      `json:"aliases,omitempty"`
	TLS        string        `json:"tls,omitempty"` // issuer
	TLSOnly    bool          `json:"tlsOnly,omitempty"`
	KMSKey     string        `json:"kmsKey,omitempty"`
	Idle       string        `json:"idleTimeout,omitempty"`
	PerRequest string        `json:"perRequestTimeout,omitempty"`
	External   []string      `json:"external,omitempty"`

	Policy *policy.Policy `json:"policies,omitempty"`
}

func shapeOf(s *mesh.Service) shape {
	if s == nil {
		return shape{}
	}
	out := shape{Protocol: s.Protocol, Policy: s.Policy}
	if s.External != nil {
		for _, a := range s.External.Addresses {
			out.External = append(out.External, a.String())
		}
	}
	for _, a := range s.Aliases {
		out.Aliases = append(out.Aliases, fmt.Sprintf("%s:%d", a.DNSName, a.Port))
	}
	if s.TLS != nil {
		out.TLS, out.TLSOnly, out.KMSKey = s.TLS.Issuer, s.TLS.Only, s.TLS.KMSKey
	}
	if d := s.Timeouts.Idle; d != nil {
		out.Idle = d.String()
	}
	if d := s.Timeouts.PerRequest; d != nil {
		out.PerRequest = d.String()
	}
	return out
}

func service(name mesh.ServiceName, old, now *mesh.Service) (*api.ServiceForecast, error) {
	out := &api.ServiceForecast{Name: name.String(), Kind: kind(old != nil, now != nil)}
	var err error
	out.Changes, err = compare.Values(shapeOf(old), shapeOf(now))
	return out, err
}

func kind(before, after bool) string {
	switch {
	case !before:
		return api.Added
	case !after:
		return api.Removed
	}
	return api.Changed
}

// resources are those of the differing services that a view shows, as JSON.
func resources(v xds.Seen, snap *mesh.Snapshot, changed map[mesh.ServiceName]bool) (map[[2]string]string, error) {
	out := map[[2]string]string{}
	for _, s := range snap.Told(v.Namespace, v.Dependencies, v.Hidden) {
		if !changed[s.Name] {
			continue
		}
		all := translate.Service(v.View, s)
		if v.Proxyless {
			all = translate.Proxyless(s)
		}
		for _, r := range all {
			b, err := content.JSON(r.Message) // what is shared holds no secret
			if err != nil {
				return nil, err
			}
			out[[2]string{r.TypeURL, r.Name}] = string(b)
		}
	}
	return out, nil
}

// short are the types by their names in the status.
var short = map[string]string{
	translate.ClusterType: "cds", translate.EndpointType: "eds", translate.ListenerType: "lds", translate.RouteType: "rds",
}

func rows(v xds.Seen, before, after map[[2]string]string) ([]api.ResourceForecast, error) {
	var out []api.ResourceForecast
	all := maps.Clone(before)
	maps.Copy(all, after)
	for _, ref := range slices.SortedFunc(maps.Keys(all), func(a, b [2]string) int {
		return strings.Compare(short[a[0]]+" "+a[1], short[b[0]]+" "+b[1])
	}) {
		was, had := before[ref]
		is, has := after[ref]
		if was == is {
			continue
		}
		r := api.ResourceForecast{View: v.Key, Sidecars: len(v.Nodes), Type: short[ref[0]], Name: ref[1], Kind: kind(had, has), Cuts: cuts(ref[0], kind(had, has))}
		if had && has {
			var err error
			if r.Changes, err = compare.Values(json.RawMessage(was), json.RawMessage(is)); err != nil {
				return nil, err
			}
		}
		out = append(out, r)
	}
	return out, nil
}

// cuts says which connections end when a resource changes. Routes and
// endpoints never cut one.
func cuts(typeURL, kind string) string {
	switch {
	case kind == api.Added:
		return ""
	case typeURL == translate.ListenerType && kind == api.Removed:
		return "the applications' connections to this address are closed"
	case typeURL == translate.ListenerType:
		return "the listener is replaced: the applications' connections to this address are drained, then closed"
	case typeURL == translate.ClusterType && kind == api.Removed:
		return "connections to its endpoints are closed"
	case typeURL == translate.ClusterType:
		return "the cluster is replaced: new connections are made to its endpoints; what is under way on the old ones ends first"
	}
	return ""
}
