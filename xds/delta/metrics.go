package delta

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the engine's figures. Labels are the five types and a handful of
// reasons: their number does not grow with nodes or names.
type Metrics struct {
	streams   prometheus.Gauge
	ended     *prometheus.CounterVec
	responses *prometheus.CounterVec
	bytes     *prometheus.CounterVec
	nacks     *prometheus.CounterVec
	ignored   prometheus.Counter
	panics    prometheus.Counter
	ack       prometheus.Histogram
	lastAck   prometheus.Histogram
}

// NewMetrics registers the engine's metrics with reg, which may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "patchbay_xds_" + name, Help: help}, []string{label})
	}
	buckets := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 15, 60}
	m := &Metrics{
		streams:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "patchbay_xds_streams", Help: "Open delta ADS streams."}),
		ended:     vec("streams_ended_total", "Streams that ended, by status code.", "code"),
		responses: vec("responses_total", "Responses sent.", "type"),
		bytes:     vec("response_bytes_total", "Bytes of the responses sent.", "type"),
		nacks:     vec("nacks_total", "Responses that an Envoy rejected.", "type"),
		ignored:   prometheus.NewCounter(prometheus.CounterOpts{Name: "patchbay_xds_ignored_requests_total", Help: "Requests for a type that is not served."}),
		panics:    prometheus.NewCounter(prometheus.CounterOpts{Name: "patchbay_xds_panics_total", Help: "Panics that ended one stream."}),
		ack: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "patchbay_xds_ack_seconds", Help: "From a response's sending to its ACK.", Buckets: buckets}),
		lastAck: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "patchbay_xds_change_last_ack_seconds", Help: "From a change to the answer of the last Envoy that it concerns.", Buckets: buckets}),
	}
	if reg != nil {
		reg.MustRegister(m.streams, m.ended, m.responses, m.bytes, m.nacks, m.ignored, m.panics, m.ack, m.lastAck)
	}
	return m
}
