package agents

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"time"

	"patchbay/agentapi"
	"patchbay/mesh"
)

const (
	retryFirst   = 200 * time.Millisecond
	retryMost    = 10 * time.Second
	retryRefused = 30 * time.Second // a conflict may be resolved by a person
	// renewAfter is the least time between two renewals of a lease: agents
	// send health every 5 s, and at every change. Short leases are renewed
	// more often.
	renewAfter = 3 * time.Second
	// remembered is how long a registration of a broken stream is known; a
	// longer absence registers again, which disturbs nobody either.
	remembered = time.Hour
)

// port keeps the registry's entry of one port of one session equal to what
// the agent reports. Only its own goroutine (run, then drain) calls the
// registrar.
type port struct {
	Port
	s    *session
	wake chan struct{} // capacity 1

	declared bool
	told     bool // see tellOnce
	renewed  time.Time
	said     string // the last error that was reported

	// reg is written by the port's goroutine and read by status; guarded by
	// session.mu.
	reg registration
}

// registration is what the registry holds, as far as we know.
type registration struct {
	Instance
	ok     bool
	health mesh.Health // HEALTHY after Register
	err    string
}

// kept is a registration whose stream has ended.
type kept struct {
	port Port
	addr netip.Addr
	reg  registration
	at   time.Time
}

// adopt makes the session's ports; one that an earlier stream registered from
// the same address, with the same settings, is registered already.
func (s *session) adopt(ports []Port) {
	old := s.srv.recall(s.node.ID())
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range ports {
		p := &port{Port: d, s: s, wake: make(chan struct{}, 1)}
		if k, ok := old[d.PortName]; ok && k.addr == s.addr && reflect.DeepEqual(k.port, d) {
			p.declared, p.reg = true, k.reg
		}
		s.ports = append(s.ports, p)
	}
}

func (p *port) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *port) set(f func(*registration)) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	f(&p.reg)
}

// addr is what is registered.
func (p *port) addr() netip.AddrPort { return netip.AddrPortFrom(p.s.addr, p.ListenerPort) }

// run works until ctx ends. What it registered stays.
func (p *port) run(ctx context.Context) {
	if !p.s.node.Workload.Offers(p.Service) {
		p.report(ctx, &Refused{Reason: fmt.Sprintf("workload %s may not offer %q; it may offer %q: add the name to the workload's identity, or change discoveryName",
			p.s.node.Workload, p.Service.DiscoveryName, p.s.node.Workload.DiscoveryNames)}, 0)
		return
	}
	if p.Policy.Asks() && p.s.srv.o.CallersIssuer == "" {
		p.report(ctx, &Refused{Reason: "mutualTls asks callers for certificates, and the control plane has no issuer to give them any: name one in mutualTls.issuer of its configuration, or turn mutualTls off"}, 0)
		return
	}
	if p.reg.ok {
		p.report(ctx, nil, 0)
	}
	delay := retryFirst
	for ctx.Err() == nil {
		var retry <-chan time.Time
		err := p.step(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			delay = retryFirst
		default:
			wait := delay/2 + rand.N(delay) //nolint:gosec // not a secret
			if errors.As(err, new(*Refused)) {
				wait = retryRefused
			} else {
				delay = min(2*delay, retryMost)
			}
			p.report(ctx, err, wait)
			retry = time.After(wait)
		}
		p.rest(ctx, retry)
	}
}

// rest waits for news, or, after an error, for the next try: health messages
// must not shorten a backoff.
func (p *port) rest(ctx context.Context, retry <-chan time.Time) {
	wake := p.wake
	if retry != nil {
		wake = nil
	}
	select {
	case <-ctx.Done():
	case <-wake:
	case <-retry:
	}
}

// step brings the registry closer to what the agent last said.
func (p *port) step(ctx context.Context) error {
	r := p.s.srv.o.Registrar
	if !p.declared {
		if err := r.Declare(ctx, p.s.node, p.Port); err != nil {
			return err
		}
		p.declared = true
	}
	want, known := p.reported()
	if !known {
		return nil
	}
	if !p.reg.ok {
		if want != mesh.Healthy {
			return p.tellOnce(ctx, want)
		}
		return p.register(ctx)
	}
	if want != p.reg.health {
		return p.sustain(ctx, func() error { return p.setHealth(ctx, want) })
	}
	if time.Since(p.renewed) < p.s.srv.renewAfter() {
		return nil
	}
	return p.sustain(ctx, func() error { return r.Heartbeat(ctx, p.s.node, p.Port) })
}

func (s *Server) renewAfter() time.Duration {
	if s.o.Lease > 0 {
		return min(renewAfter, s.o.Lease/4)
	}
	return renewAfter
}

func (p *port) register(ctx context.Context) error {
	in, err := p.s.srv.o.Registrar.Register(ctx, p.s.node, p.Port, p.addr(), p.s.zone)
	if err != nil {
		return err
	}
	p.set(func(g *registration) { *g = registration{Instance: in, ok: true, health: mesh.Healthy} })
	p.renewed = time.Now()
	p.report(ctx, nil, 0)
	p.s.log.InfoContext(ctx, "registered", "service", p.Service.String(), "instance", in.InstanceID, "endpoint", p.addr().String())
	return nil
}

func (p *port) setHealth(ctx context.Context, h mesh.Health) error {
	if err := p.s.srv.o.Registrar.SetHealth(ctx, p.s.node, p.Port, h); err != nil {
		return err
	}
	p.set(func(g *registration) { g.health = h })
	p.s.log.InfoContext(ctx, "health changed", "service", p.Service.String(), "health", h.String())
	return nil
}

// tellOnce is for a port that starts unhealthy: an instance of before our
// restart may stand in the registry as healthy.
func (p *port) tellOnce(ctx context.Context, h mesh.Health) error {
	if p.told {
		return nil
	}
	err := p.s.srv.o.Registrar.SetHealth(ctx, p.s.node, p.Port, h)
	if err != nil && !errors.Is(err, ErrNotRegistered) {
		return err
	}
	p.told = true
	return nil
}

// sustain does something to the existing registration. If the registry has
// lost it, the next step registers again.
func (p *port) sustain(ctx context.Context, f func() error) error {
	err := f()
	if errors.Is(err, ErrNotRegistered) {
		p.set(func(g *registration) { g.ok = false })
		p.s.log.WarnContext(ctx, "the registry has lost an instance", "service", p.Service.String())
		p.declared = false
		p.poke()
		return nil
	}
	if err == nil {
		p.renewed = time.Now()
		if p.said != "" {
			p.report(ctx, nil, 0)
		}
	}
	return err
}

// reported is the port's health by the agent's last word. Before a first
// decisive one there is none, and UNKNOWN later changes nothing.
func (p *port) reported() (mesh.Health, bool) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	h := p.s.st.health
	switch {
	case h == nil:
		return 0, false
	case !h.GetEnvoyReady():
		return mesh.Unhealthy, true
	case h.GetPorts()[p.PortName] == agentapi.Health_HEALTHY:
		return mesh.Healthy, true
	case h.GetPorts()[p.PortName] == agentapi.Health_UNHEALTHY:
		return mesh.Unhealthy, true
	}
	return p.reg.health, p.reg.ok
}

// report tells the agent, and the log, how the port's registration stands. An
// error is told once for each text.
func (p *port) report(ctx context.Context, err error, retry time.Duration) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	p.set(func(g *registration) { g.err = text })
	changed := text != p.said
	p.said = text
	if err != nil && !changed {
		return
	}
	msg := &agentapi.Registration{PortName: p.PortName, ServiceArn: p.reg.ServiceARN, InstanceId: p.reg.InstanceID, Registered: p.reg.ok, Error: text}
	if err != nil {
		p.s.log.WarnContext(ctx, "registration failed", "service", p.Service.String(), "error", err, "retry_in", retry.String())
		if retry > 0 && !errors.As(err, new(*Refused)) {
			msg.Error += "; it will be tried again"
		}
	}
	_ = p.s.send(&agentapi.Down{Message: &agentapi.Down_Registration{Registration: msg}}) // a failure ends the session
}
