// Package metrics are the engine's figures.
//
// It owns their names and what they count. Labels are the types and a handful
// of reasons: their number does not grow with nodes or names. Start reading at
// [New].
package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"patchbay/xds/delta/books"
	"patchbay/xds/delta/wire"
)

// Set is the figures of one cache.
type Set struct {
	Streams   prometheus.Gauge
	Ended     *prometheus.CounterVec
	ByKind    [wire.Kinds]Kind
	Pushes    prometheus.Counter
	Changed   prometheus.Counter
	Coalesced prometheus.Counter
	Ignored   prometheus.Counter
	Panics    prometheus.Counter
	Dirty     prometheus.Histogram
	Ack       prometheus.Histogram
	EachAck   prometheus.Histogram
	LastAck   prometheus.Histogram

	now atomic.Pointer[Now]
}

// Kind is those of one type.
type Kind struct{ Responses, Shared, Bytes, Nacks prometheus.Counter }

var (
	seconds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 15, 60}
	amounts = []float64{1, 2, 5, 10, 50, 100, 500, 1000, 5000, 20000}
)

// New registers the engine's metrics with reg, which may be nil. They
// are those of one cache.
func New(reg prometheus.Registerer) *Set {
	m := &Set{}
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
	m.Streams = prometheus.NewGauge(prometheus.GaugeOpts{Name: "patchbay_xds_streams", Help: "Open delta ADS streams."})
	keep(m.Streams)
	keep(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "patchbay_xds_streams_behind", Help: "Streams that have something to be sent."},
		func() float64 { return m.read(func(n *Now) int { return n.Behind() }) }))
	keep(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "patchbay_xds_rejected_resources", Help: "Resources that are held back from an Envoy which rejected them, over all streams."},
		func() float64 { return m.read(func(n *Now) int { return n.HeldBack() }) }))
	m.Ended = vec("streams_ended_total", "Streams that ended, by reason.", "reason")
	responses, shared := vec("responses_total", "Responses sent.", "type"), vec("responses_shared_total", "Responses sent whose bytes were made for another stream.", "type")
	bytes, nacks := vec("response_bytes_total", "Bytes of the responses sent.", "type"), vec("nacks_total", "Responses that an Envoy rejected.", "type")
	for k := range m.ByKind {
		name := wire.Kind(k).String()
		m.ByKind[k] = Kind{responses.WithLabelValues(name), shared.WithLabelValues(name), bytes.WithLabelValues(name), nacks.WithLabelValues(name)}
	}
	m.Pushes = counter("pushes_total", "Changes of a view that were pushed.")
	m.Changed = counter("changed_resources_total", "Resources that changed in a view.")
	m.Coalesced = counter("coalesced_total", "Changed resources that a stream had not been sent yet when they changed again.")
	m.Ignored = counter("ignored_requests_total", "Requests for a type that is not served.")
	m.Panics = counter("panics_total", "Panics that ended one stream.")
	m.Dirty = histogram("dirty_resources", "Changed resources of a stream when it is sent to.", amounts)
	m.Ack = histogram("ack_seconds", "From a response's sending to its ACK.", seconds)
	m.EachAck = histogram("change_ack_seconds", "From a change to the ACK of each Envoy that it concerns.", seconds)
	m.LastAck = histogram("change_last_ack_seconds", "From a change to the answer of the last Envoy that it concerns.", seconds)
	if reg != nil {
		reg.MustRegister(all...)
	}
	return m
}

// Now are the figures that are asked for when they are read.
type Now struct{ Behind, HeldBack func() int }

// Ask sets whom to ask.
func (m *Set) Ask(n Now) { m.now.Store(&n) }

func (m *Set) read(f func(*Now) int) float64 {
	if n := m.now.Load(); n != nil {
		return float64(f(n))
	}
	return 0
}

// Over notes that the last Envoy has answered a change.
func (m *Set) Over(ch *books.Change) { Since(m.LastAck, ch) }

// Since observes the time since a change. One that is followed leaves its
// exemplar.
func Since(h prometheus.Histogram, ch *books.Change) {
	took := time.Since(ch.At).Seconds()
	if ch.Follower == nil {
		h.Observe(took)
		return
	}
	h.(prometheus.ExemplarObserver).ObserveWithExemplar(took, ch.Follower.Exemplar()) //nolint:forcetypeassert // every histogram of the library is one
}

// Sent notes a response; shared says that its bytes were made for another
// stream.
func (m *Set) Sent(k wire.Kind, size int, shared bool) {
	m.ByKind[k].Responses.Inc()
	m.ByKind[k].Bytes.Add(float64(size))
	if shared {
		m.ByKind[k].Shared.Inc()
	}
}

// Reason is the word for a stream's end in metrics and logs.
func Reason(err error) string {
	switch status.Code(err) {
	case codes.OK, codes.Canceled:
		return "left"
	case codes.DeadlineExceeded:
		return "stalled"
	case codes.Unavailable:
		return "stopping"
	case codes.Aborted:
		return "replaced"
	case codes.InvalidArgument:
		return "invalid"
	case codes.PermissionDenied, codes.Unauthenticated:
		return "refused"
	case codes.ResourceExhausted:
		return "limit"
	case codes.Internal:
		return "fault"
	}
	return "other"
}
