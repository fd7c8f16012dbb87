package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"patchbay/agentapi"
	"patchbay/mesh"
	"patchbay/mesh/policy"
)

// frozenName is the file below the state directory that keeps the names of a
// strict task: an agent that was killed goes on with them.
const frozenName = "names.json"

// frozenFile is its content.
type frozenFile struct {
	Task  string       `json:"task"`
	Names []frozenLine `json:"names"`
}

type frozenLine struct {
	Name  string   `json:"name"`
	VIP   string   `json:"vip"`
	Ports []uint32 `json:"ports"`
}

// checkProfile lists what a strict task declares and ECS does not have.
func (c Config) checkProfile() (errs []error) {
	switch c.Profile {
	case "", mesh.Live:
		return nil
	case mesh.Strict:
	default:
		return []error{fmt.Errorf("profile: %q; allowed: live, strict", c.Profile)}
	}
	if len(c.Declaration.Policies) > 0 {
		errs = append(errs, errors.New("the declaration: policies for calls; allowed: none with profile strict, which has Service Connect's own. Take them out, or use --profile live"))
	}
	if len(c.Declaration.Dependencies) > 0 {
		errs = append(errs, errors.New("the declaration: dependencies; allowed: none with profile strict, which knows every name of the namespace. Take them out, or use --profile live"))
	}
	for _, p := range c.Declaration.Ports {
		if !onlyECS(p.Policy) {
			errs = append(errs, fmt.Errorf("the declaration: %s: a policy; allowed: none with profile strict. Take it out, or use --profile live", p.PortName))
		}
	}
	return errs
}

// onlyECS reports whether a service's policy says no more than ECS's block can:
// testTrafficRules and deploymentConfiguration are kept there.
func onlyECS(p *policy.Policy) bool {
	if p == nil {
		return true
	}
	more := *p
	more.TestTraffic, more.Deployment = nil, nil
	return reflect.DeepEqual(more, policy.Policy{})
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
	f, err := a.kept()
	if err != nil {
		return err
	}
	if f == nil {
		a.setPhase("waiting for the names of the namespace")
		if f, err = a.first(ctx); err != nil {
			return err
		}
		b, err := json.Marshal(f)
		if err == nil {
			err = os.WriteFile(a.frozenPath(), b, 0o600)
		}
		if err != nil {
			return fmt.Errorf("keep the names of the task: %w", err)
		}
	}
	list := &agentapi.Names{}
	for _, n := range f.Names {
		list.Names = append(list.Names, &agentapi.Name{DnsName: n.Name, Vip: n.VIP, Ports: n.Ports})
	}
	a.set(func(s *state) { s.frozen = list })
	a.log.InfoContext(ctx, "profile strict: the task knows these names and no other, until it ends", "names", len(list.GetNames()))
	return nil
}

func (a *Agent) frozenPath() string { return filepath.Join(a.cfg.State, frozenName) }

// kept is what an earlier agent of the same task has frozen; nil if none did.
func (a *Agent) kept() (*frozenFile, error) {
	b, err := os.ReadFile(a.frozenPath())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, fmt.Errorf("read the names of the task: %w", err)
	}
	f := &frozenFile{}
	if err := json.Unmarshal(b, f); err != nil {
		return nil, fmt.Errorf("read the names of the task: %s: %w; remove the file to freeze them anew", a.frozenPath(), err)
	}
	if f.Task != a.cfg.Task {
		return nil, nil //nolint:nilnil // another task's
	}
	return f, nil
}

// first waits for the first list and numbers its names.
func (a *Agent) first(ctx context.Context) (*frozenFile, error) {
	for {
		if list, _ := a.names(); list != nil {
			var names []string
			for _, n := range list.GetNames() {
				names = append(names, n.GetDnsName())
			}
			slices.Sort(names)
			vips := mesh.NumberVIPs(names)
			f := &frozenFile{Task: a.cfg.Task, Names: []frozenLine{}}
			for _, n := range list.GetNames() {
				if vip, ok := vips[n.GetDnsName()]; ok {
					f.Names = append(f.Names, frozenLine{n.GetDnsName(), vip.String(), n.GetPorts()})
				}
			}
			return f, nil
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
	if err := os.Remove(a.frozenPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		a.log.Warn("the names of the task stay", "error", err)
	}
}
