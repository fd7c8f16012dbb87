package ecs

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"patchbay/declare"
	"patchbay/declare/definition"
)

// look notes what is often wrong around a task, and nobody's rule forbids.
func (in *inject) look() {
	in.lookAtTask()
	for i := range in.d.Service.Objects("loadBalancers") {
		in.lookAtBalancer(i)
	}
	in.lookAtPorts()
	in.lookAtLowPorts()
	in.lookAtTLS()
	if in.s.Join == nil {
		in.note(true, "", "the sidecar looks for its join directory at /join of the image; --join DIR puts it into the task definition")
	}
	if ns := in.task.Namespace; strings.HasPrefix(ns, "arn:") {
		in.note(false, block+".namespace", "is an ARN; the control plane's namespace must be the one behind it")
	}
}

func (in *inject) lookAtTask() {
	for i, c := range in.d.Containers() {
		path := fmt.Sprintf("containerDefinitions[%d]", i)
		if ro, _ := c.Get("readonlyRootFilesystem").(bool); ro {
			in.note(true, path+".readonlyRootFilesystem", "is true: the container itself may stay so, the sidecar may not; a rule that demands it of every container refuses this task")
		}
		if user := c.Text("user"); user == "101" {
			in.note(true, path+".user", "is 101, the user of the sidecar's Envoy; another keeps the two apart")
		}
		if essential, ok := c.Get("essential").(bool); (!ok || essential) && c.Object("healthCheck") == nil && in.offers(c.Text("name")) {
			in.note(true, path+".healthCheck", "is missing: the task is registered as soon as its port accepts connections; with a healthCheck, when that says so")
		}
	}
	if _, _, ok := in.d.Size(); !ok && !in.d.Fargate() {
		for _, key := range []string{"cpu", "memory"} {
			if !in.d.Task.Has(key) {
				in.note(true, key, "is missing for the task: Service Connect demands both cpu and memory, and without them the sidecar may take what the host has")
			}
		}
	}
	if in.d.NetworkMode() != definition.AWSVPC && in.s.Join != nil {
		in.note(true, "networkMode", "is %s: such a task can't prove its role, and needs a join directory with a key, mounted at /join (patchbay token join)", in.d.NetworkMode())
	}
	switch in.d.NetworkMode() {
	case definition.Bridge:
		in.note(true, "networkMode", "is bridge: the task offers its services, but its containers can't call others by their aliases; awsvpc can")
	case definition.Host:
		in.note(true, "networkMode", "is host: the ingress ports are the host's, so that one task of this service fits on an instance")
	}
}

// offers reports whether a service of the task is in this container.
func (in *inject) offers(container string) bool {
	for _, p := range in.task.Ports {
		for _, m := range in.d.Mappings() {
			if m.Container == container && m.Fields.Text("name") == p.PortName {
				return true
			}
		}
	}
	return false
}

func (in *inject) lookAtBalancer(i int) {
	path := fmt.Sprintf("loadBalancers[%d]", i)
	p, ours := in.d.Aimed(in.task, i)
	if !ours {
		in.note(false, path, "goes to a port that Service Connect does not offer, past the sidecar as before")
		return
	}
	if in.d.Exists {
		in.note(false, path, "is aimed at the sidecar's port %d: the security group of the load balancer must reach it", p.IngressPort)
	}
	t, shown := in.d.Targets[i]
	if !shown {
		if p.TLS != nil {
			in.note(false, path, "its target group must speak TLS 1.3 to the ingress: HTTPS behind an Application Load Balancer, TCP or TLS behind a Network Load Balancer with a TCP health check")
		}
		return
	}
	for _, text := range t.Trouble(p.TLS != nil) {
		in.note(false, path, "%s", text)
	}
	switch {
	case !t.ConnectsOnly():
	case in.wiring() == "redirect":
		in.change(false, path, "has a check that only connects: the sidecar refuses connections while the application takes none, so that it fails then (PATCHBAY_CLOSE_DEAD)")
	case !in.checked(p):
		in.note(false, path, "has a check that only connects, and without NET_ADMIN the sidecar takes connections for a dead application, too; a healthCheck of its container has ECS replace the task")
	}
}

// connectedOnly reports whether a load balancer in front sees of a dead application
// only that nobody listens.
func (in *inject) connectedOnly() bool {
	for i := range in.d.Service.Objects("loadBalancers") {
		if _, ours := in.d.Aimed(in.task, i); ours && in.d.Targets[i].ConnectsOnly() {
			return true
		}
	}
	return false
}

// checked reports whether the container of a port has a healthCheck.
func (in *inject) checked(p declare.Port) bool {
	for _, m := range in.d.Mappings() {
		for _, c := range in.d.Containers() {
			if m.Fields.Text("name") == p.PortName && c.Text("name") == m.Container {
				return c.Object("healthCheck") != nil
			}
		}
	}
	return false
}

// lookAtTLS notes what the blocks say in vain, and what goes in plain text.
func (in *inject) lookAtTLS() {
	for i, p := range in.task.Ports {
		if p.TLS == nil && in.d.NetworkMode() != definition.Bridge {
			in.note(false, fmt.Sprintf("%s.services[%d].tls", block, i), "is missing: %s is called in plain text; with issuerCertificateAuthority there it is encrypted", p.DiscoveryName)
		}
	}
	for _, p := range in.task.Ignored {
		in.note(false, p.Path, "%s", p.Text)
	}
	for _, path := range slices.Sorted(maps.Keys(in.d.ServiceAt.Unknown)) {
		if strings.HasPrefix(path, block+".services[") && strings.HasSuffix(path, ".tls.kmsKey") {
			in.note(false, path, "is a key that AWS alone knows yet: the certificate rests under the control plane's own; an ARN, or alias/NAME, is taken along")
		}
	}
}

// lookAtPorts notes which ports of applications stay open beside the ingress.
func (in *inject) lookAtPorts() {
	for _, m := range in.d.Mappings() {
		for _, p := range in.task.Ports {
			if m.Fields.Text("name") == p.PortName && p.TLS != nil {
				in.note(true, m.Path+".containerPort", "%d stays open in plain text beside the ingress at %d; the security group should let %d in alone, or the application listen on 127.0.0.1", p.ContainerPort, p.IngressPort, p.IngressPort)
			}
		}
	}
}
