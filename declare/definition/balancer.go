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

// Trouble says what of a target group and its listeners can't work with an
// ingress port, which takes TLS 1.3 alone if tls; nil: nothing that is shown.
func (t Target) Trouble(tls bool) []string {
	var out []string
	if tls && t.Protocol == "HTTP" {
		out = append(out, "its target group speaks HTTP, and the ingress takes TLS alone; allowed: protocol HTTPS")
	}
	if t.Balancer == "network" && t.HealthCheck == "HTTPS" {
		out = append(out, "its target group checks by HTTPS: a Network Load Balancer verifies the certificate and finds every target unhealthy; allowed: a TCP health check")
	}
	if t.Balancer == "application" && tls && t.HealthCheck == "HTTP" {
		out = append(out, "its target group checks by HTTP, and the ingress takes TLS alone; allowed: HTTPS")
	}
	for _, policy := range t.Policies {
		if !strings.Contains(policy, "TLS13") && !strings.Contains(policy, "TLS-1-3") {
			out = append(out, fmt.Sprintf("the listener's policy %s has no TLS 1.3, which an Application Load Balancer then does not speak to the ingress either; allowed: ELBSecurityPolicy-TLS13-1-2-2021-06 or newer", policy))
		}
	}
	if n := len(t.Unhealthy); n > 0 {
		out = append(out, count.Of(n, "target")+" unhealthy: "+strings.Join(t.Unhealthy, ", ")+"; allowed: what stands beside this, and a security group that lets the load balancer reach the ingress port")
	}
	return out
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
