package metrics

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"patchbay/mesh"
	"patchbay/sidecar/traffic"
)

// Counted is the regular expression of the statistics that [Read] wants.
const Counted = `^(cluster\..*\.(upstream_rq_([1-5]xx|time)|upstream_cx_(rx|tx)_bytes_total|membership_total|ssl\.(connection_error|fail_verify_[a-z_]+))|` +
	`listener\.ingress-[^.]+\.(downstream_cx_(total|active)|ssl\.(connection_error|fail_verify_[a-z_]+))|server\.uptime)$`

var (
	ofCluster  = regexp.MustCompile(`^cluster\.(.+)\.(upstream_rq_[1-5]xx|upstream_cx_(?:rx|tx)_bytes_total|membership_total|ssl\.[a-z_]+)$`)
	ofTime     = regexp.MustCompile(`^cluster\.(.+)\.upstream_rq_time$`)
	ofListener = regexp.MustCompile(`^listener\.ingress-([^.]+)\.(downstream_cx_total|downstream_cx_active|ssl\.[a-z_]+)$`)
)

// page is /stats?format=json&histogram_buckets=detailed.
type page struct {
	Stats []struct {
		Name       string          `json:"name"`
		Value      json.RawMessage `json:"value"`
		Histograms *struct {
			Details []struct {
				Name   string     `json:"name"`
				Totals []interval `json:"totals"` // since the start of Envoy
			} `json:"details"`
		} `json:"histograms"`
	} `json:"stats"`
}

// interval is as narrow as Envoy keeps it: a tenth of its bound at most.
type interval struct {
	From  float64 `json:"lower_bound"`
	Width float64 `json:"width"`
	Count uint64  `json:"count"`
}

// Read makes a sample of the statistics [Counted] on the page of Envoy's admin
// interface /stats?format=json&histogram_buckets=detailed.
func Read(t Task, text []byte, now time.Time) (Sample, error) {
	var p page
	if err := json.Unmarshal(text, &p); err != nil {
		return Sample{}, fmt.Errorf("statistics: %w", err)
	}
	r := reader{task: t, clusters: &traffic.Clusters{}, ports: map[string]Port{}, in: map[string]*Inbound{}, out: map[string]*Outbound{}}
	for _, p := range t.Ports {
		r.ports[p.Name] = p
		r.in[p.DiscoveryName] = &Inbound{DiscoveryName: p.DiscoveryName}
	}
	s := Sample{Started: now}
	for _, stat := range p.Stats {
		r.clusters.Add(stat.Name)
	}
	for _, stat := range p.Stats {
		if stat.Histograms != nil {
			for _, h := range stat.Histograms.Details {
				r.time(h.Name, h.Totals)
			}
			continue
		}
		var n uint64
		if json.Unmarshal(stat.Value, &n) != nil {
			continue // none of ours
		}
		if stat.Name == "server.uptime" {
			s.Started = now.Add(-time.Duration(n) * time.Second) //nolint:gosec // an age
			continue
		}
		r.add(stat.Name, n)
	}
	for _, name := range slices.Sorted(maps.Keys(r.in)) {
		s.In = append(s.In, *r.in[name])
	}
	for _, name := range slices.Sorted(maps.Keys(r.out)) {
		if o := r.out[name]; o.Requests+o.Bytes+o.TLSErrors > 0 {
			s.Out = append(s.Out, *o)
		}
	}
	return s, nil
}

type reader struct {
	task     Task
	clusters *traffic.Clusters
	ports    map[string]Port // by name
	in       map[string]*Inbound
	out      map[string]*Outbound
}

func (r reader) add(stat string, n uint64) {
	if m := ofListener.FindStringSubmatch(stat); m != nil {
		if p, ok := r.ports[m[1]]; ok {
			r.in[p.DiscoveryName].listener(m[2], n)
		}
		return
	}
	m := ofCluster.FindStringSubmatch(stat)
	if m == nil {
		return
	}
	if port, ok := strings.CutPrefix(m[1], "app-"); ok {
		if p, ok := r.ports[port]; ok {
			r.in[p.DiscoveryName].app(p.Protocol, m[2], n)
		}
		return
	}
	if o := r.target(m[1]); o != nil {
		o.add(m[2], n)
	}
}

// target is the service that a cluster belongs to; nil if it is none of the
// mesh.
func (r reader) target(cluster string) *Outbound {
	service, ok := r.clusters.Service(cluster)
	if !ok {
		return nil
	}
	name := strings.TrimSuffix(service, "."+r.task.Namespace)
	if r.out[name] == nil {
		r.out[name] = &Outbound{TargetDiscoveryName: name}
	}
	return r.out[name]
}

func (i *Inbound) listener(stat string, n uint64) {
	switch stat {
	case "downstream_cx_total":
		i.Connections += n
	case "downstream_cx_active":
		i.Active += n
	default: // Envoy counts a handshake that fails once, by its reason
		i.TLSErrors += n
	}
}

func (i *Inbound) app(p mesh.Protocol, stat string, n uint64) {
	switch {
	case strings.HasPrefix(stat, "upstream_rq_"):
		i.Requests += n
		if p == mesh.GRPC {
			i.GRPC += n
		}
	case strings.HasSuffix(stat, "_bytes_total"):
		i.Bytes += n
	}
}

func (o *Outbound) add(stat string, n uint64) {
	switch {
	case strings.HasPrefix(stat, "upstream_rq_"):
		o.Requests += n
		o.Class[stat[len("upstream_rq_")]-'0'] += n
	case stat == "membership_total":
		o.Targets += n
	case strings.HasSuffix(stat, "_bytes_total"):
		o.Bytes += n
	default:
		o.TLSErrors += n
	}
}

// bounds are those of the histogram that leaves the task, in milliseconds.
var bounds = []float64{0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, math.Inf(1)}

// time adds a cluster's histogram to its service's.
func (r reader) time(stat string, totals []interval) {
	m := ofTime.FindStringSubmatch(stat)
	if m == nil || strings.HasPrefix(m[1], "app-") {
		return
	}
	o := r.target(m[1])
	if o == nil {
		return
	}
	if o.Time.Buckets == nil {
		for _, b := range bounds {
			o.Time.Buckets = append(o.Time.Buckets, Bucket{UpTo: b})
		}
	}
	for _, i := range totals {
		v := i.From + i.Width/2
		at, _ := slices.BinarySearch(bounds, v)
		o.Time.Buckets[at].Count += i.Count
		o.Time.Sum += v * float64(i.Count)
	}
}
