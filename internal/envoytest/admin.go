package envoytest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func adminClient(socket string) *http.Client {
	return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
}

// Get is the body of a page of the admin interface. "LIVE" and its opposites
// come with different statuses, so a status is no error.
func (e *Envoy) Get(path string) (string, error) {
	return e.do(http.MethodGet, path)
}

// Post changes something, such as "/drain_listeners?graceful".
func (e *Envoy) Post(path string) (string, error) {
	return e.do(http.MethodPost, path)
}

func (e *Envoy) do(method, path string) (string, error) {
	req, err := http.NewRequest(method, "http://envoy"+path, nil) //nolint:noctx // the client has a limit
	if err != nil {
		return "", err
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func (e *Envoy) page(t testing.TB, path string) string {
	t.Helper()
	body, err := e.Get(path)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// Stats are the counters and gauges by name. What Envoy has not counted yet
// may be absent.
func (e *Envoy) Stats(t testing.TB) map[string]float64 {
	t.Helper()
	var all struct {
		Stats []struct {
			Name  string
			Value any // a text readout's is a string
		}
	}
	if err := json.Unmarshal([]byte(e.page(t, "/stats?format=json")), &all); err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, s := range all.Stats {
		if v, ok := s.Value.(float64); ok {
			out[s.Name] = v
		}
	}
	return out
}

// Sum adds up the statistics whose name begins and ends so.
func (e *Envoy) Sum(t testing.TB, prefix, suffix string) float64 {
	t.Helper()
	var n float64
	for name, v := range e.Stats(t) {
		if strings.HasPrefix(name, prefix) && strings.HasSuffix(name, suffix) {
			n += v
		}
	}
	return n
}

// ConfigDump is everything that Envoy is configured with, endpoints included.
func (e *Envoy) ConfigDump(t testing.TB) string {
	t.Helper()
	return e.page(t, "/config_dump?include_eds")
}

// Listeners are the addresses of the listeners in use, by name.
func (e *Envoy) Listeners(t testing.TB) map[string]string {
	t.Helper()
	out := map[string]string{}
	for line := range strings.Lines(e.page(t, "/listeners")) {
		if name, addr, ok := strings.Cut(strings.TrimSpace(line), "::"); ok {
			out[name] = addr
		}
	}
	return out
}

// Clusters are the hosts in use, "ADDRESS:PORT", by the cluster's name. One that
// the registry calls unhealthy has " UNHEALTHY" behind it.
func (e *Envoy) Clusters(t testing.TB) map[string][]string {
	t.Helper()
	var all struct {
		ClusterStatuses []struct {
			Name         string
			HostStatuses []struct {
				HealthStatus struct {
					EDS string `json:"eds_health_status"`
				} `json:"health_status"`
				Address struct {
					SocketAddress struct {
						Address   string
						PortValue uint16 `json:"port_value"`
					} `json:"socket_address"`
				}
			} `json:"host_statuses"`
		} `json:"cluster_statuses"`
	}
	if err := json.Unmarshal([]byte(e.page(t, "/clusters?format=json")), &all); err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for _, c := range all.ClusterStatuses {
		out[c.Name] = []string{}
		for _, h := range c.HostStatuses {
			a := h.Address.SocketAddress
			host := net.JoinHostPort(a.Address, fmt.Sprint(a.PortValue))
			if h.HealthStatus.EDS == "UNHEALTHY" {
				host += " UNHEALTHY"
			}
			out[c.Name] = append(out[c.Name], host)
		}
	}
	return out
}
