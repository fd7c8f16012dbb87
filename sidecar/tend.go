package sidecar

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"patchbay/agentapi"
	"patchbay/declare"
	"patchbay/sidecar/probe"
)

// The pace of the loop: quick while something is awaited, slower the longer
// that takes, and once a second when all is as it should be.
const (
	paceQuick = 20 * time.Millisecond
	paceIdle  = time.Second
	paceGrow  = 1.3
)

// seen is Envoy as it was at one moment.
type seen struct {
	state   string          // Envoy's own word; empty if it does not answer
	open    map[string]bool // listeners that accept connections
	refused []string        // listeners that it does not open, in its own words
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
	return s
}

// health is that of each port, and Envoy's.
func (a *Agent) health(ctx context.Context, s seen) *agentapi.Health {
	e := probe.Envoy{Live: s.live(), Open: s.open}
	if a.envoy != nil {
		e.Process = a.envoy.Starts()
	}
	task := a.task()
	ports, why := a.ports.Look(ctx, e, probe.Task{App: a.place.App, Unhealthy: func(p declare.Port) string {
		if task == nil {
			return ""
		}
		return task.Unhealthy(a.cfg.Container, p.ContainerPort)
	}})
	return &agentapi.Health{EnvoyReady: s.live(), EnvoyError: strings.Join(s.refused, "; "), Ports: ports, Why: why}
}

func healthy(h *agentapi.Health) bool {
	for _, s := range h.GetPorts() {
		if s != agentapi.Health_HEALTHY {
			return false
		}
	}
	return true
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
