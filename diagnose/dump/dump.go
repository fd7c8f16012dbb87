// Package dump reads what an Envoy says of itself.
//
// It owns the form of Envoy's admin pages, as far as a diagnosis needs them. It
// must not judge, and takes nothing over that could be a key. Start reading at
// [Task].
package dump

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"patchbay/admin/api"
	"patchbay/agentapi"
)

// Task reads what an agent saw. Pages that can't be read are named among the
// errors; the rest is there.
func Task(node string, s *agentapi.Seen) *api.Task {
	t := &api.Task{
		Node: node, At: s.At, Errors: map[string]string{}, Hosts: map[string]string{}, Listening: s.Listening,
		Listeners: []api.TaskListener{}, Routes: []api.TaskRoute{}, Clusters: []api.TaskCluster{}, Secrets: []api.TaskSecret{}, Stats: map[string]uint64{},
	}
	maps.Copy(t.Errors, s.Errors)
	for _, l := range s.Hosts {
		for _, n := range l.Names {
			if _, taken := t.Hosts[n]; !taken {
				t.Hosts[n] = plain(l.Address) // the first line counts
			}
		}
	}
	for _, p := range []struct {
		name string
		read func(*api.Task, []byte) error
	}{{"server_info", serverInfo}, {"memory", memory}, {"config_dump", config}, {"clusters", clusters}, {"listeners", listeners}, {"stats", stats}} {
		if page, ok := s.Pages[p.name]; ok {
			if err := p.read(t, page); err != nil {
				t.Errors[p.name] = "it is not understood: " + err.Error()
			}
		}
	}
	slices.SortFunc(t.Listeners, func(a, b api.TaskListener) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(t.Routes, func(a, b api.TaskRoute) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(t.Clusters, func(a, b api.TaskCluster) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(t.Secrets, func(a, b api.TaskSecret) int { return cmp.Compare(a.Name, b.Name) })
	return t
}

func serverInfo(t *api.Task, b []byte) error {
	var v struct {
		Version string `json:"version"` // COMMIT/VERSION/…
		State   string `json:"state"`
		Uptime  string `json:"uptime_current_epoch"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	t.State = v.State
	if parts := strings.Split(v.Version, "/"); len(parts) > 1 {
		t.Envoy = parts[1]
	}
	if d, err := time.ParseDuration(v.Uptime); err == nil {
		t.UpSeconds = d.Seconds()
	}
	return nil
}

func memory(t *api.Task, b []byte) error {
	var v struct {
		Allocated string `json:"allocated"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	n, err := strconv.ParseUint(v.Allocated, 10, 64)
	t.Memory = n
	return err
}

func stats(t *api.Task, b []byte) error {
	var v struct {
		Stats []struct {
			Name  string          `json:"name"`
			Value json.RawMessage `json:"value"`
		} `json:"stats"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	for _, s := range v.Stats {
		if n, err := strconv.ParseUint(string(s.Value), 10, 64); err == nil && s.Name != "" {
			t.Stats[s.Name] = n
		}
	}
	return nil
}

// clusters adds the hosts that each cluster has, and why they are not used.
func clusters(t *api.Task, b []byte) error {
	var v struct {
		Clusters []struct {
			Name  string `json:"name"`
			Hosts []struct {
				Address struct {
					Socket socket `json:"socket_address"`
				} `json:"address"`
				Health   map[string]any `json:"health_status"`
				Weight   uint32         `json:"weight"`
				Locality struct {
					Zone string `json:"zone"`
				} `json:"locality"`
			} `json:"host_statuses"`
		} `json:"cluster_statuses"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	for _, c := range v.Clusters {
		i := slices.IndexFunc(t.Clusters, func(k api.TaskCluster) bool { return k.Name == c.Name && k.State == api.Active })
		if i < 0 {
			if c.Name == "xds" || c.Name == "tap" {
				continue
			}
			t.Clusters = append(t.Clusters, api.TaskCluster{Name: c.Name, State: api.Active, Hosts: []api.TaskHost{}})
			i = len(t.Clusters) - 1
		}
		for _, h := range c.Hosts {
			one := api.TaskHost{Address: h.Address.Socket.String(), Zone: h.Locality.Zone, Weight: h.Weight}
			for flag, value := range h.Health {
				switch {
				case flag == "eds_health_status" && value == "UNHEALTHY":
					one.Failing = append(one.Failing, "eds_health_unhealthy")
				case value == true:
					one.Failing = append(one.Failing, flag)
				}
			}
			slices.Sort(one.Failing)
			t.Clusters[i].Hosts = append(t.Clusters[i].Hosts, one)
		}
	}
	return nil
}

// listeners adds where listeners are open. One that the dump shows as active
// and this page lacks is not open yet.
func listeners(t *api.Task, b []byte) error {
	var v struct {
		Listeners []struct {
			Name    string `json:"name"`
			Address struct {
				Socket socket `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	open := map[string]string{}
	for _, l := range v.Listeners {
		open[l.Name] = l.Address.Socket.String()
	}
	for i, l := range t.Listeners {
		if addr, ok := open[l.Name]; ok {
			t.Listeners[i].Address = addr
		}
	}
	return nil
}

type socket struct {
	Address string `json:"address"`
	Port    uint16 `json:"port_value"`
}

func (s socket) String() string {
	if ip, err := netip.ParseAddr(s.Address); err == nil {
		return netip.AddrPortFrom(ip, s.Port).String()
	}
	return net.JoinHostPort(s.Address, fmt.Sprint(s.Port))
}

// plain is an address without the form that IPv6 has for it, which stands in a
// line of its own: both lead to the same place.
func plain(addr string) string {
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return addr
	}
	return a.Unmap().String()
}
