package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"patchbay/declare"
	"patchbay/sidecar/ecs"
)

// loopback is where the application of a task is that shares its network
// namespace with the sidecar.
var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// place is what follows from the task's network mode.
type place struct {
	noEgress string                // why the applications can't call the mesh; empty: they can
	apps     map[string]netip.Addr // where the application of a port is, by portName; absent: loopback
	ports    map[string]uint16     // under which port of the machine Envoy is reached; absent: its own
	claim    net.Listener          // of the machine's virtual IPs, network mode host
}

func (p *place) app(portName string) netip.Addr {
	if a, ok := p.apps[portName]; ok {
		return a
	}
	return loopback
}

// registered is the port at which others reach Envoy.
func (p *place) registered(port declare.Port) uint16 {
	if n, ok := p.ports[port.PortName]; ok {
		return n
	}
	return port.IngressPort
}

func (p *place) leave() {
	if p.claim != nil {
		p.claim.Close()
	}
}

// egressOwner is the abstract socket that the one sidecar of a machine holds
// whose task calls the mesh. It is known in one network namespace.
const egressOwner = "@patchbay-egress"

// place finds out where the task is. With bridge it waits for the application's
// address as long as ctx lasts: its container must not depend on this one.
func (c Config) place(ctx context.Context) (*place, error) {
	switch c.Network {
	case ecs.Bridge:
		return c.bridge(ctx)
	case ecs.Host:
		claim, err := new(net.ListenConfig).Listen(ctx, "unix", egressOwner)
		if errors.Is(err, unix.EADDRINUSE) {
			return &place{noEgress: "network mode host: another sidecar of this machine has the virtual IPs, and one can have them; for tasks that call others use network mode awsvpc"}, nil
		}
		if err != nil {
			return nil, fmt.Errorf("claim the virtual IPs of this machine: %w", err)
		}
		return &place{claim: claim}, nil
	}
	return &place{}, nil
}

// bridge is a task whose containers have a network namespace each. Those of
// the applications can't be wired from here.
func (c Config) bridge(ctx context.Context) (*place, error) {
	p := &place{
		noEgress: "network mode bridge: the application has a network namespace of its own, from which its calls can't be taken; use network mode awsvpc",
		apps:     map[string]netip.Addr{}, ports: map[string]uint16{},
	}
	told := ""
	for t := c.ECS; ; {
		missing := p.find(c, t)
		if len(missing) == 0 {
			return p, nil
		}
		if text := strings.Join(missing, "; "); text != told {
			told = text
			c.Log.WarnContext(ctx, "waiting for the containers of the task", "reason", told)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(ecs.Poll):
		}
		if next, err := c.Metadata.Read(ctx); err == nil {
			t = next
		}
	}
}

// find takes addresses and host ports from what ECS says, and returns what is
// missing.
func (p *place) find(c Config, t *ecs.Task) (missing []string) {
	for _, port := range c.Declaration.Ports {
		app, ok := t.App(c.Container, port.ContainerPort)
		switch {
		case !ok:
			missing = append(missing, fmt.Sprintf("no container maps port %d of %s: add a portMapping, or name the container with --app-container", port.ContainerPort, port.PortName))
		case len(app.Addresses) == 0:
			missing = append(missing, fmt.Sprintf("the container %s has no address yet: it must not depend on the sidecar", app.Name))
		default:
			p.apps[port.PortName] = app.Addresses[0]
		}
		if host, ok := t.HostPort(port.IngressPort); ok {
			p.ports[port.PortName] = host
		} else {
			missing = append(missing, fmt.Sprintf("port %d of the container %s has no host port: add {\"containerPort\": %d, \"hostPort\": 0} to its portMappings", port.IngressPort, t.Own, port.IngressPort))
		}
	}
	return missing
}

// containerPorts are those that Envoy must not take: those of containers in
// its own network namespace.
func (a *Agent) containerPorts() []uint16 {
	if a.cfg.Network == ecs.Bridge {
		return nil
	}
	return a.cfg.Declaration.ContainerPorts
}
