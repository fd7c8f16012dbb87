package sidecar

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"patchbay/agentapi"
)

// countEvery is how often Envoy's counters are read.
const countEvery = 5 * time.Second

// counted are the statistics that make a [agentapi.Traffic].
const counted = `^(cluster\..*\.(upstream_rq_total|upstream_rq_5xx|upstream_rq_time|upstream_cx_total|upstream_cx_connect_fail|ssl\.(handshake|connection_error|fail_verify_.*|versions\..*))|` +
	`http\.ingress\.downstream_rq_(total|5xx)|listener\.ingress\.(downstream_cx_total|ssl\.(connection_error|versions\..*))|server\.uptime)$`

// count reads Envoy's counters until ctx ends.
func (a *Agent) count(ctx context.Context) error {
	tick := time.NewTicker(countEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		page, err := a.admin.Page(ctx, "stats", counted)
		if err != nil {
			continue // Envoy is away: its counters stay as they were
		}
		stood, err := a.admin.Established(ctx)
		if err != nil {
			continue
		}
		t, err := traffic(page, stood, time.Now())
		if err != nil {
			a.log.DebugContext(ctx, "Envoy's counters are not understood", "error", err)
			continue
		}
		a.set(func(s *state) {
			if s.traffic != nil && within(s.traffic.GetEpoch(), t.GetEpoch()) {
				t.Epoch = s.traffic.GetEpoch() // the same start, rounded otherwise
			}
			if !proto.Equal(s.traffic, t) {
				s.traffic = t
				signal(a.report)
			}
		})
	}
}

// within reports whether two starts are the same, given that the age of Envoy
// comes in seconds.
func within(a, b *timestamppb.Timestamp) bool {
	d := a.AsTime().Sub(b.AsTime())
	return d > -3*time.Second && d < 3*time.Second
}

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

var clusterStat = regexp.MustCompile(`^cluster\.(.+)\.(upstream_rq_total|upstream_rq_5xx|upstream_rq_time|upstream_cx_total|upstream_cx_connect_fail|ssl\..+)$`)

// traffic reads a page of statistics.
func traffic(page []byte, stood map[string]uint64, now time.Time) (*agentapi.Traffic, error) {
	var p statsPage
	if err := json.Unmarshal(page, &p); err != nil {
		return nil, fmt.Errorf("statistics: %w", err)
	}
	t := &agentapi.Traffic{Served: &agentapi.Served{}}
	called := map[string]*agentapi.Called{}
	of := func(service string) *agentapi.Called {
		if called[service] == nil {
			called[service] = &agentapi.Called{Service: service}
		}
		return called[service]
	}
	for _, s := range p.Stats {
		if h := s.Histograms; h != nil {
			for _, c := range h.Computed {
				if m := clusterStat.FindStringSubmatch(c.Name); m != nil && mine(m[1]) {
					for i, q := range h.Quantiles {
						if i < len(c.Values) && c.Values[i].Interval != nil {
							quantile(of(service(m[1])), q, *c.Values[i].Interval)
						}
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
			if mine(m[1]) {
				add(of(service(m[1])), m[2], n)
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
			t.Called = append(t.Called, c)
		}
	}
	return t, nil
}

// mine reports whether a cluster is a service of the mesh: discoveryName, dot,
// namespace.
func mine(cluster string) bool {
	return cluster != "xds" && !strings.HasPrefix(cluster, "app-") && strings.Contains(cluster, ".") && !strings.HasSuffix(cluster, ".external") && !strings.HasSuffix(cluster, ".internal")
}

// service is the one that a cluster belongs to: a revision's is NAME~REVISION.
func service(cluster string) string {
	name, _, _ := strings.Cut(cluster, "~")
	return name
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
	case "listener.ingress.downstream_cx_total":
		s.Connections = n
	case "listener.ingress.ssl.connection_error":
		s.Refused = n
	case "listener.ingress.ssl.versions.TLSv1.3":
		s.Tls13 = n
	case "server.uptime":
		t.Epoch = timestamppb.New(now.Add(-time.Duration(n) * time.Second).Truncate(time.Second))
	default:
		if strings.HasPrefix(stat, "listener.ingress.ssl.versions.") {
			s.TlsOlder += n
		}
	}
}
