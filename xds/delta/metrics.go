package delta

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"patchbay/xds/delta/books"
)

// Metrics are the engine's figures. Labels are the types and a handful of
// reasons: their number does not grow with nodes or names.
type Metrics struct {
	streams   prometheus.Gauge
	ended     *prometheus.CounterVec
	byKind    [kinds]kindMetrics
	pushes    prometheus.Counter
	changed   prometheus.Counter
	coalesced prometheus.Counter
	ignored   prometheus.Counter
	panics    prometheus.Counter
	dirty     prometheus.Histogram
	ack       prometheus.Histogram
	eachAck   prometheus.Histogram
	lastAck   prometheus.Histogram

	cache atomic.Pointer[Cache] // whose figures are asked for when they are read
}

// kindMetrics are those of one type.
type kindMetrics struct{ responses, shared, bytes, nacks prometheus.Counter }

var (
	seconds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 15, 60}
	amounts = []float64{1, 2, 5, 10, 50, 100, 500, 1000, 5000, 20000}
)

// NewMetrics registers the engine's metrics with reg, which may be nil. They
// are those of one cache.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{}
	var all []prometheus.Collector
	keep := func(c prometheus.Collector) { all = append(all, c) }
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "patchbay_xds_" + name, Help: help})
		keep(c)
		return c
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "patchbay_xds_" + name, Help: help}, []string{label})
		keep(c)
		return c
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		c := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "patchbay_xds_" + name, Help: help, Buckets: buckets})
		keep(c)
		return c
	}
	m.streams = prometheus.NewGauge(prometheus.GaugeOpts{Name: "patchbay_xds_streams", Help: "Open delta ADS streams."})
	keep(m.streams)
	keep(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "patchbay_xds_streams_behind", Help: "Streams that have something to be sent."},
		func() float64 { return m.read(func(c *Cache) int { n, _ := c.Behind(); return n }) }))
	keep(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "patchbay_xds_rejected_resources", Help: "Resources that are held back from an Envoy which rejected them, over all streams."},
		func() float64 { return m.read((*Cache).heldBack) }))
	m.ended = vec("streams_ended_total", "Streams that ended, by reason.", "reason")
	responses, shared := vec("responses_total", "Responses sent.", "type"), vec("responses_shared_total", "Responses sent whose bytes were made for another stream.", "type")
	bytes, nacks := vec("response_bytes_total", "Bytes of the responses sent.", "type"), vec("nacks_total", "Responses that an Envoy rejected.", "type")
	for k := range m.byKind {
		name := kind(k).String()
		m.byKind[k] = kindMetrics{responses.WithLabelValues(name), shared.WithLabelValues(name), bytes.WithLabelValues(name), nacks.WithLabelValues(name)}
	}
	m.pushes = counter("pushes_total", "Changes of a view that were pushed.")
	m.changed = counter("changed_resources_total", "Resources that changed in a view.")
	m.coalesced = counter("coalesced_total", "Changed resources that a stream had not been sent yet when they changed again.")
	m.ignored = counter("ignored_requests_total", "Requests for a type that is not served.")
	m.panics = counter("panics_total", "Panics that ended one stream.")
	m.dirty = histogram("dirty_resources", "Changed resources of a stream when it is sent to.", amounts)
	m.ack = histogram("ack_seconds", "From a response's sending to its ACK.", seconds)
	m.eachAck = histogram("change_ack_seconds", "From a change to the ACK of each Envoy that it concerns.", seconds)
	m.lastAck = histogram("change_last_ack_seconds", "From a change to the answer of the last Envoy that it concerns.", seconds)
	if reg != nil {
		reg.MustRegister(all...)
	}
	return m
}

func (m *Metrics) read(f func(*Cache) int) float64 {
	if c := m.cache.Load(); c != nil {
		return float64(f(c))
	}
	return 0
}

func (m *Metrics) over(ch *books.Change) { m.lastAck.Observe(time.Since(ch.At).Seconds()) }

func (m *Metrics) sent(o outgoing) {
	k := &m.byKind[o.kind]
	k.responses.Inc()
	k.bytes.Add(float64(o.frame.Size()))
	if o.shared {
		k.shared.Inc()
	}
}
