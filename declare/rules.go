package declare

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"patchbay/mesh"
	"patchbay/mesh/policy"
)

// redirectPort is where the task's Envoy takes redirected connections
// (bootstrap.RedirectPort).
const redirectPort = 15001

// maxSeconds is ECS's bound of timeouts.
const maxSeconds = int64(mesh.MaxTimeout / time.Second)

// most is how many services, and how many ports, one task may have: the
// control plane takes no more.
const most = 100

func (c *checker) task(d document) Task {
	mappings := c.mappings(d.PortMappings)
	c.nameless = nameless(d.PortMappings)
	t := Task{LogLevel: "info"}
	for _, m := range d.PortMappings {
		t.ContainerPorts = append(t.ContainerPorts, m.ports()...)
	}
	slices.Sort(t.ContainerPorts)
	t.ContainerPorts = slices.Compact(t.ContainerPorts)
	if n := len(t.ContainerPorts); n > most {
		c.bad("portMappings", "has %d ports; allowed: up to %d", n, most)
	}
	sc := d.ServiceConnect
	if sc == nil {
		return t
	}
	const root = "serviceConnectConfiguration"
	if sc.Enabled == nil { // as if it were true: what else is wrong is said, too
		c.bad(root+".enabled", "is missing; allowed: true or false")
	} else if !*sc.Enabled {
		return t
	}
	t.Enabled = true
	t.Namespace = sc.Namespace
	if strings.ContainsAny(sc.Namespace, ` <>"`) || len(sc.Namespace) > 1024 {
		c.bad(root+".namespace", "%s; allowed: a name of up to 1024 characters without < > \" or spaces, or an ARN", quote(sc.Namespace))
	}
	if n := len(sc.Services); n > most {
		c.bad(root+".services", "has %d entries; allowed: up to %d", n, most)
	}
	for i, s := range sc.Services {
		t.Ports = append(t.Ports, c.service(fmt.Sprintf("%s.services[%d]", root, i), i, s, mappings))
	}
	t.Dependencies = c.dependencies(root+".dependencies", sc.Dependencies)
	c.policies(d.Policies, &t)
	c.deployment("deploymentConfiguration", d.Deployment, &t)
	if t.Revision = d.Revision; t.Revision != "" && !mesh.ValidRevision(t.Revision) {
		c.bad("revision", "%s; allowed: up to 64 of [0-9a-zA-Z_.-]", quote(t.Revision))
	}
	c.unique(root, t)
	c.logs(root, sc, &t)
	return t
}

// dependencies are ours, not ECS's: its agent is told of the whole namespace.
func (c *checker) dependencies(path string, list []string) []string {
	if list != nil && len(list) == 0 {
		c.bad(path, "is empty; allowed: one discovery name or more, or absent for all services of the namespace")
	}
	if n := len(list); n > mesh.MaxDependencies {
		c.bad(path, "has %d entries; allowed: up to %d", n, mesh.MaxDependencies)
		return nil
	}
	seen := map[string]int{}
	for i, name := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		if first, dup := taken(seen, name, i); dup {
			c.bad(at, "%s stands at [%d] already; allowed: each name once", quote(name), first)
		} else if !mesh.ValidDiscoveryName(name) {
			c.bad(at, "%s; allowed: the discovery name of a service in the task's namespace, without the namespace: up to 64 of [a-z0-9_-], not starting with '-'", quote(name))
		}
	}
	return slices.Sorted(slices.Values(list))
}

func (c *checker) mappings(list []portMapping) map[string]portMapping {
	byName := map[string]portMapping{}
	for i, m := range list {
		path := fmt.Sprintf("portMappings[%d]", i)
		switch {
		case m.ContainerPortRange != "":
			c.portRange(path, m)
		default:
			c.port(path+".containerPort", m.ContainerPort)
		}
		if m.HostPort != nil && (*m.HostPort < 0 || *m.HostPort > 65535) {
			c.bad(path+".hostPort", "%d; allowed: 0 to 65535", *m.HostPort)
		}
		if m.Name != "" && !mesh.ValidDiscoveryName(m.Name) {
			c.bad(path+".name", "%s; allowed: up to 64 of [a-z0-9_-], not starting with '-'", quote(m.Name))
		}
		if m.Protocol != "" && m.Protocol != "tcp" && m.Protocol != "udp" {
			c.bad(path+".protocol", "%s; allowed: tcp, udp", quote(m.Protocol))
		}
		if !slices.Contains([]string{"", "http", "http2", "grpc"}, m.AppProtocol) {
			c.bad(path+".appProtocol", "%s; allowed: http, http2, grpc, or absent for tcp", quote(m.AppProtocol))
		}
		if _, dup := byName[m.Name]; dup && m.Name != "" {
			c.bad(path+".name", "%s stands twice; allowed: each name once in a task", quote(m.Name))
			continue
		}
		byName[m.Name] = m
	}
	return byName
}

// port holds a port against its form; one that has none is spoiled.
func (c *checker) port(path string, n *int) {
	switch {
	case n == nil:
		c.bad(path, "is missing; allowed: 1 to 65535")
	case portOf(n) == 0:
		c.bad(path, "%d; allowed: 1 to 65535", *n)
	default:
		return
	}
	c.spoiled[path] = true
}

// portOf is n as a port; 0 if it is none.
func portOf(n *int) uint16 {
	if n == nil || *n < 1 || *n > 65535 {
		return 0
	}
	return uint16(*n)
}

func (c *checker) service(path string, index int, s serviceEntry, mappings map[string]portMapping) Port {
	p := Port{PortName: s.PortName, DiscoveryName: s.DiscoveryName, Protocol: mesh.TCP}
	if p.DiscoveryName == "" {
		p.DiscoveryName = s.PortName
	}
	m, found := mappings[s.PortName]
	switch {
	case s.PortName == "":
		c.bad(path+".portName", "is missing; allowed: the name of a port mapping (%s)%s", known(mappings), c.nameless)
	case !found:
		c.bad(path+".portName", "%s is not the name of a port mapping; allowed: %s%s", quote(s.PortName), known(mappings), c.nameless)
	case m.Protocol == "udp":
		c.bad(path+".portName", "%s is a udp port; allowed: tcp", quote(s.PortName))
	case m.ContainerPortRange != "":
		c.bad(path+".portName", "%s is a range of ports; allowed: a port mapping with containerPort", quote(s.PortName))
	}
	if m.AppProtocol != "" {
		p.Protocol = mesh.Protocol(m.AppProtocol)
	}
	p.ContainerPort = portOf(m.ContainerPort)
	if s.DiscoveryName != "" && !mesh.ValidDiscoveryName(s.DiscoveryName) {
		c.bad(path+".discoveryName", "%s; allowed: up to 64 of [a-z0-9_-], not starting with '-'", quote(s.DiscoveryName))
	}
	c.held(path, s, p.DiscoveryName)
	p.IngressPort = uint16(firstIngressPort + index)
	if o := s.IngressPortOverride; o != nil {
		c.port(path+".ingressPortOverride", o)
		p.IngressPort = portOf(o)
	}
	p.Aliases = c.aliases(path, s, &p)
	p.Timeouts = c.timeouts(path+".timeout", s.Timeout, found && p.Protocol == mesh.TCP)
	p.TLS = c.tls(path+".tls", s.TLS)
	return p
}

func (c *checker) aliases(path string, s serviceEntry, p *Port) []Alias {
	if len(s.ClientAliases) == 0 {
		return []Alias{{Port: p.ContainerPort}}
	}
	if len(s.ClientAliases) > 1 {
		c.bad(path+".clientAliases", "has %d entries; allowed: one", len(s.ClientAliases))
	}
	var out []Alias
	for i, a := range s.ClientAliases {
		at := fmt.Sprintf("%s.clientAliases[%d]", path, i)
		c.port(at+".port", a.Port)
		if a.DNSName != "" && !mesh.ValidDNSName(a.DNSName) {
			c.bad(at+".dnsName", "%s; allowed: "+mesh.DNSNameForm, quote(a.DNSName))
		}
		c.rules(at+".testTrafficRules", a.TestTrafficRules, p)
		out = append(out, Alias{DNSName: a.DNSName, Port: portOf(a.Port)})
	}
	return out
}

// rules checks what blue/green deployments use. A tcp port has no headers, and
// nothing follows for it.
func (c *checker) rules(path string, r *trafficRules, p *Port) {
	switch {
	case r == nil:
	case r.Header == nil || r.Header.Name == "":
		c.bad(path+".header.name", "is missing; allowed: the name of a header")
	case r.Header.Value != nil && r.Header.Value.Exact == "":
		c.bad(path+".header.value.exact", "is missing; allowed: the header's value")
	case p.Protocol.L7():
		t := &policy.TestTraffic{Header: r.Header.Name}
		if r.Header.Value != nil {
			t.Value = r.Header.Value.Exact
		}
		p.Policy = &policy.Policy{TestTraffic: t}
		for _, x := range p.Policy.Problems() {
			c.bad(path+strings.TrimPrefix(x.Path, "testTraffic"), "%s", x.Text)
		}
	}
}

// tcp: the port is known to have no requests.
func (c *checker) timeouts(path string, t *timeout, tcp bool) mesh.Timeouts {
	if t == nil {
		return mesh.Timeouts{}
	}
	read := func(name string, n *int64) *time.Duration {
		if n == nil {
			return nil
		}
		if *n < 0 || *n > maxSeconds {
			c.bad(path+"."+name, "%d; allowed: 0 (off) to %d seconds", *n, maxSeconds)
		}
		d := time.Duration(*n) * time.Second
		return &d
	}
	if t.PerRequestTimeoutSeconds != nil && tcp {
		c.bad(path+".perRequestTimeoutSeconds", "a tcp port has no requests; allowed: idleTimeoutSeconds, or an appProtocol")
	}
	return mesh.Timeouts{Idle: read("idleTimeoutSeconds", t.IdleTimeoutSeconds), PerRequest: read("perRequestTimeoutSeconds", t.PerRequestTimeoutSeconds)}
}

func (c *checker) tls(path string, t *tls) *mesh.ServiceTLS {
	if t == nil {
		return nil
	}
	if t.IssuerCertificateAuthority == nil || t.IssuerCertificateAuthority.AWSPCAAuthorityARN == "" {
		c.bad(path+".issuerCertificateAuthority.awsPcaAuthorityArn", "is missing; allowed: the ARN of a private CA, or the name of an issuer of the control plane, such as default")
		return nil
	}
	if arn := t.IssuerCertificateAuthority.AWSPCAAuthorityARN; strings.HasPrefix(arn, "arn:") && !privateCA.MatchString(arn) {
		c.bad(path+".issuerCertificateAuthority.awsPcaAuthorityArn", "%s is no ARN of a private CA; allowed: arn:aws:acm-pca:REGION:ACCOUNT:certificate-authority/ID, or the name of an issuer of the control plane, such as default", quote(arn))
	}
	if t.KMSKey != "" && !mesh.ValidKMSKey(t.KMSKey) {
		c.bad(path+".kmsKey", "%s; allowed: the id of a KMS key, alias/NAME, or the ARN of either", quote(t.KMSKey))
	}
	if t.RoleARN != "" {
		c.ignore(path+".roleArn", "has no effect: the control plane asks the CA and keeps the certificate, with its own role; who gets it is who has the task's role (taskRoleArn)")
	}
	return &mesh.ServiceTLS{Issuer: t.IssuerCertificateAuthority.AWSPCAAuthorityARN, KMSKey: t.KMSKey}
}

// privateCA is the form of a private CA's ARN.
var privateCA = regexp.MustCompile(`^arn:aws[a-z-]*:acm-pca:[a-z0-9-]+:[0-9]+:certificate-authority/[A-Za-z0-9-]+$`)

// unique holds ECS's rules about names and ports that may stand only once.
func (c *checker) unique(root string, t Task) {
	portNames, discovery, aliases, ports := map[string]int{}, map[string]int{}, map[Alias]int{}, map[uint16]int{}
	for i, p := range t.Ports {
		path := fmt.Sprintf("%s.services[%d]", root, i)
		if first, dup := taken(portNames, p.PortName, i); dup && p.PortName != "" {
			c.bad(path+".portName", "%s is that of services[%d] too; allowed: each port mapping once", quote(p.PortName), first)
		} else if first, dup := taken(discovery, p.DiscoveryName, i); dup && p.DiscoveryName != "" {
			c.bad(path+".discoveryName", "%s is that of services[%d] too; allowed: each once in a namespace", quote(p.DiscoveryName), first)
		}
		if first, dup := taken(ports, p.IngressPort, i); p.IngressPort != 0 {
			switch {
			case dup:
				c.bad(path+".ingressPortOverride", "%d is the ingress port of services[%d] too; allowed: each once", p.IngressPort, first)
			case p.IngressPort == redirectPort:
				c.bad(path+".ingressPortOverride", "%d is used by the sidecar; allowed: any other", p.IngressPort)
			case slices.Contains(t.ContainerPorts, p.IngressPort):
				c.bad(path+".ingressPortOverride", "%d is a containerPort of the task; allowed: a port that no container listens on", p.IngressPort)
			}
		}
		for j, a := range p.Aliases {
			if a.DNSName == "" {
				a.DNSName = p.DiscoveryName + "." + t.Namespace
			}
			if first, dup := taken(aliases, a, i); dup && a.Port != 0 && first != i {
				c.bad(fmt.Sprintf("%s.clientAliases[%d]", path, j), "%s:%d is an alias of services[%d] too; allowed: each once", a.DNSName, a.Port, first)
			}
		}
	}
}

// taken notes who has a key, and says who had it before.
func taken[K comparable](by map[K]int, key K, i int) (first int, dup bool) {
	if first, dup = by[key]; !dup {
		by[key] = i
	}
	return first, dup
}

func (c *checker) logs(root string, sc *serviceConnect, t *Task) {
	for i, cc := range sc.ContainerConfigurations {
		if cc.LogLevel != "info" && cc.LogLevel != "debug" || i > 0 {
			c.bad(fmt.Sprintf("%s.containerConfigurations[%d].logLevel", root, i), "%s; allowed: info or debug, once", quote(cc.LogLevel))
		}
		t.LogLevel = cc.LogLevel
	}
	if l := sc.LogConfiguration; l != nil && !slices.Contains(logDrivers, l.LogDriver) {
		c.bad(root+".logConfiguration.logDriver", "%s; allowed: %s", quote(l.LogDriver), strings.Join(logDrivers, ", "))
	}
	a := sc.AccessLogConfiguration
	if a == nil {
		return
	}
	path := root + ".accessLogConfiguration"
	if sc.LogConfiguration == nil {
		c.bad(path, "needs logConfiguration as well, as in ECS")
	}
	if a.Format != "TEXT" && a.Format != "JSON" {
		c.bad(path+".format", "%s; allowed: TEXT, JSON", quote(a.Format))
	}
	if !slices.Contains([]string{"", "ENABLED", "DISABLED"}, a.IncludeQueryParameters) {
		c.bad(path+".includeQueryParameters", "%s; allowed: ENABLED, DISABLED", quote(a.IncludeQueryParameters))
	}
	t.AccessLog = &AccessLog{Format: a.Format, QueryParameters: a.IncludeQueryParameters == "ENABLED"}
}

// logDrivers are ECS's.
var logDrivers = []string{"awsfirelens", "awslogs", "fluentd", "gelf", "journald", "json-file", "splunk", "syslog"}

func known(m map[string]portMapping) string {
	names := make([]string, 0, len(m))
	for name := range m {
		if name != "" {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "none of portMappings has a name"
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
