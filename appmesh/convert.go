package appmesh

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"patchbay/appmesh/model"
	"patchbay/mesh"
	"patchbay/mesh/policy"
)

type converter struct {
	m         *model.Mesh
	namespace string
	nodes     map[string]*node
	fronts    map[string]*port // by virtual service
	workloads map[string]bool  // names that are taken
	out       []Declaration
	notes     []Note
}

func newConverter(m *model.Mesh, o Options) *converter {
	c := &converter{m: m, nodes: map[string]*node{}, fronts: map[string]*port{}, workloads: map[string]bool{"report": true}}
	for _, p := range m.Deleted {
		c.note(Hint, p.Of, p.Path, "it is deleted, and was left out", "")
	}
	for _, p := range m.Unknown {
		c.note(Lost, p.Of, p.Path, "is not known here", "see what it means in App Mesh's API, and whether a policy says the same")
	}
	c.namespace = strings.ToLower(cmp.Or(o.Namespace, c.cloudMapNamespace(), label(m.Name)))
	return c
}

// cloudMapNamespace is the one that most virtual nodes are in.
func (c *converter) cloudMapNamespace() string {
	n := map[string]int{}
	for _, v := range c.m.Nodes {
		if d := v.Spec.ServiceDiscovery; d != nil && d.AWSCloudMap != nil && mesh.ValidDNSName(strings.ToLower(d.AWSCloudMap.NamespaceName)) {
			n[d.AWSCloudMap.NamespaceName]++
		}
	}
	best := ""
	for _, name := range model.Sorted(n) {
		if n[name] > n[best] {
			best = name
		}
	}
	return best
}

func (c *converter) note(kind, of, path, means, do string) {
	c.notes = append(c.notes, Note{kind, of, path, means, do})
}

func (c *converter) convert() {
	c.meshItself()
	c.names()
	c.aliases()
	for _, name := range model.Sorted(c.m.Nodes) {
		c.trusts(c.m.Nodes[name])
	}
	for _, name := range model.Sorted(c.m.Nodes) {
		c.node(c.nodes[name])
	}
	for _, name := range model.Sorted(c.m.Gateways) {
		c.gateway(c.m.Gateways[name])
	}
	c.strays()
}

func (c *converter) meshItself() {
	if c.m.Mesh == nil {
		c.note(Hint, model.KindMesh+"/"+c.m.Name, "spec", "it is not among the files", "add what `aws appmesh describe-mesh` prints, to hear of its egress filter")
		return
	}
	s := c.m.Mesh.Spec
	if s.EgressFilter == nil || s.EgressFilter.Type != "ALLOW_ALL" {
		c.note(Lost, c.m.Mesh.Of, "spec.egressFilter.type", "Envoys let nothing out but to the mesh; here what is not in the mesh is untouched", "close the way out with security groups or network policies")
	}
	if s.ServiceDiscovery != nil && s.ServiceDiscovery.IPPreference != "" {
		c.note(Lost, c.m.Mesh.Of, "spec.serviceDiscovery.ipPreference", "a task is called at the address from which its sidecar connects", "")
	}
}

// node writes the declaration of a virtual node.
func (c *converter) node(n *node) {
	d := &document{ServiceConnect: serviceConnect{Enabled: true, Namespace: c.namespace}}
	for _, p := range n.ports {
		d.PortMappings = append(d.PortMappings, mapping{Name: p.portName, ContainerPort: p.listener.PortMapping.Port, AppProtocol: appProtocol(p)})
		s := service{PortName: p.portName, DiscoveryName: p.name, TLS: c.tls(n, p)}
		if p.alias != nil {
			s.ClientAliases = []alias{*p.alias}
		}
		pol := &policy.Policy{Preset: "appmesh"}
		c.listener(n, p, &s, pol)
		c.routes(p, &s, pol)
		if d.Policies == nil {
			d.Policies = map[string]*policy.Policy{}
		}
		d.Policies[p.name] = pol
		d.ServiceConnect.Services = append(d.ServiceConnect.Services, s)
	}
	d.ServiceConnect.Dependencies = c.backends(n)
	c.logging(n.Of, n.Spec.Logging, &d.ServiceConnect)
	c.discovery(n)
	c.out = append(c.out, Declaration{Name: n.workload, Of: n.Of, Text: d.encode()})
}

// backends are the discovery names of what a node calls.
func (c *converter) backends(n *node) []string {
	var out []string
	for i, b := range n.Spec.Backends {
		at := fmt.Sprintf("spec.backends[%d].virtualService.virtualServiceName", i)
		if b.VirtualService == nil {
			continue
		}
		name := b.VirtualService.VirtualServiceName
		if c.m.Services[name] == nil {
			c.absent(n.Of, at, model.KindService, name)
		} else if p := c.fronts[name]; p != nil {
			out = append(out, p.name)
		}
	}
	slices.Sort(out)
	if out = slices.Compact(out); len(out) == 0 {
		c.note(Hint, n.Of, "spec.backends", "it calls nothing in the mesh; here its sidecar is told of every service of the namespace", "name one in serviceConnectConfiguration.dependencies if that is too much")
	}
	return out
}

func (c *converter) logging(of string, l *model.Logging, sc *serviceConnect) {
	if l == nil || l.AccessLog == nil || l.AccessLog.File == nil {
		return
	}
	f := l.AccessLog.File
	sc.Log, sc.AccessLog = &logDriver{"awslogs"}, &accessLog{"TEXT"}
	if f.Path != "/dev/stdout" && f.Path != "" {
		c.note(Differs, of, "spec.logging.accessLog.file.path", "access logs are written to the sidecar's standard output, not to "+quoted(f.Path), "take them from there")
	}
	if f.Format == nil {
		return
	}
	if len(f.Format.JSON) > 0 {
		sc.AccessLog.Format = "JSON"
	}
	c.note(Differs, of, "spec.logging.accessLog.file.format", "access logs have Service Connect's fields, not chosen ones", "adapt what reads them")
}

func (c *converter) discovery(n *node) {
	d := n.Spec.ServiceDiscovery
	if d == nil {
		return
	}
	const at = "spec.serviceDiscovery"
	if a := d.AWSCloudMap; a != nil {
		if !strings.EqualFold(a.NamespaceName, c.namespace) {
			c.note(Differs, n.Of, at+".awsCloudMap.namespaceName", "it is in "+a.NamespaceName+", the declarations in "+c.namespace, "import with --namespace, or in two parts: a mesh is a namespace here")
		}
		c.note(Hint, n.Of, at+".awsCloudMap.serviceName", "the control plane registers tasks itself, in services that it makes", "take the ECS service's serviceRegistries for "+quoted(a.ServiceName)+" out when nothing else reads it")
		if len(a.Attributes) > 0 {
			c.note(Lost, n.Of, at+".awsCloudMap.attributes", "instances of one service are not told apart by attributes", "each virtual node is a service of its own here")
		}
		if a.IPPreference != "" {
			c.note(Lost, n.Of, at+".awsCloudMap.ipPreference", "a task is called at the address from which its sidecar connects", "")
		}
	}
	if a := d.DNS; a != nil {
		do := "give its tasks this declaration and a sidecar"
		if p := n.front(0); p != nil {
			address := quoted(net.JoinHostPort(a.Hostname, strconv.FormatInt(p.listener.PortMapping.Port, 10)))
			alias := ""
			if a.Hostname == p.name+"."+c.namespace { // which is what it would be called, and can't be its own address
				alias = ", alias: {dnsName: " + p.name + "}"
			}
			do += fmt.Sprintf("; or, if it is no task of yours, throw it away and add to `external` of the control plane's file: {name: %s, namespace: %s, addresses: [%s]%s}", p.name, c.namespace, address, alias)
		}
		if a.IPPreference != "" {
			c.note(Lost, n.Of, at+".dns.ipPreference", "a task is called at the address from which its sidecar connects; outside, IPv4 is preferred", "")
		}
		c.note(Differs, n.Of, at+".dns.hostname", "it was found by DNS; here a task registers through its sidecar", do)
	}
}

// strays are routes without their router, and routers that nothing leads to.
func (c *converter) strays() {
	used := map[string]bool{}
	for _, s := range c.m.Services {
		if p := s.Spec.Provider; p != nil && p.VirtualRouter != nil {
			used[p.VirtualRouter.VirtualRouterName] = true
		}
	}
	for _, name := range model.Sorted(c.m.Routers) {
		if !used[name] {
			c.note(Hint, c.m.Routers[name].Of, "virtualRouterName", "no virtual service among the files has it as its provider: its routes are left out", "")
		}
	}
	for _, key := range model.Sorted(c.m.Routes) {
		if r := c.m.Routes[key]; c.m.Routers[r.Up] == nil && !used[r.Up] {
			c.absent(r.Of, "virtualRouterName", model.KindRouter, r.Up)
		}
	}
	for _, key := range model.Sorted(c.m.GatewayRoutes) {
		if r := c.m.GatewayRoutes[key]; c.m.Gateways[r.Up] == nil {
			c.absent(r.Of, "virtualGatewayName", model.KindGateway, r.Up)
		}
	}
}

func quoted(s string) string { return fmt.Sprintf("%.200q", s) }
