package appmesh

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"patchbay/appmesh/model"
	"patchbay/mesh/policy"
)

// pick is the route of the protocol that s has, with that member's name.
func pick(s model.RouteSpec) (r *model.Route, member string, l7 bool) {
	switch {
	case s.HTTP != nil:
		return s.HTTP, "httpRoute", true
	case s.HTTP2 != nil:
		return s.HTTP2, "http2Route", true
	case s.GRPC != nil:
		return s.GRPC, "grpcRoute", true
	case s.TCP != nil:
		return s.TCP, "tcpRoute", false
	}
	return nil, "", false
}

// routesOf are a router's routes in the order in which they are tried.
func (c *converter) routesOf(router string) []*model.Resource[model.RouteSpec] {
	return inOrder(c.m.Routes, router)
}

func inOrder(all map[string]*model.Resource[model.RouteSpec], up string) []*model.Resource[model.RouteSpec] {
	var out []*model.Resource[model.RouteSpec]
	for _, key := range model.Sorted(all) {
		if all[key].Up == up {
			out = append(out, all[key])
		}
	}
	priority := func(r *model.Resource[model.RouteSpec]) int64 {
		if r.Spec.Priority == nil {
			return math.MaxInt64
		}
		return *r.Spec.Priority
	}
	slices.SortStableFunc(out, func(a, b *model.Resource[model.RouteSpec]) int { return cmp.Compare(priority(a), priority(b)) })
	return out
}

// routes makes the routes of p's router its policy.
func (c *converter) routes(p *port, s *service, pol *policy.Policy) {
	if p.router == "" {
		return
	}
	l7, all := appProtocol(p) != "", c.routesOf(p.router)
	open := true // what no route matches has nowhere to go so far
	for _, r := range all {
		x, member, itsL7 := pick(r.Spec)
		switch {
		case x == nil:
			c.note(Lost, r.Of, "spec", "it has none of httpRoute, http2Route, grpcRoute, tcpRoute", "")
			continue
		case itsL7 != l7:
			c.note(Lost, r.Of, "spec."+member, "the service speaks "+protocolOf(p.listener)+": no call takes this route", "")
			continue
		case !l7:
			c.tcpRoute(r, x, p, s, pol)
			open = false
			continue
		case !open:
			c.note(Hint, r.Of, "spec.priority", "a route before it takes everything: it is left out", "")
			continue
		}
		out, ok := c.route(r, "spec."+member, x, p)
		if !ok {
			continue
		}
		if everything := out.Match.Prefix == "/" && len(out.Match.Methods) == 0 && len(out.Match.Headers) == 0; everything {
			open = false
			if len(all) == 1 && len(out.To) == 0 {
				pol.Retries = out.Retries
				c.timeoutOf(r.Of, "spec."+member+".timeout", x.Timeout, s)
				return
			}
		}
		pol.Routes = append(pol.Routes, out)
	}
	if open && len(all) > 0 {
		c.note(Differs, model.KindRouter+"/"+p.router, "virtualRouterName", "what no route matched was answered 404; here it goes to "+p.name, "")
	}
}

// timeoutOf makes the time of the only route the service's.
func (c *converter) timeoutOf(of, path string, t *model.Timeout, s *service) {
	if t == nil {
		return
	}
	if own := c.times(of, path, t, true); own != nil {
		if s.Timeout == nil {
			s.Timeout = &times{}
		}
		if own.Idle != nil {
			s.Timeout.Idle = own.Idle
		}
		if own.PerRequest != nil {
			s.Timeout.PerRequest = own.PerRequest
		}
	}
}

// route is one route. One that can't be matched here is left out as a whole:
// without a condition it would take what it should not.
func (c *converter) route(r *model.Resource[model.RouteSpec], at string, x *model.Route, p *port) (policy.Route, bool) {
	m, ok := c.match(r.Of, at+".match", x.Match)
	if !ok {
		return policy.Route{}, false
	}
	out := policy.Route{Match: m}
	if out.To, ok = c.targets(r.Of, at+".action", x.Action, p); !ok {
		return policy.Route{}, false
	}
	out.Retries = c.retries(r.Of, at+".retryPolicy", x.RetryPolicy)
	if t := x.Timeout; t != nil {
		out.Timeout = &policy.Timeout{
			Idle:       c.duration(r.Of, at+".timeout.idle", t.Idle, 0, 24*time.Hour),
			PerRequest: c.duration(r.Of, at+".timeout.perRequest", t.PerRequest, 0, 24*time.Hour),
		}
	}
	if wrong := wrongIn(&policy.Policy{Routes: []policy.Route{out}}); wrong != nil {
		c.note(Lost, r.Of, at, "it is left out: "+wrong[0].Text, "write it by hand into the policy's routes")
		return policy.Route{}, false
	}
	return out, true
}

// targets are the weighted targets; none if all goes to the service itself.
func (c *converter) targets(of, at string, a *model.Action, p *port) ([]policy.Target, bool) {
	if a == nil || len(a.WeightedTargets) == 0 {
		c.note(Lost, of, at+".weightedTargets", "it leads nowhere, and is left out", "")
		return nil, false
	}
	var out []policy.Target
	for i, t := range a.WeightedTargets {
		here := fmt.Sprintf("%s.weightedTargets[%d]", at, i)
		to := c.nodes[t.VirtualNode].front(t.Port)
		switch {
		case c.nodes[t.VirtualNode] == nil:
			c.absent(of, here+".virtualNode", model.KindNode, t.VirtualNode)
		case to == nil:
			c.note(Lost, of, here+".virtualNode", "the node listens nowhere", "")
		case t.Port != 0 && to.listener.PortMapping.Port != t.Port:
			c.note(Lost, of, here+".port", fmt.Sprintf("the node does not listen on %d", t.Port), "")
		default:
			target := policy.Target{Service: to.name, Weight: *c.number(of, here+".weight", t.Weight, 0, 1<<24)}
			if to == p {
				target.Service = ""
			}
			out = append(out, target)
		}
	}
	if len(out) == 0 {
		c.note(Lost, of, at, "no target is left: the route is left out", "")
		return nil, false
	}
	if len(out) == 1 && out[0].Service == "" {
		return nil, true
	}
	if len(out) == 1 && out[0].Weight == 0 {
		out[0].Weight = 1
	}
	return out, true
}

func (c *converter) tcpRoute(r *model.Resource[model.RouteSpec], x *model.Route, p *port, s *service, pol *policy.Policy) {
	const at = "spec.tcpRoute"
	if x.Action != nil && len(x.Action.WeightedTargets) > 1 {
		c.note(Lost, r.Of, at+".action.weightedTargets", "connections are not shared out between services: all go to "+p.name, "call each by a name of its own")
	}
	if x.Match != nil && x.Match.Port != 0 {
		c.note(Lost, r.Of, at+".match.port", "a service has one port", "")
	}
	if x.Timeout != nil {
		if t := c.times(r.Of, at+".timeout", x.Timeout, false); t != nil {
			s.Timeout = t
		}
	}
	if x.RetryPolicy != nil {
		pol.Retries = &policy.Retries{Max: c.number(r.Of, at+".retryPolicy.maxRetries", x.RetryPolicy.MaxRetries, 0, 10)}
	}
}

// match is false if a condition has no counterpart.
func (c *converter) match(of, at string, m *model.Match) (policy.Match, bool) {
	out := policy.Match{}
	if m == nil {
		return policy.Match{Prefix: "/"}, true
	}
	ok := true
	lost := func(path, why string) {
		ok = false
		c.note(Lost, of, at+"."+path, why+": the route is left out", "match by path, prefix, method or an exact header, or route in the application")
	}
	switch {
	case m.ServiceName != "" && m.MethodName != "":
		out.Path = "/" + m.ServiceName + "/" + m.MethodName
	case m.MethodName != "":
		lost("methodName", "it is of no serviceName")
	case m.ServiceName != "":
		out.Prefix = "/" + m.ServiceName + "/"
	case m.Path != nil && m.Path.Regex != "":
		lost("path.regex", "there are no regular expressions")
	case m.Path != nil && m.Path.Exact != "":
		out.Path = m.Path.Exact
	default:
		if out.Prefix = cmp.Or(m.Prefix, "/"); !strings.HasSuffix(out.Prefix, "/") {
			c.note(Differs, of, at+".prefix", quoted(m.Prefix)+" matches whole segments here: not "+quoted(m.Prefix+"x"), "")
		}
	}
	if m.Method != "" {
		out.Methods = []string{m.Method}
	}
	if m.Scheme != "" {
		c.note(Lost, of, at+".scheme", "applications call in plain http: the condition is left out", "")
	}
	if m.Port != 0 {
		c.note(Lost, of, at+".port", "a service has one port: the condition is left out", "")
	}
	if len(m.QueryParameters) > 0 {
		lost("queryParameters", "there are no conditions on the query")
	}
	if m.Hostname != nil {
		lost("hostname", "there are no conditions on the host")
	}
	out.Headers = headers(m, lost)
	return out, ok
}

// headers are the conditions of a match on headers, and on grpc's metadata.
func headers(m *model.Match, lost func(path, why string)) map[string]string {
	var out map[string]string
	for _, list := range []struct {
		name string
		all  []model.Condition
	}{{"headers", m.Headers}, {"metadata", m.Metadata}} {
		for i, h := range list.all {
			value, why := valueOf(h)
			if why != "" {
				lost(fmt.Sprintf("%s[%d]", list.name, i), why)
				continue
			}
			if out == nil {
				out = map[string]string{}
			}
			name := strings.ToLower(h.Name)
			if _, twice := out[name]; twice {
				lost(fmt.Sprintf("%s[%d]", list.name, i), "a header has one condition")
			}
			out[name] = value
		}
	}
	return out
}

// valueOf is what a header must be; "*": present.
func valueOf(h model.Condition) (value, why string) {
	switch {
	case h.Invert:
		return "", "there are no inverted conditions"
	case h.Match == nil:
		return "*", ""
	case h.Match.Exact != nil && *h.Match.Exact != "*":
		return *h.Match.Exact, ""
	case h.Match.Exact == nil && h.Match.Prefix == nil && h.Match.Suffix == nil && h.Match.Regex == nil && h.Match.Range == nil:
		return "*", ""
	}
	return "", "a header is matched exactly, or by its presence"
}

// events are App Mesh's retry events in Envoy's words.
var events = map[string][]string{
	"server-error":     {"500", "501", "502", "503", "504", "505", "506", "507", "508", "510", "511"},
	"gateway-error":    {"502", "503", "504"},
	"client-error":     {"409"},
	"stream-error":     {"refused-stream"},
	"connection-error": {"connect-failure"},
	"cancelled":        {"cancelled"}, "deadline-exceeded": {"deadline-exceeded"}, "internal": {"internal"},
	"resource-exhausted": {"resource-exhausted"}, "unavailable": {"unavailable"},
}

func (c *converter) retries(of, at string, r *model.RetryPolicy) *policy.Retries {
	if r == nil {
		return nil
	}
	out := &policy.Retries{Max: c.number(of, at+".maxRetries", r.MaxRetries, 0, 10)}
	if t := r.PerRetryTimeout; t != nil && t.Value != 0 { // 0: that of the request
		out.PerTry = c.duration(of, at+".perRetryTimeout", t, time.Millisecond, 24*time.Hour)
	}
	on := map[string]bool{}
	for _, list := range []struct {
		name string
		all  []string
	}{{"httpRetryEvents", r.HTTPRetryEvents}, {"tcpRetryEvents", r.TCPRetryEvents}, {"grpcRetryEvents", r.GRPCRetryEvents}} {
		for i, e := range list.all {
			if events[e] == nil {
				c.note(Lost, of, fmt.Sprintf("%s.%s[%d]", at, list.name, i), quoted(e)+" is not an event that is known", "")
			}
			for _, word := range events[e] {
				on[word] = true
			}
		}
	}
	out.On = slices.Sorted(maps.Keys(on))
	if len(on) == 0 {
		out.Max = new(uint32) // nothing is tried again
	}
	return out
}
