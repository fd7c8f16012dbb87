package agents

import (
	"time"

	"patchbay/agentapi"
)

// remember keeps what an ended stream had registered.
func (s *session) remember() {
	ports := map[string]kept{}
	for _, p := range s.ports {
		if p.reg.ok {
			ports[p.PortName] = kept{port: p.Port, addr: s.addr, reg: p.reg, at: time.Now()}
		}
	}
	s.srv.keep(s.node.ID(), ports)
}

func (s *Server) keep(node string, ports map[string]kept) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, old := range s.memory {
		for _, k := range old {
			if time.Since(k.at) > remembered {
				delete(s.memory, id)
			}
			break // all of one node are of one time
		}
	}
	if len(ports) > 0 {
		s.memory[node] = ports
	}
}

// recall takes what was remembered of a node.
func (s *Server) recall(node string) map[string]kept {
	s.mu.Lock()
	defer s.mu.Unlock()
	ports := s.memory[node]
	delete(s.memory, node)
	return ports
}

// status is the session for people.
func (s *session) status() NodeStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.st
	out := NodeStatus{
		Node: s.node.ID(), Address: s.addr.String(), Zone: s.zone, Since: st.since, LastHealth: st.lastHealth,
		AgentVersion: st.hello.GetAgentVersion(), EnvoyVersion: st.hello.GetEnvoyVersion(), Wiring: st.hello.GetWiring(),
		EnvoyReady: st.health.GetEnvoyReady(), EnvoyError: st.health.GetEnvoyError(), Draining: st.draining,
		NamesSent: st.namesSent, NamesApplied: st.applied.GetVersion(), NamesWaiting: st.applied.GetWaiting(), NamesRefused: st.applied.GetRefused(),
		Dependencies: st.hello.GetDependencies(),
		Ports:        make([]PortStatus, 0, len(s.ports)),
	}
	for _, p := range s.ports {
		health := agentapi.Health_UNKNOWN
		if h := st.health; h != nil {
			health = h.GetPorts()[p.PortName]
		}
		out.Ports = append(out.Ports, PortStatus{
			PortName: p.PortName, Service: p.Service.String(), InstanceID: p.reg.InstanceID,
			Health: health.String(), Why: st.health.GetWhy()[p.PortName], Registered: p.reg.ok, Error: p.reg.err,
		})
	}
	return out
}
