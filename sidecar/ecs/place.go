package ecs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"patchbay/declare"
	"patchbay/sidecar/family"
)

// Place is what follows from the task's network mode. The zero Place is that
// of a task whose containers share a network namespace.
type Place struct {
	NoEgress string                // why the applications can't call the mesh; empty: they can
	apps     map[string]netip.Addr // where the application of a port is, by portName; absent: loopback
	either   bool                  // of either family
	ports    map[string]uint16     // under which port of the machine Envoy is reached; absent: its own
	claim    net.Listener          // of the machine's virtual IPs, network mode host
}

// App is where the application of a port may be, in the order in which it is
// looked for.
func (p *Place) App(portName string) []netip.Addr {
	if a, ok := p.At(portName); ok {
		return []netip.Addr{a}
	}
	all := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	if p.either {
		all = append(all, netip.IPv6Loopback())
	}
	return all
}

// Either reports whether an application on loopback may be on ::1 alone: the task
// has IPv6. It is looked for at 127.0.0.1 first, as ECS has it.
func (p *Place) Either() bool { return p.either }

// Registered is the port at which others reach Envoy.
func (p *Place) Registered(port declare.Port) uint16 {
	if n, ok := p.ports[port.PortName]; ok {
		return n
	}
	return port.IngressPort
}

// Leave gives up what the task claimed of the machine.
func (p *Place) Leave() {
	if p.claim != nil {
		p.claim.Close()
	}
}

// egressOwner is the abstract socket that the one sidecar of a machine holds
// whose task calls the mesh. It is known in one network namespace.
const egressOwner = "@patchbay-egress"

// Locator finds a [Place].
type Locator struct {
	Mode      Mode
	Task      *Task     // as it was read; needed for Bridge
	Endpoint  *Endpoint // where it is read again; needed for Bridge
	Container string    // of the application; empty: the one that maps the port
	Ports     []declare.Port
	Log       *slog.Logger
}

// Place finds out where the task is. With Bridge it waits for the application's
// address as long as ctx lasts: its container must not depend on this one.
func (c Locator) Place(ctx context.Context) (*Place, error) {
	_, ipv6 := family.Reachable()
	switch c.Mode {
	case Bridge:
		return c.bridge(ctx)
	case Host:
		claim, err := new(net.ListenConfig).Listen(ctx, "unix", egressOwner)
		if errors.Is(err, unix.EADDRINUSE) {
			return &Place{either: ipv6, NoEgress: "network mode host: another sidecar of this machine has the virtual IPs, and one can have them; for tasks that call others use network mode awsvpc"}, nil
		}
		if err != nil {
			return nil, fmt.Errorf("claim the virtual IPs of this machine: %w", err)
		}
		return &Place{either: ipv6, claim: claim}, nil
	}
	return &Place{either: ipv6}, nil
}

// bridge is a task whose containers have a network namespace each. Those of
// the applications can't be wired from here.
func (c Locator) bridge(ctx context.Context) (*Place, error) {
	p := &Place{
		NoEgress: "network mode bridge: the application has a network namespace of its own, from which its calls can't be taken; use network mode awsvpc",
		apps:     map[string]netip.Addr{}, ports: map[string]uint16{},
	}
	told := ""
	for t := c.Task; ; {
		missing := p.find(c, t)
		if len(missing) == 0 {
			return p, nil
		}
		if text := strings.Join(missing, "; "); text != told {
			told = text
			c.Log.WarnContext(ctx, "waiting for the containers of the task", "error", told)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(Poll):
		}
		if next, err := c.Endpoint.Read(ctx); err == nil {
			t = next
		}
	}
}

// find takes addresses and host ports from what ECS says, and returns what is
// missing.
func (p *Place) find(c Locator, t *Task) (missing []string) {
	for _, port := range c.Ports {
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

// At says where the application of a port is, if that is not loopback.
func (p *Place) At(portName string) (netip.Addr, bool) {
	a, ok := p.apps[portName]
	return a, ok
}
