// Package declare reads what a task says of itself in ECS's own words,
// serviceConnectConfiguration and portMappings, and checks it by ECS's rules.
//
// It owns these rules and their messages. It must not know the network, the
// registry or Envoy. Start reading at [Parse].
package declare

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"patchbay/mesh"
)

// FirstIngressPort is where Envoy listens for the first service of a task
// that has no ingressPortOverride; the next one gets the next port.
const FirstIngressPort = 15010

// maxSeconds bounds timeouts (a day): more is most likely a unit confused.
const maxSeconds = 86400

// Task is a declaration that holds.
type Task struct {
	Enabled        bool
	Namespace      string   // name or ARN; empty: the cluster's default
	Ports          []Port   // in the order of services; empty: client-only
	ContainerPorts []uint16 // sorted: every port that the task's containers use
	AccessLog      *AccessLog
	LogLevel       string // of the proxy: "info" or "debug"
}

// Port is one entry of services, joined with its port mapping.
type Port struct {
	PortName      string
	DiscoveryName string
	Protocol      mesh.Protocol
	ContainerPort uint16
	IngressPort   uint16
	Aliases       []Alias // never empty: the default alias stands in
	TLS           *mesh.ServiceTLS
	Timeouts      mesh.Timeouts
}

// Alias is a clientAlias. An empty DNSName means discoveryName.namespace.
type Alias struct {
	DNSName string
	Port    uint16
}

// AccessLog is accessLogConfiguration.
type AccessLog struct {
	Format          string // "TEXT" or "JSON"
	QueryParameters bool
}

// Problem is one thing that is wrong, with the JSON path where it stands.
type Problem struct {
	Path string // for example serviceConnectConfiguration.services[0].portName
	Text string // what is wrong and what is allowed
}

func (p Problem) String() string { return p.Path + ": " + p.Text }

// Problems is every problem of a declaration, in the order of the document.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.String()
	}
	return strings.Join(lines, "\n")
}

// Parse reads the JSON document {"serviceConnectConfiguration": {…},
// "portMappings": […]}. Any error is of type [Problems]. A document without
// serviceConnectConfiguration, or with enabled false, is a Task that is not
// Enabled.
func Parse(document []byte) (Task, error) {
	d, problems := decode(document)
	if len(problems) > 0 {
		return Task{}, problems
	}
	c := checker{}
	t := c.task(d)
	if len(c.problems) > 0 {
		return Task{}, c.problems
	}
	return t, nil
}

// decode is strict: an unknown key is an error with its path.
func decode(text []byte) (document, Problems) {
	var tree any
	dec := json.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(&tree); err != nil {
		return document{}, Problems{{"declaration", "is not JSON: " + err.Error()}}
	}
	if _, err := dec.Token(); err != io.EOF {
		return document{}, Problems{{"declaration", "goes on after its end; allowed: one JSON object"}}
	}
	var problems Problems
	compareKeys(tree, shapeOf[document](), "", &problems)
	if len(problems) > 0 {
		return document{}, problems
	}
	var d document
	if err := json.Unmarshal(text, &d); err != nil {
		return document{}, Problems{{"declaration", err.Error()}}
	}
	return d, nil
}

// checker collects problems on the way.
type checker struct{ problems Problems }

func (c *checker) bad(path, format string, args ...any) {
	c.problems = append(c.problems, Problem{path, fmt.Sprintf(format, args...)})
}

func (c *checker) task(d document) Task {
	mappings := c.mappings(d.PortMappings)
	t := Task{LogLevel: "info"}
	for _, m := range d.PortMappings {
		if m.ContainerPort > 0 && m.ContainerPort <= 65535 {
			t.ContainerPorts = append(t.ContainerPorts, uint16(m.ContainerPort))
		}
	}
	slices.Sort(t.ContainerPorts)
	t.ContainerPorts = slices.Compact(t.ContainerPorts)
	sc := d.ServiceConnect
	if sc == nil {
		return t
	}
	const root = "serviceConnectConfiguration"
	if sc.Enabled == nil {
		c.bad(root+".enabled", "is missing; allowed: true or false")
		return t
	}
	if t.Enabled = *sc.Enabled; !t.Enabled {
		return t
	}
	t.Namespace = sc.Namespace
	if strings.ContainsAny(sc.Namespace, ` <>"`) || len(sc.Namespace) > 1024 {
		c.bad(root+".namespace", "%q; allowed: a name of up to 1024 characters without < > \" or spaces, or an ARN", sc.Namespace)
	}
	for i, s := range sc.Services {
		t.Ports = append(t.Ports, c.service(fmt.Sprintf("%s.services[%d]", root, i), i, s, mappings))
	}
	c.unique(root, t)
	c.logs(root, sc, &t)
	return t
}

func (c *checker) mappings(list []portMapping) map[string]portMapping {
	byName := map[string]portMapping{}
	for i, m := range list {
		path := fmt.Sprintf("portMappings[%d]", i)
		if m.ContainerPort < 1 || m.ContainerPort > 65535 {
			c.bad(path+".containerPort", "%d; allowed: 1 to 65535", m.ContainerPort)
		}
		if m.Name != "" && !mesh.ValidDiscoveryName(m.Name) {
			c.bad(path+".name", "%q; allowed: up to 64 of [a-z0-9_-], not starting with '-'", m.Name)
		}
		if m.Protocol != "" && m.Protocol != "tcp" && m.Protocol != "udp" {
			c.bad(path+".protocol", "%q; allowed: tcp, udp", m.Protocol)
		}
		if !slices.Contains([]string{"", "http", "http2", "grpc"}, m.AppProtocol) {
			c.bad(path+".appProtocol", "%q; allowed: http, http2, grpc, or absent for tcp", m.AppProtocol)
		}
		if _, dup := byName[m.Name]; dup && m.Name != "" {
			c.bad(path+".name", "%q stands twice; allowed: each name once in a task", m.Name)
		}
		byName[m.Name] = m
	}
	return byName
}

func (c *checker) service(path string, index int, s serviceEntry, mappings map[string]portMapping) Port {
	p := Port{PortName: s.PortName, DiscoveryName: s.DiscoveryName, Protocol: mesh.TCP}
	if p.DiscoveryName == "" {
		p.DiscoveryName = s.PortName
	}
	m, found := mappings[s.PortName]
	switch {
	case s.PortName == "":
		c.bad(path+".portName", "is missing; allowed: the name of a port mapping (%s)", known(mappings))
	case !found:
		c.bad(path+".portName", "%q is not the name of a port mapping; allowed: %s", s.PortName, known(mappings))
	case m.Protocol == "udp":
		c.bad(path+".portName", "%q is a udp port; allowed: tcp", s.PortName)
	}
	if m.AppProtocol != "" {
		p.Protocol = mesh.Protocol(m.AppProtocol)
	}
	p.ContainerPort = uint16(m.ContainerPort)
	if s.DiscoveryName != "" && !mesh.ValidDiscoveryName(s.DiscoveryName) {
		c.bad(path+".discoveryName", "%q; allowed: up to 64 of [a-z0-9_-], not starting with '-'", s.DiscoveryName)
	}
	p.IngressPort = uint16(FirstIngressPort + index)
	if o := s.IngressPortOverride; o != nil {
		if *o < 1 || *o > 65535 {
			c.bad(path+".ingressPortOverride", "%d; allowed: 1 to 65535", *o)
		}
		p.IngressPort = uint16(*o)
	}
	p.Aliases = c.aliases(path, s, p)
	p.Timeouts = c.timeouts(path+".timeout", s.Timeout, p.Protocol)
	p.TLS = c.tls(path+".tls", s.TLS)
	return p
}

func (c *checker) aliases(path string, s serviceEntry, p Port) []Alias {
	if len(s.ClientAliases) == 0 {
		return []Alias{{Port: p.ContainerPort}}
	}
	if len(s.ClientAliases) > 1 {
		c.bad(path+".clientAliases", "has %d entries; allowed: one", len(s.ClientAliases))
	}
	var out []Alias
	for i, a := range s.ClientAliases {
		at := fmt.Sprintf("%s.clientAliases[%d]", path, i)
		if a.Port < 1 || a.Port > 65535 {
			c.bad(at+".port", "%d; allowed: 1 to 65535", a.Port)
		}
		if a.DNSName != "" && !mesh.ValidDNSName(a.DNSName) {
			c.bad(at+".dnsName", "%q; allowed: up to 127 of [a-z0-9_.-], not starting with '-', not an IP address", a.DNSName)
		}
		out = append(out, Alias{DNSName: a.DNSName, Port: uint16(a.Port)})
	}
	return out
}

func (c *checker) timeouts(path string, t *timeout, p mesh.Protocol) mesh.Timeouts {
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
	if t.PerRequestTimeoutSeconds != nil && !p.L7() {
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
	return &mesh.ServiceTLS{Issuer: t.IssuerCertificateAuthority.AWSPCAAuthorityARN}
}

// unique holds ECS's rules about names and ports that may stand only once.
func (c *checker) unique(root string, t Task) {
	discovery, aliases, ports := map[string]int{}, map[Alias]int{}, map[uint16]int{}
	for i, p := range t.Ports {
		path := fmt.Sprintf("%s.services[%d]", root, i)
		if first, dup := discovery[p.DiscoveryName]; dup {
			c.bad(path+".discoveryName", "%q is that of services[%d] too; allowed: each once in a namespace", p.DiscoveryName, first)
		} else {
			discovery[p.DiscoveryName] = i
		}
		if first, dup := ports[p.IngressPort]; dup {
			c.bad(path+".ingressPortOverride", "%d is the ingress port of services[%d] too; allowed: each once", p.IngressPort, first)
		} else if slices.Contains(t.ContainerPorts, p.IngressPort) {
			c.bad(path+".ingressPortOverride", "%d is a containerPort of the task; allowed: a port that no container listens on", p.IngressPort)
		}
		ports[p.IngressPort] = i
		for j, a := range p.Aliases {
			full := a
			if full.DNSName == "" {
				full.DNSName = p.DiscoveryName + "." + t.Namespace
			}
			if first, dup := aliases[full]; dup {
				c.bad(fmt.Sprintf("%s.clientAliases[%d]", path, j), "%s:%d is an alias of services[%d] too; allowed: each once", full.DNSName, full.Port, first)
			} else {
				aliases[full] = i
			}
		}
	}
}

func (c *checker) logs(root string, sc *serviceConnect, t *Task) {
	for i, cc := range sc.ContainerConfigurations {
		if cc.LogLevel != "info" && cc.LogLevel != "debug" || i > 0 {
			c.bad(fmt.Sprintf("%s.containerConfigurations[%d].logLevel", root, i), "%q; allowed: info or debug, once", cc.LogLevel)
		}
		t.LogLevel = cc.LogLevel
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
		c.bad(path+".format", "%q; allowed: TEXT, JSON", a.Format)
	}
	if !slices.Contains([]string{"", "ENABLED", "DISABLED"}, a.IncludeQueryParameters) {
		c.bad(path+".includeQueryParameters", "%q; allowed: ENABLED, DISABLED", a.IncludeQueryParameters)
	}
	t.AccessLog = &AccessLog{Format: a.Format, QueryParameters: a.IncludeQueryParameters == "ENABLED"}
}

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
