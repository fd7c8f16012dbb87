// Package traffic reads what an Envoy has counted as the traffic of its task.
//
// It owns which statistics count, what they mean and how often they are read. It
// must not know whom they are told to. Start reading at [Watch].
package traffic

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"patchbay/agentapi"
)

// counted is the regular expression of the statistics that make an
// [agentapi.Traffic].
const counted = `^(cluster\..*\.(upstream_rq_total|upstream_rq_5xx|upstream_rq_time|upstream_cx_total|upstream_cx_connect_fail|ssl\.(handshake|connection_error|fail_verify_.*|versions\..*))|` +
	`http\.ingress\.downstream_rq_(total|5xx)|(http\.ingress\.http_local_rate_limit|local_rate_limit\.ingress)\.rate_limited|http\.ingress\.rbac\.denied|(http|tcp)\.ingress\.rbac\.shadow_denied|listener\.ingress(-[^.]+)?\.(downstream_cx_total|ssl\.(connection_error|fail_verify_san|versions\..*))|server\.uptime)$`

// statsPage is /stats?format=json.
type statsPage struct {
	Stats []struct {
		Name       string          `json:"name"`
		Value      json.RawMessage `json:"value"`
		Histograms *struct {
			Quantiles []float64 `json:"supported_quantiles"`
			Computed  []struct {
				Name   string `json:"name"`
				Values []struct {
					Interval *float64 `json:"interval"`
				} `json:"values"`
			} `json:"computed_quantiles"`
		} `json:"histograms"`
	} `json:"stats"`
}

// ofIngress matches a statistic of an ingress listener; each port has its own.
var ofIngress = regexp.MustCompile(`^listener\.ingress(?:-[^.]+)?\.(.+)$`)

var clusterStat = regexp.MustCompile(`^cluster\.(.+)\.(upstream_rq_total|upstream_rq_5xx|upstream_rq_time|upstream_cx_total|upstream_cx_connect_fail|ssl\..+)$`)

// read makes an agentapi.Traffic of a page of statistics (/stats?format=json)
// and of the connections that stand, by cluster.
func read(page []byte, stood map[string]uint64, now time.Time) (*agentapi.Traffic, error) {
	var p statsPage
	if err := json.Unmarshal(page, &p); err != nil {
		return nil, fmt.Errorf("statistics: %w", err)
	}
	t := &agentapi.Traffic{Served: &agentapi.Served{}}
	called, divided := map[string]*agentapi.Called{}, revisions{}
	of := func(service string) *agentapi.Called {
		if called[service] == nil {
			called[service] = &agentapi.Called{Service: service}
		}
		return called[service]
	}
	var clusters Clusters
	for _, s := range p.Stats {
		clusters.Add(s.Name)
	}
	for _, s := range p.Stats {
		if h := s.Histograms; h != nil {
			for _, c := range h.Computed {
				m := clusterStat.FindStringSubmatch(c.Name)
				if m == nil {
					continue
				}
				name, ok := clusters.Service(m[1])
				for i, q := range h.Quantiles {
					if ok && i < len(c.Values) && c.Values[i].Interval != nil {
						quantile(of(name), q, *c.Values[i].Interval)
					}
				}
			}
			continue
		}
		var n uint64
		if json.Unmarshal(s.Value, &n) != nil {
			continue
		}
		if m := clusterStat.FindStringSubmatch(s.Name); m != nil {
			if name, ok := clusters.Service(m[1]); ok {
				add(of(name), m[2], n)
				divided.add(m[1], m[2], n)
			}
			continue
		}
		serve(t, s.Name, n, now)
	}
	for cluster, n := range stood {
		if mine(cluster) {
			of(service(cluster)).Established += n
		}
	}
	for _, name := range slices.Sorted(maps.Keys(called)) {
		if c := called[name]; c.GetConnections() > 0 || c.GetFailed() > 0 {
			c.Revisions = divided.of(name)
			t.Called = append(t.Called, c)
		}
	}
	return t, nil
}

func add(c *agentapi.Called, stat string, n uint64) {
	switch {
	case stat == "upstream_rq_total":
		c.Requests += n
	case stat == "upstream_rq_5xx":
		c.Errors += n
	case stat == "upstream_cx_total":
		c.Connections += n
	case stat == "upstream_cx_connect_fail":
		c.Failed += n
	case stat == "ssl.versions.TLSv1.3":
		c.Tls13 += n
	case strings.HasPrefix(stat, "ssl.versions."):
		c.TlsOlder += n
	case strings.HasPrefix(stat, "ssl.fail_verify"):
		c.Unverified += n
	}
	c.Tls = c.GetTls() || strings.HasPrefix(stat, "ssl.")
}

func quantile(c *agentapi.Called, q, ms float64) {
	switch q {
	case 50:
		c.P50Ms = ms
	case 99:
		c.P99Ms = ms
	}
}

func serve(t *agentapi.Traffic, stat string, n uint64, now time.Time) {
	s := t.GetServed()
	switch stat {
	case "http.ingress.downstream_rq_total":
		s.Requests = n
	case "http.ingress.downstream_rq_5xx":
		s.Errors = n
	case "http.ingress.rbac.denied":
		s.Denied += n
	case "http.ingress.rbac.shadow_denied", "tcp.ingress.rbac.shadow_denied":
		s.WouldDeny += n
	case "http.ingress.http_local_rate_limit.rate_limited", "local_rate_limit.ingress.rate_limited":
		s.Limited += n
	case "server.uptime":
		t.Epoch = timestamppb.New(now.Add(-time.Duration(n) * time.Second).Truncate(time.Second))
	}
	m := ofIngress.FindStringSubmatch(stat)
	if m == nil {
		return
	}
	switch {
	case m[1] == "downstream_cx_total":
		s.Connections += n
	case m[1] == "ssl.fail_verify_san": // of tcp the handshake decides
		s.Denied += n
	case m[1] == "ssl.connection_error":
		s.Refused += n
	case m[1] == "ssl.versions.TLSv1.3":
		s.Tls13 += n
	case strings.HasPrefix(m[1], "ssl.versions."):
		s.TlsOlder += n
	}
}
