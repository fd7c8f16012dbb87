// Package ingress holds the ports on which a sidecar's Envoy listens for the
// other tasks. Envoys of one user that listen on one port share it in silence:
// each gets half of the calls, and answers them for its own service.
//
// It owns the claims, which sidecars of one network namespace respect among
// themselves, and the look at what else listens. It must not know what is
// served there. Start reading at [Take].
package ingress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"patchbay/declare"
	"patchbay/sidecar/family"
)

// How long is waited: for another sidecar, which may be about to drain and end,
// as long as ECS lets a task take for that by default; for anything else as long
// as an Envoy whose agent was killed takes to end, with much to spare.
const (
	sidecarLimit = 30 * time.Second
	otherLimit   = 10 * time.Second
	pace         = 100 * time.Millisecond
)

// askLimit bounds the question who has a port, and maxOwner its answer in bytes.
const (
	askLimit = time.Second
	maxOwner = 300
)

// Ports are claimed until they are released, or the process ends, however.
type Ports struct {
	held []net.Listener
	busy error
}

// Take claims the ingress ports for the sidecar that owner describes to others,
// in one line. A claim is known in one network namespace. It waits while another
// sidecar has a port, or another process listens on one, and tells waiting why
// when it begins to; waiting may be called twice. The error says which sidecar
// has which port and what to do, or is ctx's cause: then nothing is claimed. A
// process that is no sidecar is no error: see [Ports.Busy].
func Take(ctx context.Context, ports []declare.Port, owner string, waiting func(why error)) (*Ports, error) {
	return take(ctx, limits{sidecarLimit, otherLimit}, ports, owner, waiting)
}

// limits of how long is waited.
type limits struct{ sidecar, other time.Duration }

func take(ctx context.Context, l limits, ports []declare.Port, owner string, waiting func(why error)) (*Ports, error) {
	p, claimed := &Ports{}, map[uint16]bool{}
	err := until(ctx, l.sidecar, waiting, func() error {
		var errs []error
		for _, port := range ports {
			if !claimed[port.IngressPort] {
				err := p.claim(ctx, port, owner)
				claimed[port.IngressPort] = err == nil
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	})
	if err == nil {
		p.busy = until(ctx, l.other, waiting, func() error { return listeners(ctx, ports) })
		err = context.Cause(ctx)
	}
	if err != nil {
		p.Release()
		return nil, err
	}
	return p, nil
}

// Busy names the ports on which some other process still listens, no sidecar
// that claims its own; nil: there is none. The Envoy must not share them.
func (p *Ports) Busy() error {
	if p == nil {
		return nil
	}
	return p.busy
}

// Release gives the ports up; Envoy must have ended.
func (p *Ports) Release() {
	if p == nil {
		return
	}
	for _, l := range p.held {
		l.Close()
	}
	p.held = nil
}

// until tries f until it returns nil, and returns what it returned last when
// limit has passed, or ctx's cause.
func until(ctx context.Context, limit time.Duration, waiting func(error), f func() error) error {
	over := time.NewTimer(limit)
	defer over.Stop()
	for told := false; ; told = true {
		err := f()
		if err == nil {
			return nil
		}
		if !told {
			waiting(err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-over.C:
			return err
		case <-time.After(pace):
		}
	}
}

// claim holds an abstract socket for the port, and answers there who has it.
func (p *Ports) claim(ctx context.Context, port declare.Port, owner string) error {
	name := fmt.Sprintf("@patchbay-ingress-%d", port.IngressPort)
	l, err := new(net.ListenConfig).Listen(ctx, "unix", name)
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("ingress port %d of %s: another sidecar of this network namespace has it%s; give one of the two another port (ingressPortOverride in its service's block), or a network namespace of its own",
			port.IngressPort, port.PortName, who(ctx, name))
	}
	if err != nil {
		return fmt.Errorf("claim the ingress port %d of %s: %w", port.IngressPort, port.PortName, err)
	}
	p.held = append(p.held, l)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, owner) // whoever asked has gone otherwise
			c.Close()
		}
	}()
	return nil
}

// who has a claim, in its own words; empty if it does not say.
func who(ctx context.Context, name string) string {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "unix", name)
	if err != nil {
		return ""
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(askLimit)); err != nil {
		return ""
	}
	b, err := io.ReadAll(io.LimitReader(c, maxOwner))
	if err != nil || len(b) == 0 {
		return ""
	}
	return fmt.Sprintf(" (%s)", strings.Trim(fmt.Sprintf("%q", b), `"`))
}

// listeners names the ports on which something listens, at any address of either
// family. A socket that would share its port with others can't be opened then;
// this one would not. What else may be wrong with a port, Envoy will say.
func listeners(ctx context.Context, ports []declare.Port) error {
	network, host := "tcp4", "0.0.0.0"
	if family.Listens() {
		network, host = "tcp", "::" // takes both
	}
	var errs []error
	for _, port := range ports {
		c := net.ListenConfig{}
		c.SetMultipathTCP(false) // it must be gone when it is closed
		l, err := c.Listen(ctx, network, net.JoinHostPort(host, fmt.Sprint(port.IngressPort)))
		if err == nil {
			l.Close()
		} else if errors.Is(err, unix.EADDRINUSE) {
			errs = append(errs, fmt.Errorf("ingress port %d of %s: another process listens on it (ss -ltnp shows which); stop that, or give the service another port (ingressPortOverride in its block)", port.IngressPort, port.PortName))
		}
	}
	return errors.Join(errs...)
}
