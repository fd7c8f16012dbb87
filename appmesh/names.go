package appmesh

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"patchbay/appmesh/model"
	"patchbay/mesh"
)

// port is one listener of a virtual node, which is a service here.
type port struct {
	listener model.Listener
	path     string // spec.listeners[i]
	name     string // discoveryName
	portName string
	alias    *alias          // nil: the default one
	router   string          // whose routes are the service's policy; empty: none
	virtual  string          // the virtual service that it stands for
	trust    map[string]bool // CAs by which callers verify it
}

// node is a virtual node on its way to a declaration.
type node struct {
	*model.Resource[model.NodeSpec]
	workload string
	ports    []*port
}

// front is the port at which targetPort, or any if it is 0, arrives; nil for a
// node without listeners.
func (n *node) front(targetPort int64) *port {
	if n == nil || len(n.ports) == 0 {
		return nil
	}
	for _, p := range n.ports {
		if targetPort != 0 && p.listener.PortMapping.Port == targetPort {
			return p
		}
	}
	return n.ports[0]
}

// maxLabel leaves room in Cloud Map's 63 for a port and a number.
const maxLabel = 54

// label makes a discoveryName of any name.
func label(name string) string {
	s := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, name)
	s = strings.TrimLeft(s, "-")
	return cmp.Or(strings.TrimRight(s[:min(len(s), maxLabel)], "-"), "unnamed")
}

// names gives each listener of each node a discoveryName: the node's for the
// first, with the port for others.
func (c *converter) names() {
	taken := map[string]bool{}
	for _, name := range model.Sorted(c.m.Nodes) {
		n := &node{Resource: c.m.Nodes[name]}
		c.nodes[name] = n
		for i, l := range n.Spec.Listeners {
			p := &port{listener: l, path: "spec.listeners[" + strconv.Itoa(i) + "]", portName: protocolOf(l), trust: map[string]bool{}}
			want := label(name)
			if i > 0 {
				want += "-" + strconv.FormatInt(l.PortMapping.Port, 10)
				p.portName += "-" + strconv.FormatInt(l.PortMapping.Port, 10)
				c.note(Differs, n.Of, p.path, "a service has one port here: this listener is the service "+want+" of its own", "")
			}
			p.name = free(taken, want)
			if p.name != name && i == 0 {
				c.note(Hint, n.Of, "virtualNodeName", "its discoveryName is "+p.name, "")
			}
			n.ports = append(n.ports, p)
		}
		if n.workload = label(name); len(n.ports) > 0 {
			n.workload = n.ports[0].name
		}
		n.workload = free(c.workloads, n.workload)
	}
}

// free is the name that is wanted, or the next that is not taken. It is then.
func free(taken map[string]bool, want string) string {
	name := want
	for k := 2; taken[name]; k++ {
		name = want + "-" + strconv.Itoa(k)
	}
	taken[name] = true
	return name
}

// aliases finds for each virtual service the port that it stands for: the
// provider's, or of a router's targets the one that gets most of what no other
// route takes. Its routes then lead from there to the others.
func (c *converter) aliases() {
	called := c.callers()
	names := model.Sorted(c.m.Services)
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(len(called[b]), len(called[a])) })
	for _, name := range names {
		s := c.m.Services[name]
		p, router := c.provider(s)
		if p == nil {
			continue
		}
		c.fronts[name] = p
		if p.virtual != "" {
			why := "a service has one alias here, and " + p.name + " has " + p.virtual
			if router != "" && router != p.router {
				why += "; the routes of its router " + router + " are left out"
			}
			c.note(Lost, s.Of, "virtualServiceName", why, "call it by that name instead, or offer the port once more, under another portName")
			continue
		}
		p.virtual, p.router = name, router
		at := p.listener.PortMapping.Port
		if r := c.m.Routers[router]; r != nil && len(r.Spec.Listeners) > 0 {
			at = r.Spec.Listeners[0].PortMapping.Port
			for i := range r.Spec.Listeners[1:] {
				c.note(Lost, r.Of, "spec.listeners["+strconv.Itoa(i+1)+"]", "a service has one alias here", "call it at port "+strconv.FormatInt(at, 10))
			}
		}
		p.alias = &alias{Port: at, DNSName: strings.ToLower(name)}
		if !mesh.ValidDNSName(p.alias.DNSName) {
			p.alias.DNSName = ""
			c.note(Lost, s.Of, "virtualServiceName", "it can't be the name of a host here", "call it by "+p.name+"."+c.namespace)
		}
	}
}

// provider is the port that s stands for, and the router between them.
func (c *converter) provider(s *model.Resource[model.ServiceSpec]) (*port, string) {
	pr := s.Spec.Provider
	switch {
	case pr != nil && pr.VirtualNode != nil:
		n := c.nodes[pr.VirtualNode.VirtualNodeName]
		switch {
		case n == nil:
			c.absent(s.Of, "spec.provider.virtualNode.virtualNodeName", model.KindNode, pr.VirtualNode.VirtualNodeName)
		case len(n.ports) == 0:
			c.note(Lost, s.Of, "spec.provider.virtualNode", "the node listens nowhere", "")
		}
		return n.front(0), ""
	case pr != nil && pr.VirtualRouter != nil:
		name := pr.VirtualRouter.VirtualRouterName
		if c.m.Routers[name] == nil {
			c.absent(s.Of, "spec.provider.virtualRouter.virtualRouterName", model.KindRouter, name)
		}
		return c.mainTarget(s, name), name
	}
	c.note(Lost, s.Of, "spec.provider", "it has none: whoever called it got 404", "")
	return nil, ""
}

// mainTarget is the heaviest target of a router's last route.
func (c *converter) mainTarget(s *model.Resource[model.ServiceSpec], router string) *port {
	routes := c.routesOf(router)
	if len(routes) == 0 {
		c.note(Lost, s.Of, "spec.provider.virtualRouter", "its router has no routes: whoever called it got 404", "add what `aws appmesh describe-route` prints of each")
		return nil
	}
	for _, route := range slices.Backward(routes) {
		var best *port
		most := int64(-1)
		r, _, _ := pick(route.Spec)
		if r == nil || r.Action == nil {
			continue
		}
		for _, t := range r.Action.WeightedTargets {
			if p := c.nodes[t.VirtualNode].front(t.Port); p != nil && t.Weight > most {
				best, most = p, t.Weight
			}
		}
		if best != nil {
			return best
		}
	}
	c.note(Lost, s.Of, "spec.provider.virtualRouter", "no route leads to a virtual node that is among the files", "")
	return nil
}

// callers are the nodes that have each virtual service as a backend.
func (c *converter) callers() map[string][]string {
	out := map[string][]string{}
	for _, name := range model.Sorted(c.m.Nodes) {
		for _, b := range c.m.Nodes[name].Spec.Backends {
			if v := b.VirtualService; v != nil {
				out[v.VirtualServiceName] = append(out[v.VirtualServiceName], name)
			}
		}
	}
	return out
}

func (c *converter) absent(of, path, kind, name string) {
	c.note(Lost, of, path, kind+" "+name+" is not among the files", "add what `aws appmesh describe-"+model.Dashed(kind)+"` prints of it")
}
