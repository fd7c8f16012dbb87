package agents

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"patchbay/agentapi"
	"patchbay/mesh"
	"patchbay/mesh/policy"
)

var zoneID = regexp.MustCompile(`^[a-z0-9-]{0,32}$`)

const maxPorts = 100 // of one task

// decodeHello checks a Hello. The error lists every problem.
func decodeHello(n mesh.Node, h *agentapi.Hello) ([]Port, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if w := mesh.Wiring(h.GetWiring()); w != mesh.Redirect && w != mesh.Bind && w != mesh.NoEgress {
		bad("wiring: %q; allowed: redirect, bind, none", w)
	}
	if !zoneID.MatchString(h.GetZone()) {
		bad("zone: %q; allowed: an availability zone id, up to 32 of [a-z0-9-]", h.GetZone())
	}
	if r := h.GetRevision(); r != "" && !mesh.ValidRevision(r) {
		bad("revision: %q; allowed: up to 64 of [0-9a-zA-Z_.-]", r)
	}
	for i, p := range h.GetContainerPorts() {
		if p == 0 || p > 65535 {
			bad("container_ports[%d]: %d; allowed: 1 to 65535", i, p)
		}
	}
	if n := len(h.GetDependencies()); n > mesh.MaxDependencies {
		bad("dependencies: %d of them; allowed: up to %d", n, mesh.MaxDependencies)
		return nil, errors.Join(errs...)
	}
	for i, name := range h.GetDependencies() {
		if !mesh.ValidDiscoveryName(name) {
			bad("dependencies[%d]: %q; allowed: up to 64 of [a-z0-9_-], not starting with '-'", i, name)
		}
	}
	if len(h.GetPorts()) > maxPorts {
		bad("ports: %d of them; allowed: up to %d", len(h.GetPorts()), maxPorts)
		return nil, errors.Join(errs...)
	}
	ports := make([]Port, 0, len(h.GetPorts()))
	names, services, listeners := map[string]bool{}, map[string]bool{}, map[uint32]bool{}
	for i, w := range h.GetPorts() {
		at := fmt.Sprintf("ports[%d]", i)
		if names[w.GetPortName()] || services[w.GetDiscoveryName()] || listeners[w.GetIngressPort()] {
			bad("%s: portName %q, discoveryName %q or ingress port %d is used twice; allowed: each once in a task", at, w.GetPortName(), w.GetDiscoveryName(), w.GetIngressPort())
		}
		names[w.GetPortName()], services[w.GetDiscoveryName()], listeners[w.GetIngressPort()] = true, true, true
		if slices.Contains(h.GetContainerPorts(), w.GetIngressPort()) {
			bad("%s.ingress_port: %d is a port of the task's own containers; allowed: any other", at, w.GetIngressPort())
		}
		p, problems := decodePort(n.Workload.Namespace, at, w)
		errs = append(errs, problems...)
		p.Revision = h.GetRevision()
		ports = append(ports, p)
	}
	return ports, errors.Join(errs...)
}

func decodePort(namespace, at string, w *agentapi.Port) (Port, []error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(at+format, args...)) }
	p := Port{Ingress: mesh.Ingress{
		PortName:     w.GetPortName(),
		Service:      mesh.ServiceName{Namespace: namespace, DiscoveryName: w.GetDiscoveryName()},
		Protocol:     mesh.Protocol(w.GetAppProtocol()),
		AppPort:      uint16(w.GetContainerPort()),
		ListenerPort: uint16(w.GetIngressPort()),
	}}
	if !mesh.ValidDiscoveryName(p.PortName) {
		bad(".port_name: %q; allowed: up to 64 of [a-z0-9_-], not starting with '-'", p.PortName)
	}
	if !mesh.ValidDiscoveryName(p.Service.DiscoveryName) {
		bad(".discovery_name: %q; allowed: up to 64 of [a-z0-9_-], not starting with '-'", p.Service.DiscoveryName)
	}
	if !p.Protocol.Valid() {
		bad(".app_protocol: %q; allowed: http, http2, grpc, tcp", p.Protocol)
	}
	if !isPort(w.GetContainerPort()) || !isPort(w.GetIngressPort()) {
		bad(": container_port %d, ingress_port %d; allowed: 1 to 65535", w.GetContainerPort(), w.GetIngressPort())
	}
	if w.GetTls() != nil {
		p.TLS = &mesh.ServiceTLS{Issuer: w.GetTls().GetIssuer(), Only: w.GetTls().GetOnly(), KMSKey: w.GetTls().GetKmsKey()}
		if p.TLS.Issuer == "" {
			bad(".tls.issuer: empty; allowed: an awsPcaAuthorityArn, or \"default\"")
		}
		if k := p.TLS.KMSKey; k != "" && !mesh.ValidKMSKey(k) {
			bad(".tls.kms_key: %q; allowed: the id of a KMS key, alias/NAME, or the ARN of either", k)
		}
	}
	if t := w.GetTimeout().GetIdle(); t != nil {
		d := t.AsDuration()
		p.Timeouts.Idle = &d
	}
	if t := w.GetTimeout().GetPerRequest(); t != nil {
		d := t.AsDuration()
		p.Timeouts.PerRequest = &d
		if p.Protocol == mesh.TCP {
			bad(".timeout.per_request: not for tcp; allowed: none")
		}
	}
	if beyond(p.Timeouts.Idle) || beyond(p.Timeouts.PerRequest) {
		bad(".timeout: out of range; allowed: 0 (off) to %.0f seconds", mesh.MaxTimeout.Seconds())
	}
	p.decodePolicy(w.GetPolicy(), bad)
	for i, a := range w.GetClientAliases() {
		if !mesh.ValidDNSName(a.GetDnsName()) || !isPort(a.GetPort()) {
			bad(".client_aliases[%d]: %q port %d; allowed: "+mesh.DNSNameForm+", and a port of 1 to 65535", i, a.GetDnsName(), a.GetPort())
		}
		p.Aliases = append(p.Aliases, mesh.Alias{DNSName: a.GetDnsName(), Port: uint16(a.GetPort())})
	}
	slices.SortFunc(p.Aliases, mesh.Alias.Compare)
	if unique := slices.Compact(slices.Clone(p.Aliases)); len(unique) != len(p.Aliases) || len(unique) == 0 {
		bad(".client_aliases: %d of them, %d different; allowed: one or more, each once", len(p.Aliases), len(unique))
	}
	return p, errs
}

// decodePolicy is p's policy, if it can have an effect there.
func (p *Port) decodePolicy(text []byte, bad func(format string, args ...any)) {
	pol, err := policy.Decode(text)
	if err != nil {
		bad(".policy: %w", err)
		return
	}
	p.Policy = pol
	if pol == nil {
		return
	}
	wrong := pol.Misplaced(policy.OfService, p.Protocol.L7())
	if p.TLS == nil {
		wrong = append(wrong, pol.WithoutTLS()...)
	}
	for _, x := range wrong {
		bad(".policy.%s: %s", x.Path, x.Text)
	}
}

func isPort(p uint32) bool { return p > 0 && p <= 65535 }

func beyond(d *time.Duration) bool { return d != nil && (*d < 0 || *d > mesh.MaxTimeout) }
