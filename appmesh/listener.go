package appmesh

import (
	"fmt"
	"time"

	"patchbay/appmesh/model"
	"patchbay/mesh"
	"patchbay/mesh/policy"
)

// protocolOf is the listener's protocol, in words that mesh has too.
func protocolOf(l model.Listener) string {
	if p := mesh.Protocol(l.PortMapping.Protocol); p.Valid() {
		return string(p)
	}
	return string(mesh.TCP)
}

// appProtocol is that of the declaration: absent for tcp.
func appProtocol(p *port) string {
	if s := protocolOf(p.listener); s != string(mesh.TCP) {
		return s
	}
	return ""
}

// listener takes over what a listener says besides its port and TLS.
func (c *converter) listener(n *node, p *port, s *service, pol *policy.Policy) {
	l := p.listener
	if l.PortMapping.Protocol != protocolOf(l) {
		c.note(Differs, n.Of, p.path+".portMapping.protocol", quoted(l.PortMapping.Protocol)+" is not a protocol here: tcp is taken", "")
	}
	l7 := appProtocol(p) != ""
	c.others(n, p)
	if t := timeoutFor(l.Timeout, protocolOf(l)); t != nil {
		s.Timeout = c.times(n.Of, p.path+".timeout."+protocolOf(l), t, l7)
		if l7 {
			c.note(Hint, n.Of, p.path+".timeout."+protocolOf(l), "the sidecar of the service kept these times; here each caller's does", "")
		}
	}
	if o := l.OutlierDetection; o != nil {
		at := p.path + ".outlierDetection"
		if !l7 {
			c.note(Lost, n.Of, at+".maxServerErrors", "a tcp port has no server errors; failures of connections are", "")
		}
		out := &policy.OutlierDetection{
			Interval:     c.duration(n.Of, at+".interval", o.Interval, time.Second, 24*time.Hour),
			BaseEjection: c.duration(n.Of, at+".baseEjectionDuration", o.BaseEjectionDuration, time.Second, 24*time.Hour),
			MaxPercent:   c.number(n.Of, at+".maxEjectionPercent", o.MaxEjectionPercent, 0, 100),
		}
		if errs := c.number(n.Of, at+".maxServerErrors", o.MaxServerErrors, 1, 1<<31-1); l7 {
			out.ServerErrors = errs
		} else {
			out.Failures = errs
		}
		pol.OutlierDetection = out
	}
	c.pool(n, p, pol)
	c.check(n, p, pol)
}

// others are what a listener says of protocols that it does not speak.
func (c *converter) others(n *node, p *port) {
	l, own := p.listener, protocolOf(p.listener)
	for _, protocol := range []string{"http", "http2", "grpc", "tcp"} {
		if protocol == own {
			continue
		}
		if timeoutFor(l.Timeout, protocol) != nil {
			c.note(Lost, n.Of, p.path+".timeout."+protocol, "the listener speaks "+own, "")
		}
		if poolFor(l.ConnectionPool, protocol) != nil {
			c.note(Lost, n.Of, p.path+".connectionPool."+protocol, "the listener speaks "+own, "")
		}
	}
}

// timeoutFor is what is said of a protocol.
func timeoutFor(t *model.Timeouts, protocol string) *model.Timeout {
	if t == nil {
		return nil
	}
	return map[string]*model.Timeout{"http": t.HTTP, "http2": t.HTTP2, "grpc": t.GRPC, "tcp": t.TCP}[protocol]
}

func poolFor(all *model.Pools, protocol string) *model.Pool {
	if all == nil {
		return nil
	}
	return map[string]*model.Pool{"http": all.HTTP, "http2": all.HTTP2, "grpc": all.GRPC, "tcp": all.TCP}[protocol]
}

// times are in whole seconds in ECS's block.
func (c *converter) times(of, path string, t *model.Timeout, l7 bool) *times {
	out := &times{Idle: c.seconds(of, path+".idle", t.Idle)}
	if t.PerRequest != nil && !l7 {
		c.note(Lost, of, path+".perRequest", "a tcp port has no requests", "")
	} else {
		out.PerRequest = c.seconds(of, path+".perRequest", t.PerRequest)
	}
	if out.Idle == nil && out.PerRequest == nil {
		return nil
	}
	return out
}

func (c *converter) seconds(of, path string, d *model.Duration) *int64 {
	v := c.duration(of, path, d, 0, mesh.MaxTimeout)
	if v == nil {
		return nil
	}
	s := int64((time.Duration(*v) + time.Second - 1) / time.Second)
	if time.Duration(s)*time.Second != time.Duration(*v) {
		c.note(Differs, of, path, fmt.Sprintf("%s is rounded up to %d s", v, s), "")
	}
	return &s
}

// duration is d within its bounds here.
func (c *converter) duration(of, path string, d *model.Duration, least, most time.Duration) *policy.Duration {
	if d == nil {
		return nil
	}
	unit := map[string]time.Duration{"s": time.Second, "ms": time.Millisecond}[d.Unit]
	if unit == 0 {
		c.note(Lost, of, path+".unit", quoted(d.Unit)+" is not a unit; allowed: s, ms", "")
		return nil
	}
	v := most
	if d.Value <= int64(most/unit) {
		v = time.Duration(d.Value) * unit
	}
	return c.bounded(of, path, fmt.Sprintf("%d %s", d.Value, d.Unit), d.Value > int64(most/unit), v, least, most)
}

func (c *converter) bounded(of, path, was string, above bool, v, least, most time.Duration) *policy.Duration {
	if v < least || above {
		v = min(max(v, least), most)
		c.note(Differs, of, path, fmt.Sprintf("%s is out of bounds here: %s is taken", was, v), "")
	}
	out := policy.Duration(v)
	return &out
}

// number is n within its bounds here.
func (c *converter) number(of, path string, n, least, most int64) *uint32 {
	v := min(max(n, least), most)
	if v != n {
		c.note(Differs, of, path, fmt.Sprintf("%d is out of bounds here: %d is taken", n, v), "")
	}
	out := uint32(v) //nolint:gosec // within bounds
	return &out
}

// pool takes over a connection pool: it bounds each caller's Envoy instead of
// the service's own.
func (c *converter) pool(n *node, p *port, pol *policy.Policy) {
	name := protocolOf(p.listener)
	x := poolFor(p.listener.ConnectionPool, name)
	if x == nil {
		return
	}
	at, out := p.path+".connectionPool."+name, &policy.ConnectionLimits{}
	for _, m := range []struct {
		name string
		was  int64
		to   **uint32
	}{{"maxConnections", x.MaxConnections, &out.MaxConnections}, {"maxPendingRequests", x.MaxPendingRequests, &out.MaxPendingRequests}, {"maxRequests", x.MaxRequests, &out.MaxRequests}} {
		if m.was != 0 {
			*m.to = c.number(n.Of, at+"."+m.name, m.was, 0, 1<<31-1)
		}
	}
	pol.ConnectionLimits = out
	c.note(Differs, n.Of, at, "it bounded what one task of the service takes; here it bounds what one caller's Envoy sends to all of them", "use a rateLimit to protect each task")
}

func (c *converter) check(n *node, p *port, pol *policy.Policy) {
	h := p.listener.HealthCheck
	if h == nil {
		return
	}
	at := p.path + ".healthCheck"
	millis := func(name string, v int64, least time.Duration) *policy.Duration {
		if v == 0 {
			return nil
		}
		return c.duration(n.Of, at+"."+name, &model.Duration{Unit: "ms", Value: v}, least, 24*time.Hour)
	}
	atLeastOne := func(name string, v int64) *uint32 {
		if v == 0 {
			return nil
		}
		return c.number(n.Of, at+"."+name, v, 1, 1<<31-1)
	}
	out := &policy.HealthCheck{
		Protocol: policy.CheckHTTP, Path: h.Path,
		Interval: millis("intervalMillis", h.IntervalMillis, time.Second), Timeout: millis("timeoutMillis", h.TimeoutMillis, time.Millisecond),
		HealthyThreshold: atLeastOne("healthyThreshold", h.HealthyThreshold), UnhealthyThreshold: atLeastOne("unhealthyThreshold", h.UnhealthyThreshold),
	}
	switch h.Protocol {
	case "grpc", "tcp":
		out.Protocol, out.Path = h.Protocol, ""
	default:
		if out.Path == "" {
			out.Path = "/"
		}
	}
	if own := appProtocol(p); own == "" && out.Protocol != policy.CheckTCP {
		c.note(Differs, n.Of, at+".protocol", "callers see a tcp port: they check that a connection stands, not by "+out.Protocol, "")
		out.Protocol, out.Path = policy.CheckTCP, ""
	}
	if h.Port != 0 && h.Port != p.listener.PortMapping.Port {
		c.note(Differs, n.Of, at+".port", fmt.Sprintf("callers check the service's own port, not %d", h.Port), "answer the check there, too")
	}
	if out.Path != "" && policyRefuses(&policy.Policy{HealthCheck: out}) {
		c.note(Differs, n.Of, at+".path", quoted(out.Path)+" is not a plain path: / is asked", "")
		out.Path = "/"
	}
	pol.HealthCheck = out
}

func policyRefuses(p *policy.Policy) bool { return len(wrongIn(p)) > 0 }

// wrongIn is what a declaration may not say.
func wrongIn(p *policy.Policy) []policy.Problem { return append(p.Problems(), p.Vain()...) }
