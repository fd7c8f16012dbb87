package metrics

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"patchbay/agents/traffic"
	"patchbay/diagnose"
)

// servicesMost bounds the services that metrics tell apart; the others are one,
// named "other".
const servicesMost = 500

var (
	descConnections = prometheus.NewDesc("patchbay_connections_total", "Connections that sidecars made, by the service and how they were protected.", []string{"service", "protection"}, nil)
	descRequests    = prometheus.NewDesc("patchbay_requests_total", "Requests of http, http2 and grpc that sidecars sent, by service.", []string{"service"}, nil)
	descErrors      = prometheus.NewDesc("patchbay_request_errors_total", "Of these, those that ended with 5xx.", []string{"service"}, nil)
	descUnverified  = prometheus.NewDesc("patchbay_unverified_peers_total", "Handshakes that sidecars broke off because of the peer's certificate, by service.", []string{"service"}, nil)
	descIngress     = prometheus.NewDesc("patchbay_ingress_connections_total", "Connections to ingress ports, by how they were protected; refused: a handshake that failed.", []string{"protection"}, nil)
	descDenied      = prometheus.NewDesc("patchbay_ingress_denied_total", "Calls that no rule of a service's authorization allows: denied, or in a dry run would_deny.", []string{"outcome"}, nil)
	descLimited     = prometheus.NewDesc("patchbay_ingress_limited_total", "Requests, of tcp connections, above the rateLimit of a service.", nil, nil)
	descFindings    = gauge("findings", "What is wrong now, by code.", "code")
)

// traffic is what sidecars have counted since this process started.
func (s State) traffic(ch chan<- prometheus.Metric) {
	out := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	totals, served := s.Agents.Traffic().Totals()
	rest := traffic.Flow{}
	names := slices.Sorted(maps.Keys(totals))
	for i, name := range names {
		f := totals[name]
		if i >= servicesMost {
			rest.Add(f)
			continue
		}
		serviceTraffic(out, name, f)
	}
	if len(names) > servicesMost {
		serviceTraffic(out, "other", rest)
	}
	out(descIngress, served.TLS13, "tls1.3")
	out(descIngress, served.TLSOlder, "tls_older")
	out(descIngress, served.Refused, "refused")
	out(descDenied, served.Denied, "denied")
	out(descDenied, served.WouldDeny, "would_deny")
	out(descLimited, served.Limited)
}

func serviceTraffic(out func(*prometheus.Desc, uint64, ...string), name string, f traffic.Flow) {
	for protection, n := range map[string]uint64{"tls1.3": f.TLS13, "tls_older": f.TLSOlder, "plaintext": f.Plain, "undeclared": f.Undeclared, "failed": f.Failed} {
		out(descConnections, n, name, protection)
	}
	out(descRequests, f.Requests, name)
	out(descErrors, f.Errors, name)
	out(descUnverified, f.Unverified, name)
}

// findings counts what is wrong, by code; every code is there.
func (s State) findings(out emit) {
	counts := map[string]int{}
	for _, f := range s.Findings() {
		counts[f.Code]++
	}
	for _, code := range diagnose.Codes() {
		out(descFindings, float64(counts[code]), code)
	}
}
