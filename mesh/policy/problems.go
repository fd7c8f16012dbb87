package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// RetryConditions are what Retries.On may name, in Envoy's words, besides
// statuses. Those of gRPC count for grpc only.
var RetryConditions = []string{
	"5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "refused-stream", "retriable-4xx",
	"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable",
}

// ForGRPC reports whether a retry condition reads gRPC's status.
func ForGRPC(on string) bool {
	return slices.Contains([]string{"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"}, on)
}

// Algorithms are what LoadBalancing.Algorithm may be, in Envoy's words.
// client_side_weighted_round_robin weighs endpoints by the load that they
// report (ORCA, in the answer's endpoint-load-metrics headers).
var Algorithms = []string{"round_robin", "least_request", "random", "ring_hash", "client_side_weighted_round_robin"}

// ZoneAware reports whether an algorithm can prefer the caller's own zone; the
// empty one, the default, can.
func ZoneAware(algorithm string) bool {
	return slices.Contains([]string{"", "round_robin", "least_request", "random"}, algorithm)
}

// MaxDuration bounds every time in a policy: a day is more than any of them
// can sensibly be, and Envoy holds it.
const MaxDuration = Duration(24 * time.Hour)

const (
	maxRetries  = 10
	maxRoutes   = 50
	maxTargets  = 10
	maxHeaders  = 10
	maxText     = 1024
	minInterval = Duration(time.Second) // of health checks and looks at outliers: below, the checks are the load
)

// Problem is one thing that is wrong in a policy, with the path of JSON where
// it stands: routes[0].match.path.
type Problem struct{ Path, Text string }

// Problems lists everything that is wrong in p by itself: what depends on who
// says it, and of which protocol, is [Policy.Misplaced].
func (p *Policy) Problems() []Problem {
	c := &checker{}
	c.oneOf("preset", p.Preset, Presets())
	c.timeout("timeout", p.Timeout)
	c.retries("retries", p.Retries)
	if o := p.OutlierDetection; o != nil {
		c.between("outlierDetection.interval", o.Interval, minInterval)
		c.between("outlierDetection.baseEjection", o.BaseEjection, minInterval)
		c.between("outlierDetection.maxEjection", o.MaxEjection, minInterval)
		c.percent("outlierDetection.maxPercent", o.MaxPercent)
	}
	if b := p.LoadBalancing; b != nil {
		c.balancing(*b)
	}
	if h := p.HealthCheck; h != nil {
		c.oneOf("healthCheck.protocol", h.Protocol, []string{CheckHTTP, CheckGRPC, CheckTCP})
		switch {
		case h.Path != "" && h.Kind() != CheckHTTP:
			c.bad("healthCheck.path", "has no meaning for %s; allowed: with protocol http", h.Kind())
		case h.Path != "" || h.Kind() == CheckHTTP:
			c.path("healthCheck.path", h.Path)
		}
		c.between("healthCheck.interval", h.Interval, minInterval)
		c.between("healthCheck.timeout", h.Timeout, Duration(time.Millisecond))
		c.atLeastOne("healthCheck.healthyThreshold", h.HealthyThreshold)
		c.atLeastOne("healthCheck.unhealthyThreshold", h.UnhealthyThreshold)
	}
	if r := p.RateLimit; r != nil {
		if r.Requests == 0 {
			c.bad("rateLimit.requests", "is 0 or missing; allowed: 1 or more")
		}
		if r.Burst != 0 && r.Burst < r.Requests {
			c.bad("rateLimit.burst", "%d is less than requests; allowed: %d or more", r.Burst, r.Requests)
		}
		c.between("rateLimit.per", &r.Per, Duration(50*time.Millisecond)) // Envoy's shortest fill interval
	}
	if x := p.TestTraffic; x != nil {
		if x.Header != "" && !token(x.Header) {
			c.bad("testTraffic.header", "%s; allowed: the name of a header", strconv.Quote(x.Header))
		}
		if !printable(x.Value) {
			c.bad("testTraffic.value", "%s; allowed: visible ASCII", strconv.Quote(x.Value))
		}
	}
	c.deployment("deploymentConfiguration.", p.Deployment)
	c.mutual(p)
	c.fault(p.Fault)
	if n := len(p.Routes); n > maxRoutes {
		c.bad("routes", "has %d entries; allowed: up to %d", n, maxRoutes)
	}
	for i, r := range p.Routes {
		c.route(fmt.Sprintf("routes[%d]", i), r)
	}
	return c.problems
}

type checker struct{ problems []Problem }

func (c *checker) bad(path, format string, args ...any) {
	c.problems = append(c.problems, Problem{path, fmt.Sprintf(format, args...)})
}

func (c *checker) oneOf(path, word string, allowed []string) {
	if word != "" && !slices.Contains(allowed, word) {
		c.bad(path, "%s; allowed: %s", strconv.Quote(word), strings.Join(allowed, ", "))
	}
}

func (c *checker) between(path string, d *Duration, least Duration) {
	if d != nil && (*d < least || *d > MaxDuration) {
		c.bad(path, "%s; allowed: %s to %s", d, least, MaxDuration)
	}
}

func (c *checker) percent(path string, n *uint32) {
	if n != nil && *n > 100 {
		c.bad(path, "%d; allowed: 0 to 100", *n)
	}
}

func (c *checker) atLeastOne(path string, n *uint32) {
	if n != nil && *n == 0 {
		c.bad(path, "0; allowed: 1 or more")
	}
}

func (c *checker) timeout(path string, t *Timeout) {
	if t != nil {
		c.between(path+".perRequest", t.PerRequest, 0)
		c.between(path+".idle", t.Idle, 0)
	}
}

func (c *checker) retries(path string, r *Retries) {
	if r == nil {
		return
	}
	if r.Max != nil && *r.Max > maxRetries {
		c.bad(path+".max", "%d; allowed: 0 to %d", *r.Max, maxRetries)
	}
	for i, on := range r.On {
		if status, err := strconv.Atoi(on); err == nil && status >= 400 && status < 600 {
			continue
		}
		if !slices.Contains(RetryConditions, on) {
			c.bad(fmt.Sprintf("%s.on[%d]", path, i), "%s; allowed: a status of 400 to 599, %s", strconv.Quote(on), strings.Join(RetryConditions, ", "))
		}
	}
	c.between(path+".perTry", r.PerTry, Duration(time.Millisecond))
	c.methods(path+".ifMethodIs", r.IfMethodIs)
	c.percent(path+".budgetPercent", r.BudgetPercent)
}

func (c *checker) balancing(b LoadBalancing) {
	c.oneOf("loadBalancing.algorithm", b.Algorithm, Algorithms)
	kind, name, named := strings.Cut(b.HashOn, ":")
	switch {
	case b.Algorithm == "ring_hash" && b.HashOn == "":
		c.bad("loadBalancing.hashOn", `is missing; ring_hash needs to know what to keep together; allowed: "source-ip", "header:NAME", "cookie:NAME"`)
	case b.HashOn == "" || b.HashOn == "source-ip":
	case !named || kind != "header" && kind != "cookie" || !token(name):
		c.bad("loadBalancing.hashOn", `%s; allowed: "source-ip", "header:NAME", "cookie:NAME"`, strconv.Quote(b.HashOn))
	case b.Algorithm != "ring_hash":
		c.bad("loadBalancing.hashOn", "has no effect with %s; allowed: with algorithm ring_hash", orWord(b.Algorithm, "the default algorithm"))
	}
	c.between("loadBalancing.slowStart", b.SlowStart, minInterval)
	if b.SlowStart != nil && b.Algorithm != "" && b.Algorithm != "round_robin" && b.Algorithm != "least_request" {
		c.bad("loadBalancing.slowStart", "has no effect with %s; allowed: with round_robin or least_request", b.Algorithm)
	}
	c.percent("loadBalancing.panicThreshold", b.PanicThreshold)
	if b.ZoneAware != nil && !ZoneAware(b.Algorithm) {
		c.bad("loadBalancing.zoneAware", "has no effect with %s; allowed: with round_robin, least_request or random", b.Algorithm)
	}
}

func (c *checker) fault(f *Fault) {
	if f == nil {
		return
	}
	if a := f.Abort; a != nil {
		if a.Status < 200 || a.Status > 599 {
			c.bad("fault.abort.status", "%d; allowed: 200 to 599", a.Status)
		}
		c.percent("fault.abort.percent", &a.Percent)
	}
	if d := f.Delay; d != nil {
		c.between("fault.delay.duration", &d.Duration, Duration(time.Millisecond))
		c.percent("fault.delay.percent", &d.Percent)
	}
}

func (c *checker) route(at string, r Route) {
	m := r.Match
	if m.Path != "" && m.Prefix != "" {
		c.bad(at+".match", "has path and prefix; allowed: one of them")
	}
	if m.Path != "" {
		c.path(at+".match.path", m.Path)
	}
	if m.Prefix != "" {
		c.path(at+".match.prefix", m.Prefix)
	}
	c.methods(at+".match.methods", m.Methods)
	if len(m.Headers) > maxHeaders {
		c.bad(at+".match.headers", "has %d entries; allowed: up to %d", len(m.Headers), maxHeaders)
	}
	for name, value := range m.Headers {
		if !token(name) || len(value) > maxText || !printable(value) {
			c.bad(at+".match.headers", "%s: %s; allowed: a header's name, and its value in visible ASCII, or \"*\"", strconv.Quote(name), strconv.Quote(value))
		}
	}
	if n := len(r.To); n > maxTargets {
		c.bad(at+".to", "has %d entries; allowed: up to %d", n, maxTargets)
	}
	total := uint64(0)
	for _, t := range r.To {
		total += uint64(t.Weight)
	}
	if len(r.To) > 0 && (total == 0 || total > 1<<31) {
		c.bad(at+".to", "the weights add up to %d; allowed: 1 to %d", total, 1<<31)
	}
	if r.Mirror != nil {
		if r.Mirror.Service == "" {
			c.bad(at+".mirror.service", "is missing; allowed: a discoveryName")
		}
		c.percent(at+".mirror.percent", &r.Mirror.Percent)
	}
	if w := r.Rewrite; w != nil {
		if w.Prefix != "" {
			c.path(at+".rewrite.prefix", w.Prefix)
		}
		if len(w.Host) > 253 || !printable(w.Host) || strings.Contains(w.Host, " ") {
			c.bad(at+".rewrite.host", "%s; allowed: a host name", strconv.Quote(w.Host))
		}
	}
	c.timeout(at+".timeout", r.Timeout)
	c.retries(at+".retries", r.Retries)
}

func (c *checker) path(at, p string) {
	if !isPath(p) {
		c.bad(at, "%s; allowed: a path that begins with /, in visible ASCII without ? and #", strconv.Quote(p))
	}
}

func isPath(p string) bool {
	return strings.HasPrefix(p, "/") && len(p) <= maxText && printable(p) && !strings.ContainsAny(p, "?# ")
}

func (c *checker) methods(at string, list []string) {
	for i, m := range list {
		if !token(m) || m != strings.ToUpper(m) {
			c.bad(fmt.Sprintf("%s[%d]", at, i), "%s; allowed: a method in capitals, such as GET", strconv.Quote(m))
		}
	}
}

// token is RFC 9110's: what a header's name or a method may be.
func token(s string) bool {
	return s != "" && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
	})
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

func orWord(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
