package sidecar

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"patchbay/agentapi"
	"patchbay/declare"
	"patchbay/mesh"
	"patchbay/sidecar/hosts"
)

// The pace of the loop: quick while something is awaited, slower the longer
// that takes, and once a second when all is as it should be.
const (
	paceQuick = 20 * time.Millisecond
	paceIdle  = time.Second
	paceGrow  = 1.3
)

// probeTime bounds one connection to the application.
const probeTime = 500 * time.Millisecond

// failures in a row that make an application unhealthy: one connection may be
// refused for reasons of its own.
const failures = 2

// seen is Envoy as it was at one moment.
type seen struct {
	state   string          // Envoy's own word; empty if it does not answer
	open    map[string]bool // listeners that accept connections
	refused []string        // listeners that it does not open, in its own words
	bare    map[string]bool // open ports that speak TLS and have no certificate, by portName
}

func (s seen) live() bool { return s.state == "LIVE" }

// tend compares what is with what should be until ctx ends: it looks at Envoy
// and at the application, writes names, and keeps the state that is reported.
// What woke it does not matter.
func (a *Agent) tend(ctx context.Context) error {
	pace := paceQuick
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-a.wake:
			pace = paceQuick
		case <-timer.C:
		}
		s := a.look(ctx)
		health := a.health(ctx, s)
		a.closeDead(ctx)
		n := a.applyNames(ctx, s)
		if a.update(s, health, n) {
			pace = paceQuick
			signal(a.report)
		}
		if !s.live() || n.unfinished || !healthy(health) {
			pace = min(time.Duration(float64(pace)*paceGrow), paceIdle)
		} else {
			pace = paceIdle
		}
		timer.Reset(pace)
	}
}

// look asks Envoy. Without an answer nothing is known of it.
func (a *Agent) look(ctx context.Context) seen {
	var s seen
	var err error
	if s.state, err = a.admin.State(ctx); err != nil {
		return seen{}
	}
	if s.open, err = a.admin.Listeners(ctx); err != nil {
		return seen{state: s.state}
	}
	if s.refused, err = a.admin.Refused(ctx); err != nil {
		a.log.DebugContext(ctx, "Envoy's refused listeners are not known", "error", err)
	}
	s.bare = a.bare(ctx, s.open)
	return s
}

// health is that of each port: it is healthy when its application accepts
// connections and Envoy takes them from others.
func (a *Agent) health(ctx context.Context, s seen) *agentapi.Health {
	h := &agentapi.Health{EnvoyReady: s.live(), Ports: map[string]agentapi.Health_State{}, EnvoyError: strings.Join(s.refused, "; "), Why: map[string]string{}}
	var all sync.WaitGroup
	var mu sync.Mutex
	task := a.task()
	for _, p := range a.cfg.Declaration.Ports {
		all.Go(func() {
			err := accepts(ctx, a.place.App(p.PortName), p.ContainerPort)
			state := a.judge(p, err == nil)
			why := ""
			unhealthy := ""
			if task != nil {
				unhealthy = task.Unhealthy(a.cfg.Container, p.ContainerPort)
			}
			switch {
			case unhealthy != "":
				state, why = agentapi.Health_UNHEALTHY, unhealthy
			case state == agentapi.Health_UNHEALTHY && err != nil:
				why = "the application does not take connections: " + err.Error()
			case state == agentapi.Health_HEALTHY && s.live() && !s.open["ingress-"+p.PortName]:
				state = agentapi.Health_UNHEALTHY // nobody could reach it
				why = "Envoy does not listen for it yet: it may wait for the certificate"
			case state == agentapi.Health_HEALTHY && s.bare[p.PortName]:
				state = agentapi.Health_UNHEALTHY // Envoy would reset every connection
				why = "Envoy waits for its certificate: if that lasts, `patchbay doctor` says why none is issued"
			}
			mu.Lock()
			defer mu.Unlock()
			h.Ports[p.PortName] = state
			if why != "" {
				h.Why[p.PortName] = why
			}
		})
	}
	all.Wait()
	return h
}

// accepts is nil if something listens on a port of the task.
func accepts(ctx context.Context, app netip.Addr, port uint16) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", netip.AddrPortFrom(app, port).String())
	if err != nil {
		return err
	}
	return c.Close()
}

// judge turns probes into a state: a first success counts at once, a failure
// after a success only when it repeats.
func (a *Agent) judge(p declare.Port, up bool) agentapi.Health_State {
	a.mu.Lock()
	defer a.mu.Unlock()
	st := a.st.port(p.PortName)
	if up {
		st.misses, st.up = 0, true
		return agentapi.Health_HEALTHY
	}
	st.misses++
	if st.up && st.misses < failures {
		return agentapi.Health_HEALTHY
	}
	st.up = false
	return agentapi.Health_UNHEALTHY
}

func healthy(h *agentapi.Health) bool {
	for _, s := range h.GetPorts() {
		if s != agentapi.Health_HEALTHY {
			return false
		}
	}
	return true
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
	res, err := a.hosts.Set(entries)
	applied.Refused = append(applied.Refused, res.Refused...)
	if err != nil {
		applied.Refused = append(applied.Refused, err.Error())
	}
	if res.Written > 0 {
		a.log.InfoContext(ctx, "names written", "lines", res.Written, "names", len(entries), "waiting", len(applied.Waiting))
	}
	slices.Sort(applied.Refused)
	return names{applied, len(entries), len(applied.Waiting) > 0 || err != nil}
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

// update keeps what was found out; it reports whether anything changed that
// the control plane should know, and logs what a person should.
func (a *Agent) update(s seen, h *agentapi.Health, n names) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.st
	a.st.envoy = s.state
	if !proto.Equal(before.health, h) {
		a.st.health = h
	}
	changed := !proto.Equal(before.health, h)
	if n.applied != nil && !proto.Equal(before.applied, n.applied) {
		a.st.applied, changed = n.applied, true
	}
	if n.applied != nil {
		a.st.served = n.served
		a.st.ready = before.ready || s.live() && len(n.applied.GetWaiting()) == 0
	}
	if before.envoy != s.state {
		a.log.Info("Envoy's state", "state", cmp.Or(s.state, "no answer"))
	}
	if e := h.GetEnvoyError(); e != before.health.GetEnvoyError() && e != "" {
		a.log.Error("Envoy does not open a listener", "error", e)
	}
	for name, state := range h.GetPorts() {
		if before.health.GetPorts()[name] != state {
			a.log.Info("port", "port_name", name, "health", state.String())
		}
	}
	for _, r := range n.applied.GetRefused() {
		if !slices.Contains(before.applied.GetRefused(), r) {
			a.log.Warn("a name can't be served here", "reason", r)
		}
	}
	return changed
}
