package appmesh

import (
	"fmt"
	"slices"
	"strings"

	"patchbay/appmesh/model"
)

// gateway writes the declaration of whatever takes the place of a virtual
// gateway: a task that only calls. What came in through the gateway is listed.
func (c *converter) gateway(g *model.Resource[model.GatewaySpec]) {
	c.note(Lost, g.Of, "spec.listeners", "nothing here takes calls from outside the mesh: it had "+entrances(g.Spec.Listeners),
		"run a proxy, or aim a load balancer at one, as a task with this declaration: it calls services by their names")
	if g.Spec.BackendDefaults != nil {
		c.clientPolicy(g.Of, "spec.backendDefaults.clientPolicy.tls", g.Spec.BackendDefaults.ClientPolicy)
	}
	if g.Spec.Logging != nil {
		c.note(Lost, g.Of, "spec.logging", "the gateway's log of what came in is now that of the proxy in its place", "")
	}
	var calls []string
	for _, r := range inOrder(c.m.GatewayRoutes, g.Name) {
		if name := c.gatewayRoute(r); name != "" {
			calls = append(calls, name)
		}
	}
	slices.Sort(calls)
	d := &document{ServiceConnect: serviceConnect{Enabled: true, Namespace: c.namespace, Dependencies: slices.Compact(calls)}}
	c.out = append(c.out, Declaration{Name: free(c.workloads, label(g.Name)), Of: g.Of, Text: d.encode()})
}

// entrances are where calls came in, and what was said of each.
func entrances(all []model.Listener) string {
	var out []string
	for _, l := range all {
		says := fmt.Sprintf("%s at %d", l.PortMapping.Protocol, l.PortMapping.Port)
		if t := l.TLS; t != nil {
			says += " with TLS " + t.Mode
			if t.Validation != nil {
				says += ", for callers with a certificate,"
			}
		}
		for _, x := range []struct {
			name  string
			there bool
		}{{"a health check", l.HealthCheck != nil}, {"a connection pool", l.ConnectionPool != nil}, {"timeouts", l.Timeout != nil}, {"outlier detection", l.OutlierDetection != nil}} {
			if x.there {
				says += " with " + x.name
			}
		}
		out = append(out, says)
	}
	if out == nil {
		return "none"
	}
	return strings.Join(out, "; ")
}

// gatewayRoute says what the proxy in the gateway's place has to do, and
// returns the service that is called.
func (c *converter) gatewayRoute(r *model.Resource[model.RouteSpec]) string {
	x, member, _ := pick(r.Spec)
	if x == nil || x.Action == nil || x.Action.Target == nil || x.Action.Target.VirtualService == nil {
		c.note(Lost, r.Of, "spec", "it leads nowhere", "")
		return ""
	}
	name := x.Action.Target.VirtualService.VirtualServiceName
	at := "spec." + member
	p := c.fronts[name]
	if p == nil {
		if c.m.Services[name] == nil {
			c.absent(r.Of, at+".action.target.virtualService.virtualServiceName", model.KindService, name)
		}
		return ""
	}
	to := p.name + "." + c.namespace
	port := p.listener.PortMapping.Port
	if p.alias != nil {
		port = p.alias.Port
		if p.alias.DNSName != "" {
			to = p.alias.DNSName
		}
	}
	const whole = ", with / in the place of the prefix"
	rewrite := whole
	if w := x.Action.Rewrite; w != nil {
		switch {
		case w.Path != nil && w.Path.Exact != "":
			rewrite = ", as " + w.Path.Exact
		case w.Prefix != nil && w.Prefix.Value != "":
			rewrite = ", with " + w.Prefix.Value + " in the place of the prefix"
		case w.Prefix != nil && w.Prefix.DefaultPrefix == "DISABLED":
			rewrite = ", as they are"
		}
	}
	if w := x.Action.Rewrite; w != nil && w.Hostname != nil && w.Hostname.DefaultTargetHostname == "DISABLED" {
		rewrite += ", with the host that they have"
	}
	if x.Match != nil && x.Match.ServiceName != "" { // of gRPC, where nothing is in the place of anything
		rewrite = strings.TrimPrefix(rewrite, whole)
	}
	first := ""
	if r.Spec.Priority != nil {
		first = fmt.Sprintf(" (priority %d: the lowest is first)", *r.Spec.Priority)
	}
	if n := x.Action.Target.Port; n != 0 && n != port {
		c.note(Lost, r.Of, at+".action.target.port", fmt.Sprintf("%s is called at %d, not at %d", name, port, n), "a listener with another port is a service of its own here")
	}
	c.note(Lost, r.Of, at, "requests "+words(x.Match)+" went to "+name+first, fmt.Sprintf("let the proxy send them to http://%s:%d%s", to, port, rewrite))
	return p.name
}

// words are a gateway route's conditions.
func words(m *model.Match) string {
	if m == nil {
		return "of any kind"
	}
	var out []string
	add := func(what, value string) {
		if value != "" {
			out = append(out, what+" "+value)
		}
	}
	add("of service", m.ServiceName)
	add("below", m.Prefix)
	if m.Path != nil {
		add("for", m.Path.Exact)
		add("matching", m.Path.Regex)
	}
	add("by", m.Method)
	if m.Hostname != nil {
		add("to the host", m.Hostname.Exact)
		if m.Hostname.Suffix != "" {
			add("to hosts under", "*"+m.Hostname.Suffix)
		}
	}
	for _, h := range slices.Concat(m.Headers, m.Metadata) {
		add("with the header", condition(h))
	}
	for _, q := range m.QueryParameters {
		add("with the query parameter", condition(q))
	}
	if m.Port != 0 {
		out = append(out, fmt.Sprintf("at port %d", m.Port))
	}
	if len(out) == 0 {
		return "of any kind"
	}
	return strings.Join(out, ", ")
}

// condition is one in words: "x-beta = yes".
func condition(h model.Condition) string {
	says := h.Name
	if m := h.Match; m != nil {
		for _, x := range []struct {
			word string
			text *string
		}{{" = ", m.Exact}, {" beginning with ", m.Prefix}, {" ending in ", m.Suffix}, {" matching ", m.Regex}} {
			if x.text != nil {
				says += x.word + *x.text
			}
		}
		if m.Range != nil {
			says += fmt.Sprintf(" from %d to below %d", m.Range.Start, m.Range.End)
		}
	}
	if h.Invert {
		return "not " + says
	}
	return says
}
