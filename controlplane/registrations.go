package controlplane

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"patchbay/agents"
	"patchbay/audit"
	"patchbay/mesh"
	"patchbay/registrar"
)

// registrations lets the agent stream write the registry: the registrar, in
// the words of package agents.
type registrations struct {
	*registrar.Registrar
	issuers []string // that are configured, sorted
	leaf    func(mesh.ServiceName) *mesh.Leaf
	audit   *audit.Log
}

func (c *control) registrations() registrations {
	return registrations{
		Registrar: c.registrar, issuers: slices.Sorted(maps.Keys(c.cfg.Issuers)),
		leaf: func(n mesh.ServiceName) *mesh.Leaf { return c.store.Snapshot().Leaves[n] }, audit: c.audit,
	}
}

// known refuses TLS from an issuer that nobody can ask: the port would wait for
// its certificate for ever. A service that has one keeps on, whatever became of
// the configuration since.
func (r registrations) known(p agents.Port) error {
	if p.TLS == nil || slices.Contains(r.issuers, p.TLS.Issuer) || r.leaf(p.Service) != nil {
		return nil
	}
	configured := "none"
	if len(r.issuers) > 0 {
		configured = strings.Join(r.issuers, ", ")
	}
	return &agents.Refused{Reason: fmt.Sprintf("%s asks for TLS from issuer %q, which is not among issuers of the control plane's file; configured: %s", p.Service, p.TLS.Issuer, configured)}
}

func request(n mesh.Node, p agents.Port) registrar.Request {
	return registrar.Request{
		Instance:     instance(n, p),
		ListenerPort: p.ListenerPort, Protocol: p.Protocol, Aliases: p.Aliases, TLS: p.TLS, Timeouts: p.Timeouts,
		Policy: p.Policy, Revision: p.Revision,
	}
}

func instance(n mesh.Node, p agents.Port) registrar.Instance {
	return registrar.Instance{Node: n, DiscoveryName: p.Service.DiscoveryName, PortName: p.PortName}
}

// inWords turns the registrar's errors into those that agents tells apart.
func inWords(err error) error {
	if refusal, ok := errors.AsType[*registrar.Refusal](err); ok {
		return &agents.Refused{Reason: refusal.Error()}
	}
	if errors.Is(err, registrar.ErrNotRegistered) {
		return agents.ErrNotRegistered
	}
	return err
}

func (r registrations) Declare(ctx context.Context, n mesh.Node, p agents.Port) error {
	if err := r.known(p); err != nil {
		return err
	}
	return inWords(r.Registrar.Declare(ctx, request(n, p)))
}

func (r registrations) Register(ctx context.Context, n mesh.Node, p agents.Port, addr netip.AddrPort, zone string) (agents.Instance, error) {
	if err := r.known(p); err != nil {
		r.record(audit.Registered, n, p, addr.Addr().String(), err)
		return agents.Instance{}, err
	}
	req := request(n, p)
	req.Peer, req.ListenerPort, req.Zone, req.Health = addr.Addr(), addr.Port(), zone, mesh.Healthy
	got, err := r.Registrar.Register(ctx, req)
	r.record(audit.Registered, n, p, addr.Addr().String(), err)
	return agents.Instance{ServiceARN: got.ServiceARN, InstanceID: got.InstanceID}, inWords(err)
}

// record tells the audit log what became of a registration. One that failed
// because the registry did (not because it was refused) is tried again, and no
// decision about anybody.
func (r registrations) record(kind string, n mesh.Node, p agents.Port, peer string, err error) {
	e := audit.Event{Kind: kind, Actor: n.ID(), Peer: peer, Subject: p.Service.String() + " " + p.PortName, Decision: audit.Allowed}
	if err != nil {
		_, byUs := errors.AsType[*agents.Refused](inWords(err))
		if !byUs {
			return
		}
		e.Kind, e.Decision, e.Reason = audit.RegisterRefused, audit.Denied, err.Error()
	}
	r.audit.Record(e)
}

func (r registrations) Deregister(ctx context.Context, n mesh.Node, p agents.Port) error {
	err := r.Registrar.Deregister(ctx, instance(n, p))
	r.record(audit.Deregistered, n, p, "", err)
	return inWords(err)
}

func (r registrations) SetHealth(ctx context.Context, n mesh.Node, p agents.Port, h mesh.Health) error {
	return inWords(r.Registrar.SetHealth(ctx, instance(n, p), h))
}

func (r registrations) Heartbeat(ctx context.Context, n mesh.Node, p agents.Port) error {
	return inWords(r.Registrar.Heartbeat(ctx, instance(n, p)))
}
