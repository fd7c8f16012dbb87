// Package metrics counts what a registry does, for Prometheus.
package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the registry's figures. Labels are the operations of the API and
// its error types: their number does not grow with what is stored.
type Metrics struct {
	requests *prometheus.CounterVec
	expired  *prometheus.CounterVec
	held     *prometheus.CounterVec
	leases   *prometheus.GaugeVec
	failures prometheus.Counter
	silence  atomic.Pointer[func() time.Duration]
}

// New registers the registry's metrics with reg, which may be nil.
func New(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "patchbay_registry_" + name, Help: help}, labels)
	}
	m := &Metrics{
		requests: counter("requests_total", "Requests answered, by operation and error type (empty: success).", "operation", "error"),
		expired:  counter("lease_expirations_total", "Leases that ran out, by what followed: unhealthy, then removed.", "step"),
		held:     counter("lease_holds_total", "Times that so many leases ran out together that nothing was removed, by scope: service or registry.", "scope"),
		leases: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "patchbay_registry_leases", Help: "Instances with a lease, by state: renewed or silent."}, []string{"state"}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "patchbay_registry_store_failures_total", Help: "Writes of the background work that the store refused; they are tried again."}),
	}
	if reg != nil {
		silence := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "patchbay_registry_store_silence_seconds", Help: "For how long the shared store was not heard of; 0 where it is not shared."},
			func() float64 {
				if of := m.silence.Load(); of != nil {
					return (*of)().Seconds()
				}
				return 0
			})
		reg.MustRegister(silence, m.requests, m.expired, m.held, m.leases, m.failures)
	}
	return m
}

// WatchSilence exposes for how long a store that is shared was not heard of.
func (m *Metrics) WatchSilence(of func() time.Duration) { m.silence.Store(&of) }

// Answered counts an answer to an operation, by its error's type.
func (m *Metrics) Answered(operation, failure string) {
	m.requests.WithLabelValues(operation, failure).Inc()
}

// Expired counts a lease that ran out; the step is unhealthy or removed.
func (m *Metrics) Expired(step string) { m.expired.WithLabelValues(step).Inc() }

// Held counts that leases of a scope, service or registry, were held.
func (m *Metrics) Held(scope string) { m.held.WithLabelValues(scope).Inc() }

// Refused counts a write of the background work that failed.
func (m *Metrics) Refused() { m.failures.Inc() }

// SetLeases says how many there are, and how many of them are silent.
func (m *Metrics) SetLeases(all, silent int) {
	m.leases.WithLabelValues("renewed").Set(float64(all - silent))
	m.leases.WithLabelValues("silent").Set(float64(silent))
}
