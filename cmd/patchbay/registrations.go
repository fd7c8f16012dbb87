package main

import (
	"context"
	"errors"
	"net/netip"

	"patchbay/agents"
	"patchbay/mesh"
	"patchbay/registrar"
)

// registrations lets the agent stream write the registry: the registrar, in
// the words of package agents.
type registrations struct{ *registrar.Registrar }

func request(n mesh.Node, p agents.Port) registrar.Request {
	return registrar.Request{
		Instance:     instance(n, p),
		ListenerPort: p.ListenerPort, Protocol: p.Protocol, Aliases: p.Aliases, TLS: p.TLS, Timeouts: p.Timeouts,
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
	return inWords(r.Registrar.Declare(ctx, request(n, p)))
}

func (r registrations) Register(ctx context.Context, n mesh.Node, p agents.Port, addr netip.AddrPort, zone string) (agents.Instance, error) {
	req := request(n, p)
	req.Peer, req.ListenerPort, req.Zone, req.Health = addr.Addr(), addr.Port(), zone, mesh.Healthy
	got, err := r.Registrar.Register(ctx, req)
	return agents.Instance{ServiceARN: got.ServiceARN, InstanceID: got.InstanceID}, inWords(err)
}

func (r registrations) Deregister(ctx context.Context, n mesh.Node, p agents.Port) error {
	return inWords(r.Registrar.Deregister(ctx, instance(n, p)))
}

func (r registrations) SetHealth(ctx context.Context, n mesh.Node, p agents.Port, h mesh.Health) error {
	return inWords(r.Registrar.SetHealth(ctx, instance(n, p), h))
}

func (r registrations) Heartbeat(ctx context.Context, n mesh.Node, p agents.Port) error {
	return inWords(r.Registrar.Heartbeat(ctx, instance(n, p)))
}
