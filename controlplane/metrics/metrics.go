// Package metrics is what the control plane counts and measures of itself and of
// its mesh, for Prometheus (docs/reference/metrics.md).
//
// It owns names, labels and their bounds. It must not know how the parts came
// about: it asks them when somebody scrapes. Start reading at [State].
package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"patchbay/agents"
	"patchbay/diagnose"
	"patchbay/discovery"
	"patchbay/discovery/cloud"
	"patchbay/discovery/cost"
	"patchbay/discovery/events"
	"patchbay/internal/health"
	"patchbay/mesh"
	"patchbay/pki"
	"patchbay/replicas"
)

// discoveryMetrics are the counters of package discovery. No label grows with
// services or instances: which ones it was is in the log and the status.
type discoveryMetrics struct {
	calls   *prometheus.CounterVec
	failed  *prometheus.CounterVec
	waited  *prometheus.CounterVec
	dollars prometheus.Counter
	skipped *prometheus.CounterVec
	held    prometheus.Counter
}

// NewDiscovery registers the counters of package discovery.
func NewDiscovery(reg prometheus.Registerer) discovery.Metrics {
	m := discoveryMetrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "patchbay_registry_calls_total", Help: "Calls of the registry by operation and result: ok, or the error code."}, []string{"operation", "result"}),
		waited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "patchbay_registry_wait_seconds_total", Help: "How long calls of the registry waited for our own limits, by operation."}, []string{"operation"}),
		dollars: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "patchbay_registry_cost_dollars_total", Help: "What the calls cost in AWS Cloud Map, by its price list: patchbay cost."}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "patchbay_registry_call_failures_total", Help: "Calls of the registry that failed, by operation and error code."}, []string{"operation", "code"}),
		skipped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "patchbay_instances_skipped_total", Help: "Instances of the registry that were found malformed or unusable, by reason."}, []string{"reason"}),
		held: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "patchbay_removals_held_total", Help: "Endpoints that an answer of the registry lacked and that stayed until it was confirmed."}),
	}
	reg.MustRegister(m.calls, m.waited, m.dollars, m.failed, m.skipped, m.held)
	// From 0 on, so that an alert sees the first one rise.
	for _, operation := range []string{"DiscoverInstances", "DiscoverInstancesRevision", "ListServices"} {
		m.failed.WithLabelValues(operation, "RequestLimitExceeded")
	}
	return m
}

// Called implements [discovery.Metrics].
func (m discoveryMetrics) Called(operation, result string) {
	m.calls.WithLabelValues(operation, result).Inc()
	m.dollars.Add(cost.Of(operation))
	if result != cloud.OK {
		m.failed.WithLabelValues(operation, result).Inc()
	}
}

// Waited implements [discovery.Metrics].
func (m discoveryMetrics) Waited(operation string, d time.Duration) {
	m.waited.WithLabelValues(operation).Add(d.Seconds())
}

// InstanceSkipped implements [discovery.Metrics].
func (m discoveryMetrics) InstanceSkipped(_ mesh.ServiceName, reason string) {
	m.skipped.WithLabelValues(reason).Inc()
}

// RemovalHeld implements [discovery.Metrics].
func (m discoveryMetrics) RemovalHeld(_ mesh.ServiceName, endpoints int) {
	m.held.Add(float64(endpoints))
}

func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("patchbay_"+name, help, labels, nil)
}

var (
	descReady      = gauge("ready", "1 if /readyz says so.")
	descSynced     = gauge("namespace_synced", "1 if the namespace was read completely, so that its sidecars are answered.", "namespace")
	descStale      = gauge("namespace_stale", "1 if the newest listing of the namespace failed; what is known stays.", "namespace")
	descListed     = gauge("namespace_listed_timestamp_seconds", "When the namespace was last listed completely, Unix time.", "namespace")
	descServices   = gauge("services", "Services of the namespace, by where their state comes from.", "namespace", "source")
	descEndpoints  = gauge("endpoints", "Endpoints that sidecars are told of.", "namespace")
	descHeld       = gauge("endpoints_held", "Of these, those that the registry's newest answer lacks.", "namespace")
	descSkipped    = gauge("instances_skipped", "Instances that are left out now, by reason.", "namespace", "reason")
	descConflicts  = gauge("alias_conflicts", "Aliases that two services claim.", "namespace")
	descForeseen   = gauge("service_conflicts", "Services that a workload may offer and the registrar may not write to, because of what is in the registry.")
	descStrangers  = gauge("instances_strange", "Instances in services of ours that patchbay did not register.", "namespace")
	descSlowed     = gauge("registry_rate_share", "The share of its budget that an operation of the registry keeps to, less than 1 after it was throttled.", "operation")
	descStanding   = gauge("events_standing", "1 if events of ECS arrive; if not, changes are found by polling. Absent without a queue in the configuration.")
	descTasks      = prometheus.NewDesc("patchbay_events_tasks_total", "Changes of ECS tasks that were taken as hints.", nil, nil)
	descSurvivable = gauge("survivable_outage_seconds", "How long the mesh runs on without its CA: every service with TLS has a valid certificate that long if no CA answers from now on. Absent while no service has TLS.")
	descLeaves     = gauge("leaves", "Services with TLS, by the state of their certificate: ok, alarm (less than a tenth of its life is left), missing.", "state")
	descFailing    = gauge("leaves_failing", "Services with TLS whose newest attempt to get a certificate failed.")
	descIssuerUp   = gauge("issuer_up", "1 if the issuer's newest answer was good.", "issuer")
	descIssuerSeen = gauge("issuer_answered_timestamp_seconds", "When the issuer last answered, Unix time. Absent if never since the start.", "issuer")
	descReplicas   = gauge("replicas", "Other replicas of the control plane that are written down, by whether they are heard. Absent without replicas in the configuration.", "heard")
	descAgents     = gauge("agents", "Connected sidecar agents, by the state of their Envoy: ready, not_ready, draining.", "state")
	descPorts      = gauge("ports", "Ports that connected agents offer, by whether the registry has them.", "registered")
)

// State collects what the parts say of themselves when somebody asks.
type State struct {
	// NotReady is what is being waited for; Foreseen how many services that
	// workloads may offer have something in their way; Findings what is wrong;
	// Namespaces what is known of each.
	NotReady   func() []health.Problem
	Foreseen   func() int
	Findings   func() []diagnose.Finding
	Namespaces func() []discovery.NamespaceStatus

	Discovery *discovery.CloudMap
	Rotator   *pki.Rotator
	Agents    *agents.Server
	Queue     *events.Queue      // nil: no events
	Replicas  *replicas.Replicas // nil: there is one
}

// Describe implements [prometheus.Collector].
func (s State) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descReady, descSynced, descStale, descListed, descServices, descEndpoints, descHeld, descSkipped, descConflicts,
		descForeseen, descStrangers, descSlowed, descStanding, descTasks,
		descSurvivable, descLeaves, descFailing, descIssuerUp, descIssuerSeen, descReplicas, descAgents, descPorts,
		descConnections, descRequests, descErrors, descUnverified, descIngress, descFindings,
	} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (s State) Collect(ch chan<- prometheus.Metric) {
	out := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	out(descReady, one(len(s.NotReady()) == 0))
	for _, n := range s.Namespaces() {
		namespaceGauges(out, n)
	}
	s.replicas(out)
	s.registry(out, ch)
	s.certificates(out)
	s.agents(out)
	s.traffic(ch)
	s.findings(out)
}

type emit func(d *prometheus.Desc, v float64, labels ...string)

func namespaceGauges(out emit, n discovery.NamespaceStatus) {
	out(descSynced, one(n.Synced), n.Name)
	out(descStale, one(n.Stale), n.Name)
	if !n.Listed.IsZero() {
		out(descListed, float64(n.Listed.UnixMilli())/1000, n.Name)
	}
	out(descConflicts, float64(len(n.Conflicts)), n.Name)
	sources := map[string]int{discovery.Live: 0, discovery.LastKnownGood: 0, discovery.Waiting: 0, discovery.Unfinished: 0}
	skipped := map[string]int{}
	endpoints, held, strangers := 0, 0, 0
	for _, v := range n.Services {
		sources[v.Source]++
		endpoints += v.Endpoints
		held += v.Held
		strangers += len(v.Strangers)
		for reason, k := range v.Skipped {
			skipped[reason] += k
		}
	}
	for source, k := range sources {
		out(descServices, float64(k), n.Name, source)
	}
	for reason, k := range skipped {
		out(descSkipped, float64(k), n.Name, reason)
	}
	out(descEndpoints, float64(endpoints), n.Name)
	out(descHeld, float64(held), n.Name)
	out(descStrangers, float64(strangers), n.Name)
}

func (s State) certificates(out emit) {
	if left, ok := s.Rotator.Survivable(time.Now()); ok {
		out(descSurvivable, left.Seconds())
	}
	st := s.Rotator.Status()
	leaves := map[string]int{"ok": 0, "alarm": 0, "missing": 0}
	failing := 0
	for _, v := range st.Services {
		switch {
		case v.Serial == "":
			leaves["missing"]++
		case v.Alarm:
			leaves["alarm"]++
		default:
			leaves["ok"]++
		}
		if v.LastError != "" {
			failing++
		}
	}
	for k, n := range leaves {
		out(descLeaves, float64(n), k)
	}
	out(descFailing, float64(failing))
	for _, i := range st.Issuers {
		out(descIssuerUp, one(i.LastError == "" && !i.LastSeen.IsZero()), i.Name)
		if !i.LastSeen.IsZero() {
			out(descIssuerSeen, float64(i.LastSeen.UnixMilli())/1000, i.Name)
		}
	}
}

func (s State) replicas(out emit) {
	if s.Replicas == nil {
		return
	}
	n := map[bool]int{}
	for _, heard := range s.Replicas.Status() {
		n[heard]++
	}
	out(descReplicas, float64(n[true]), "true")
	out(descReplicas, float64(n[false]), "false")
}

func (s State) registry(out emit, ch chan<- prometheus.Metric) {
	out(descForeseen, float64(s.Foreseen()))
	for op, share := range s.Discovery.Tally().Rates {
		out(descSlowed, share, op)
	}
	if s.Queue != nil {
		q := s.Queue.Status()
		out(descStanding, one(q.Standing))
		ch <- prometheus.MustNewConstMetric(descTasks, prometheus.CounterValue, float64(q.Tasks))
	}
}

func (s State) agents(out emit) {
	agents := map[string]int{"ready": 0, "not_ready": 0, "draining": 0}
	ports := map[string]int{"true": 0, "false": 0}
	for _, a := range s.Agents.Status() {
		switch {
		case a.Draining:
			agents["draining"]++
		case a.EnvoyReady:
			agents["ready"]++
		default:
			agents["not_ready"]++
		}
		for _, p := range a.Ports {
			if p.Registered {
				ports["true"]++
			} else {
				ports["false"]++
			}
		}
	}
	for k, n := range agents {
		out(descAgents, float64(n), k)
	}
	for k, n := range ports {
		out(descPorts, float64(n), k)
	}
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
