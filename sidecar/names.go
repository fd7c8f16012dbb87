package sidecar

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"patchbay/agentapi"
	"patchbay/mesh"
	"patchbay/sidecar/hosts"
	"patchbay/sidecar/strict"
)

// names is the list that holds for the task, nil before the first, and the
// version of the control plane's last one.
func (a *Agent) names() (holds *agentapi.Names, version string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.st.frozen != nil {
		return a.st.frozen, cmp.Or(a.st.names.GetVersion(), a.st.frozen.GetVersion())
	}
	return a.st.names, a.st.names.GetVersion()
}

// freeze fixes the names that a strict task knows: those of the control
// plane's first list, or of the agent that was here before.
func (a *Agent) freeze(ctx context.Context) error {
	if a.cfg.Profile != mesh.Strict {
		return nil
	}
	list, err := strict.Freeze(a.cfg.State, a.cfg.Task, func() (*agentapi.Names, error) {
		a.setPhase("waiting for the names of the namespace")
		return a.first(ctx)
	})
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

// names is the outcome of one look at the hosts file.
type names struct {
	applied    *agentapi.NamesApplied // nil until there is a list
	served     int                    // names that stand in the file
	unfinished bool                   // it is worth looking again soon
}

// applyNames brings the hosts file to the control plane's last list. A name is
// added only when Envoy serves it; one that stands there stays, whatever Envoy
// does meanwhile.
func (a *Agent) applyNames(ctx context.Context, s seen) names {
	want, version := a.names()
	if want == nil {
		return names{}
	}
	applied := &agentapi.NamesApplied{Version: version}
	if why := a.place.NoEgress; why != "" {
		applied.Refused = []string{why}
		return names{applied: applied}
	}
	standing := a.standing(ctx)
	var entries []hosts.Entry
	for _, n := range want.GetNames() {
		vip, err := netip.ParseAddr(n.GetVip())
		if err != nil {
			applied.Refused = append(applied.Refused, fmt.Sprintf("%s: its virtual IP is %q", n.GetDnsName(), n.GetVip()))
			continue
		}
		if a.cfg.needs(n.GetDnsName()) {
			applied.Refused = append(applied.Refused, n.GetDnsName()+": the agent itself reaches the control plane or AWS by this name, so that it is not written: calls of it go past the mesh")
			continue
		}
		e := hosts.Entry{Name: n.GetDnsName(), Addr: vip}
		served, refused := a.served(n, s)
		applied.Refused = append(applied.Refused, refused...)
		switch {
		case served || slices.Contains(standing, e):
			entries = append(entries, e)
		case len(refused) < len(n.GetPorts()):
			applied.Waiting = append(applied.Waiting, n.GetDnsName())
		}
	}
	served := len(entries)
	if a.asksIPv6() {
		for _, e := range entries[:served] {
			entries = append(entries, e.Mapped())
		}
	}
	res, err := a.hosts.Set(entries)
	applied.Refused = append(applied.Refused, res.Refused...)
	if err != nil {
		applied.Refused = append(applied.Refused, err.Error())
	}
	if res.Written > 0 {
		a.log.InfoContext(ctx, "names written", "lines", res.Written, "names", served, "waiting", len(applied.Waiting))
	}
	slices.Sort(applied.Refused)
	applied.Refused = slices.Compact(applied.Refused)
	return names{applied, served, len(applied.Waiting) > 0 || err != nil}
}

// asksIPv6 reports whether applications of this task may ask for the IPv6 address
// of a name: the task has one of its own, or had one. Without an answer in the
// hosts file they would ask, and wait for, a name server.
func (a *Agent) asksIPv6() bool {
	if !a.ipv6 {
		_, a.ipv6 = a.has()
	}
	return a.ipv6
}

func (a *Agent) standing(ctx context.Context) []hosts.Entry {
	entries, err := a.hosts.Entries()
	if err != nil {
		a.log.DebugContext(ctx, "the hosts file can't be read", "error", err)
	}
	return entries
}

// served reports whether Envoy listens for a port of the name, and why it
// never will for others.
func (a *Agent) served(n *agentapi.Name, s seen) (served bool, refused []string) {
	for _, port := range n.GetPorts() {
		if a.wiring == mesh.Bind && slices.Contains(a.cfg.Declaration.ContainerPorts, uint16(port)) {
			refused = append(refused, fmt.Sprintf("%s:%d: a container of this task uses port %d: call another port, or give the sidecar NET_ADMIN for the redirect wiring", n.GetDnsName(), port, port))
			continue
		}
		listener := "egress-" + n.GetVip() + "-" + strconv.Itoa(int(port))
		if s.open[listener] {
			served = true
		}
		for _, r := range s.refused {
			if strings.HasPrefix(r, listener+": ") {
				refused = append(refused, fmt.Sprintf("%s:%d: %s", n.GetDnsName(), port, r))
			}
		}
	}
	return served, refused
}
