package ecs

import (
	"fmt"

	"patchbay/declare/definition"
	"patchbay/declare/tree"
)

// anyPort is the kernel's word for the first port that needs no privilege:
// Envoy's user has none. On Fargate platform 1.4 and with awsvpc on EC2 a task
// may set it for its own network.
const anyPort = "net.ipv4.ip_unprivileged_port_start"

// firstFree is where ports begin that everybody may listen on.
const firstFree = 1024

// low are the paths of the ports below 1024 that Envoy has to listen on itself,
// with the ports.
func (in *inject) low() (paths []string) {
	for i, p := range in.task.Ports {
		at := fmt.Sprintf("%s.services[%d]", block, i)
		if p.IngressPort < firstFree {
			paths = append(paths, at+".ingressPortOverride")
		}
		for j, a := range p.Aliases {
			if in.wiring() == "bind" && a.Port < firstFree {
				paths = append(paths, fmt.Sprintf("%s.clientAliases[%d].port", at, j))
			}
		}
	}
	return paths
}

// controlled reports whether a container of the task says already from which
// port on everybody may listen: it holds for all of them.
func (in *inject) controlled() bool {
	for _, c := range in.d.Containers() {
		for _, s := range c.Objects("systemControls") {
			if s.Text("namespace") == anyPort {
				return true
			}
		}
	}
	return false
}

// lookAtLowPorts notes ports that Envoy may not have on the instance.
func (in *inject) lookAtLowPorts() {
	if in.d.NetworkMode() != definition.Host {
		return
	}
	for _, path := range in.low() {
		in.note(false, path, "is below %d, and in the network of the host Envoy may listen there only if the instance says so (sysctl -w %s=0)", firstFree, anyPort)
	}
}

// ports are where other tasks and load balancers reach the ingress.
func (in *inject) ports() []any {
	var list []any
	services := in.d.Service.Object(block).Objects("services")
	for i, p := range in.task.Ports {
		m := tree.Of("containerPort", tree.Number(int(p.IngressPort)), "protocol", "tcp")
		if in.d.NetworkMode() == definition.Bridge && services[i].Get("ingressPortOverride") == nil {
			m.Set("hostPort", tree.Number(0)) // any that is free, as in ECS
		} else {
			m.Set("hostPort", tree.Number(int(p.IngressPort)))
		}
		list = append(list, m)
	}
	return list
}
