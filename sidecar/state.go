package sidecar

import (
	"patchbay/agentapi"
	"patchbay/sidecar/ecs"
)

// state is what the agent knows. Guarded by Agent.mu; messages in it are
// replaced, never changed.
type state struct {
	phase     string // what Run is busy with, empty while it tends
	connected bool   // the agent stream stands
	lost      string // why it does not
	draining  bool
	task      *ecs.Task       // as ECS tells it, nil elsewhere
	envoy     string          // Envoy's own word for its state
	names     *agentapi.Names // the control plane's last list
	frozen    *agentapi.Names // of a strict task: the list of its start, with its own virtual IPs
	health    *agentapi.Health
	applied   *agentapi.NamesApplied
	traffic   *agentapi.Traffic
	served    int                   // names in the hosts file
	ready     bool                  // applications could call the mesh once
	ports     map[string]*portState // by portName
}

// portState is what is known of one offered port.
type portState struct {
	registered bool
	instance   string
	problem    string // why it is not registered, and what to do
}

func (s *state) port(name string) *portState {
	p := s.ports[name]
	if p == nil {
		p = &portState{}
		s.ports[name] = p
	}
	return p
}

func (a *Agent) set(f func(*state)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(&a.st)
	a.problems(a.st) // so that it is known since when they are there
}

func (a *Agent) setPhase(phase string) { a.set(func(s *state) { s.phase = phase }) }
