package sidecar

import (
	"context"
	"fmt"
	"net/netip"

	"patchbay/agentapi"
	"patchbay/mesh"
	"patchbay/sidecar/strict"
)

// checkProfile lists what a strict task declares and ECS does not have.
func (c Config) checkProfile() []error {
	switch c.Profile {
	case "", mesh.Live:
		return nil
	case mesh.Strict:
		return strict.Refused(c.Declaration)
	}
	return []error{fmt.Errorf("profile: %q; allowed: live, strict", c.Profile)}
}

// vips are the virtual IPs of the task's names.
func (c Config) vips() netip.Prefix {
	if c.Profile == mesh.Strict {
		return mesh.StrictVIPs
	}
	return mesh.LiveVIPs
}

// freeze fixes the names that a strict task knows: those of the control
// plane's first list, or of the agent that was here before.
func (a *Agent) freeze(ctx context.Context) error {
	if a.cfg.Profile != mesh.Strict {
		return nil
	}
	list, err := strict.Kept(a.cfg.State, a.cfg.Task)
	if err == nil && list == nil {
		a.setPhase("waiting for the names of the namespace")
		if list, err = a.first(ctx); err == nil {
			list, err = strict.Keep(a.cfg.State, a.cfg.Task, list)
		}
	}
	if err != nil {
		return err
	}
	a.set(func(s *state) { s.frozen = list })
	a.log.InfoContext(ctx, "profile strict: the task knows these names and no other, until it ends", "names", len(list.GetNames()))
	return nil
}

// first waits for the control plane's first list.
func (a *Agent) first(ctx context.Context) (*agentapi.Names, error) {
	for {
		if list, _ := a.names(); list != nil {
			return list, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-a.wake:
		}
	}
}

// frozen is what Envoy tells the control plane of the names.
func (a *Agent) frozen() map[string]netip.Addr {
	list, _ := a.names()
	out := map[string]netip.Addr{}
	for _, n := range list.GetNames() {
		if vip, err := netip.ParseAddr(n.GetVip()); err == nil {
			out[n.GetDnsName()] = vip
		}
	}
	return out
}

// thaw ends the task's names with it.
func (a *Agent) thaw() {
	if a.cfg.Profile != mesh.Strict {
		return
	}
	if err := strict.Forget(a.cfg.State); err != nil {
		a.log.Warn("the names of the task stay", "error", err)
	}
}
