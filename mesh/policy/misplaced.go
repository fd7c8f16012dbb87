package policy

import "strings"

// Side is whose word a policy is.
type Side int

// A service's own word holds for all of its callers; a caller's for itself.
const (
	OfService Side = iota
	OfCaller
)

// Misplaced lists the members of p that can have no effect where they stand:
// because of whose word it is, or because the service speaks tcp. A caller does
// not know the protocol of what it calls; it passes l7 true.
func (p *Policy) Misplaced(side Side, l7 bool) []Problem {
	c := &checker{}
	if side == OfService && p.Timeout != nil {
		c.bad("timeout", "is for callers; allowed: timeout of the service's entry in serviceConnectConfiguration")
	}
	if side == OfCaller && p.RateLimit != nil {
		c.bad("rateLimit", "is counted by the service's own sidecar; allowed: in the policy of the task that offers it")
	}
	if side == OfCaller && p.TestTraffic != nil {
		c.bad("testTraffic", "is for the service whose revisions it tells apart; allowed: in the policy of the task that offers it")
	}
	if side == OfCaller && p.Deployment != nil {
		c.bad("deploymentConfiguration", "is for the service whose revisions it is about; allowed: in the declaration of the task that offers it")
	}
	c.misplacedMutual(p, side, l7)
	if l7 {
		return c.problems
	}
	const why = "a tcp port has no requests; allowed: for http, http2 and grpc"
	if r := p.Retries; r != nil && (r.On != nil || r.PerTry != nil || r.IfMethodIs != nil || r.BudgetPercent != nil) {
		c.bad("retries", "%s; of tcp: max, which counts connections", why)
	}
	if o := p.OutlierDetection; o != nil && o.ServerErrors != nil {
		c.bad("outlierDetection.serverErrors", why)
	}
	if b := p.LoadBalancing; b != nil && (strings.Contains(b.HashOn, ":") || b.Algorithm == "client_side_weighted_round_robin") {
		c.bad("loadBalancing", why)
	}
	if h := p.HealthCheck; h != nil && h.Kind() != CheckTCP {
		c.bad("healthCheck", why)
	}
	if p.Fault != nil {
		c.bad("fault", why)
	}
	if p.TestTraffic != nil {
		c.bad("testTraffic", why)
	}
	if p.Routes != nil {
		c.bad("routes", why)
	}
	return c.problems
}
