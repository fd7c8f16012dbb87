package registry

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the registry's figures. Labels are the operations of the API and
// its error types: their number does not grow with what is stored.
type Metrics struct {
	requests *prometheus.CounterVec
	expired  *prometheus.CounterVec
	held     *prometheus.CounterVec
	leases   *prometheus.GaugeVec
	failures prometheus.Counter
}

// NewMetrics registers the registry's metrics with reg, which may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
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
		reg.MustRegister(m.requests, m.expired, m.held, m.leases, m.failures)
	}
	return m
}

func (m *Metrics) setLeases(all, silent int) {
	m.leases.WithLabelValues("renewed").Set(float64(all - silent))
	m.leases.WithLabelValues("silent").Set(float64(silent))
}
