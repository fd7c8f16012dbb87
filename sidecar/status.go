package sidecar

import (
	"cmp"
	"time"

	"patchbay/internal/count"
	"patchbay/internal/health"
	"patchbay/sidecar/status"
)

// known is the state at one moment, with what is wrong then. It notes that too:
// with a.mu held, for what is noted later must not be older.
func (a *Agent) known() (state, []status.Port, []health.Problem) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ports := []status.Port{}
	for _, p := range a.cfg.Declaration.Ports {
		k := a.st.port(p.PortName)
		ports = append(ports, status.Port{
			PortName: p.PortName, Health: a.st.health.GetPorts()[p.PortName].String(), Registered: k.registered, InstanceID: k.instance, Problem: k.problem,
		})
	}
	return a.st, ports, a.problems(a.st)
}

// Status is the agent as it is now. It may be called concurrently.
func (a *Agent) Status() status.Report {
	st, ports, problems := a.known()
	s := status.Report{
		Connected: st.connected, Draining: st.draining, Envoy: cmp.Or(st.envoy, "no answer"), Ports: ports,
		Names: st.served, Waiting: st.applied.GetWaiting(), Refused: st.applied.GetRefused(), Reasons: []string{}, Problems: problems,
	}
	for _, p := range s.Problems {
		s.Reasons = append(s.Reasons, p.Reason)
	}
	s.Ready, s.Serving = len(s.Reasons) == 0, len(s.Unserved()) == 0
	if st.phase == "" {
		s.Node, s.NotAfter = a.member.Node().ID(), a.member.NotAfter()
		s.Network, s.Wiring = string(a.cfg.Network), string(a.wiring)
	}
	return s
}

// deadAfter is how long an Envoy that runs may not answer its agent until only a
// restart will help: one that has ended is started again.
const deadAfter = time.Minute

// dead lists what only a restart of the sidecar cures.
func (a *Agent) dead() (out []health.Problem) {
	s := a.Status()
	for _, p := range s.Problems {
		if p.What == "envoy" && s.Envoy == "no answer" && time.Since(p.Since) > deadAfter {
			out = append(out, p)
		}
	}
	return out
}

// problems are why the task's applications can't call the mesh yet; never nil.
// It notes them, and is called with a.mu held.
func (a *Agent) problems(st state) []health.Problem {
	out := []health.Problem{}
	add := func(what, reason string) { out = append(out, health.Problem{What: what, Reason: reason}) }
	if st.phase != "" {
		add("start", st.phase)
		if f := a.member.Failure(); f != "" {
			add("control channel", f)
		}
		return a.unready.Since(time.Now(), out)
	}
	if st.draining {
		add("task", "the task stops")
	}
	if st.envoy != "LIVE" {
		add("envoy", "Envoy is not ready: "+cmp.Or(st.envoy, "no answer"))
	}
	switch n := len(st.applied.GetWaiting()); {
	case st.ready: // names that come later make nobody wait
	case st.applied == nil:
		add("names", cmp.Or(st.lost, "the control plane has not sent the names yet"))
	case n > 0:
		add("names", "waiting until Envoy listens for "+count.Of(n, "name"))
	}
	return a.unready.Since(time.Now(), out)
}
