package definition

import (
	"fmt"
	"strings"

	"patchbay/declare"
	"patchbay/internal/count"
)

// Aimed is the port of Service Connect at which the i-th load balancer of the
// service is aimed; false: at none, past the sidecar.
func (d *Definition) Aimed(task declare.Task, i int) (declare.Port, bool) {
	lb := d.Service.Objects("loadBalancers")[i]
	port, _ := lb.Int("containerPort")
	for _, p := range task.Ports {
		for _, m := range d.Mappings() {
			if m.Fields.Text("name") == p.PortName && m.Container == lb.Text("containerName") && int(p.ContainerPort) == port {
				return p, true
			}
		}
	}
	return declare.Port{}, false
}

// ConnectsOnly reports whether its check is none but a connection: that of a
// Network Load Balancer, unless it says another.
func (t Target) ConnectsOnly() bool {
	return t.Balancer == "network" && (t.HealthCheck == "TCP" || t.HealthCheck == "")
}

// Trouble says what of a target group and its listeners can't work with an
// ingress port, which takes TLS 1.3 alone if tls, else plain text; nil: nothing that
// is shown.
func (t Target) Trouble(tls bool) []string {
	out := t.group(tls)
	if check := t.check(tls); check != "" {
		out = append(out, check)
	}
	for _, policy := range t.Policies {
		if tls && t.Balancer == "application" && !strings.Contains(policy, "TLS13") && !strings.Contains(policy, "TLS-1-3") {
			out = append(out, fmt.Sprintf("the listener's policy %s has no TLS 1.3, which an Application Load Balancer then does not speak to the ingress either; allowed: ELBSecurityPolicy-TLS13-1-2-2021-06 or newer", policy))
		}
	}
	if n := len(t.Unhealthy); n > 0 {
		out = append(out, count.Of(n, "target")+" unhealthy: "+strings.Join(t.Unhealthy, ", ")+"; allowed: what stands beside this, and a security group that lets the load balancer reach the ingress port")
	}
	return out
}

// group is what of the target group itself does not fit.
func (t Target) group(tls bool) (out []string) {
	switch {
	case tls && t.Protocol == "HTTP":
		out = append(out, "its target group speaks HTTP, and the ingress takes TLS alone; allowed: protocol HTTPS")
	case !tls && (t.Protocol == "HTTPS" || t.Protocol == "TLS"):
		out = append(out, fmt.Sprintf("its target group speaks %s, and the ingress takes plain text, as the service has no tls; allowed: %s, or tls", t.Protocol, map[string]string{"HTTPS": "protocol HTTP", "TLS": "protocol TCP"}[t.Protocol]))
	case t.Protocol == "UDP":
		out = append(out, "its target group speaks UDP, which Service Connect has nothing for; allowed: TCP")
	}
	if t.ProxyProtocol {
		out = append(out, "its target group sends PROXY protocol v2, which the ingress refuses; allowed: proxy_protocol_v2 off, and preserve_client_ip for the clients' addresses")
	}
	return out
}

// check is what of its health checks does not fit.
func (t Target) check(tls bool) string {
	network, application := t.Balancer == "network", t.Balancer == "application"
	switch {
	case network && t.HealthCheck == "HTTPS":
		return "its target group checks by HTTPS: a Network Load Balancer verifies the certificate and finds every target unhealthy; allowed: a TCP health check"
	case network && tls && t.HealthCheck == "HTTP":
		return "its target group checks by HTTP, and the ingress takes TLS alone; allowed: a TCP health check"
	case application && tls && t.HealthCheck == "HTTP":
		return "its target group checks by HTTP, and the ingress takes TLS alone; allowed: HTTPS"
	case application && !tls && t.HealthCheck == "HTTPS":
		return "its target group checks by HTTPS, and the ingress takes plain text, as the service has no tls; allowed: HTTP, or tls"
	case application && tls && t.HealthCheck == "" && t.Protocol == "HTTPS":
		return "its target group does not say by what it checks, and HTTP is the default of AWS, which the ingress does not take; allowed: a health check by HTTPS"
	}
	return ""
}

// BalancerTrouble is the [Target.Trouble] of every load balancer that is aimed
// at a port of the mesh.
func (d *Definition) BalancerTrouble(task declare.Task) Problems {
	var out Problems
	if d.Service == nil || d.Task == nil {
		return nil
	}
	for i := range d.Service.Objects("loadBalancers") {
		p, ours := d.Aimed(task, i)
		t, shown := d.Targets[i]
		if !ours || !shown {
			continue
		}
		for _, text := range t.Trouble(p.TLS != nil) {
			out = append(out, Problem{File: d.ServiceFile(), Path: d.ServicePath(fmt.Sprintf("loadBalancers[%d]", i)), Text: text})
		}
	}
	return out
}
