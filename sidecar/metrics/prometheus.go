package metrics

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Source gets the newest sample.
type Source func(context.Context) (Sample, error)

// Handler answers a scrape with what src says then, in Prometheus' text format;
// with 500 and the reason while Envoy does not answer.
func Handler(t Task, src Source) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := src(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		reg := prometheus.NewRegistry()
		if err := reg.Register(collector{t, s}); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	})
}

func desc(name, help, first string, more ...string) *prometheus.Desc {
	return prometheus.NewDesc("patchbay_sidecar_"+name, help, append([]string{first, "service_name", "cluster_name"}, more...), nil)
}

const (
	in  = "discovery_name"
	out = "target_discovery_name"
)

var (
	descActive      = desc("active_connections", "ActiveConnectionCount: connections to the service's ingress that stand.", in)
	descConnections = desc("new_connections_total", "NewConnectionCount: connections that came to the service's ingress.", in)
	descBytes       = desc("processed_bytes_total", "ProcessedBytes: bytes from and to the service's application.", in)
	descRequests    = desc("requests_total", "RequestCount: requests that the service's application, or Envoy in its place, has answered.", in)
	descGRPC        = desc("grpc_requests_total", "GrpcRequestCount: of these, those of grpc.", in)
	descClientTLS   = desc("client_tls_negotiation_errors_total", "ClientTLSNegotiationErrorCount: handshakes at the service's ingress that failed.", in)

	descResponses      = desc("target_responses_total", "HTTPCode_Target_2XX_Count and so on: answers to the task's calls, by class.", out, "class")
	descTargets        = desc("targets", "RequestCountPerTarget is the growth of target_responses_total divided by this: endpoints of the called service.", out)
	descTargetBytes    = desc("target_processed_bytes_total", "TargetProcessedBytes: bytes to and from the called service.", out)
	descTargetTime     = desc("target_response_seconds", "TargetResponseTime: from a call to its answer.", out)
	descTargetTLSError = desc("target_tls_negotiation_errors_total", "TargetTLSNegotiationErrorCount: handshakes with the called service that failed.", out)
)

// collector is one sample.
type collector struct {
	t Task
	s Sample
}

// Describe implements [prometheus.Collector]: what there is depends on what was
// called.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (c collector) Collect(to chan<- prometheus.Metric) {
	tell := func(d *prometheus.Desc, kind prometheus.ValueType, n uint64, name string, more ...string) {
		to <- prometheus.MustNewConstMetric(d, kind, float64(n), append([]string{name, c.t.Service, c.t.Cluster}, more...)...)
	}
	for _, i := range c.s.In {
		tell(descActive, prometheus.GaugeValue, i.Active, i.DiscoveryName)
		tell(descConnections, prometheus.CounterValue, i.Connections, i.DiscoveryName)
		tell(descBytes, prometheus.CounterValue, i.Bytes, i.DiscoveryName)
		tell(descRequests, prometheus.CounterValue, i.Requests, i.DiscoveryName)
		tell(descGRPC, prometheus.CounterValue, i.GRPC, i.DiscoveryName)
		tell(descClientTLS, prometheus.CounterValue, i.TLSErrors, i.DiscoveryName)
	}
	for _, o := range c.s.Out {
		for class := 2; class <= 5; class++ {
			tell(descResponses, prometheus.CounterValue, o.Class[class], o.TargetDiscoveryName, fmt.Sprintf("%dxx", class))
		}
		tell(descTargets, prometheus.GaugeValue, o.Targets, o.TargetDiscoveryName)
		tell(descTargetBytes, prometheus.CounterValue, o.Bytes, o.TargetDiscoveryName)
		tell(descTargetTLSError, prometheus.CounterValue, o.TLSErrors, o.TargetDiscoveryName)
		if n := o.Time.Count(); n > 0 {
			to <- prometheus.MustNewConstHistogram(descTargetTime, n, o.Time.Sum/1000, o.Time.cumulative(), o.TargetDiscoveryName, c.t.Service, c.t.Cluster)
		}
	}
}

// cumulative is the histogram in seconds, as Prometheus has it.
func (h Histogram) cumulative() map[float64]uint64 {
	out, n := map[float64]uint64{}, uint64(0)
	for _, b := range h.Buckets[:len(h.Buckets)-1] {
		n += b.Count
		out[seconds(b.UpTo)] = n
	}
	return out
}

// seconds of milliseconds, as a person would write them: 0.025.
func seconds(ms float64) float64 {
	s, err := strconv.ParseFloat(strconv.FormatFloat(ms/1000, 'g', 6, 64), 64)
	if err != nil {
		return ms / 1000
	}
	return s
}
