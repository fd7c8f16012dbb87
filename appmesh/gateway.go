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
	c.note(Lost, g.Of, "spec.listeners", fmt.Sprintf("nothing here takes calls from outside the mesh: it had %d", len(g.Spec.Listeners)),
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
	rewrite := ", with / in the place of the prefix"
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
	c.note(Lost, r.Of, at, "requests "+words(x.Match)+" went to "+name, fmt.Sprintf("let the proxy send them to http://%s:%d%s", to, port, rewrite))
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
		add("with the header", h.Name)
	}
	for _, q := range m.QueryParameters {
		add("with the query parameter", q.Name)
	}
	if len(out) == 0 {
		return "of any kind"
	}
	return strings.Join(out, ", ")
}
