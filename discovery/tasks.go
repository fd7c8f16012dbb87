package discovery

import (
	"strings"
	"time"

	"patchbay/mesh"
)

// avoidFor is how long an event alone keeps callers from a task that is to stop:
// by then the registry knows, or the event was wrong.
const avoidFor = 2 * time.Minute

// TaskChanged takes an event of ECS as a hint: the services that the task, or
// others of its ECS service, are instances of are asked for at once; if there is
// none, the list of services is. Endpoints of a task that is bound for STOPPED
// are unhealthy for two minutes at most. Envoys still call them if nothing else
// is left: an event is not the truth.
func (c *CloudMap) TaskChanged(ecsService, task string, stopping bool) {
	now := time.Now()
	for _, n := range c.names {
		n.mu.Lock()
		found, moved := false, false
		for _, s := range n.services {
			if !s.concerns(now, ecsService, task, stopping) {
				continue
			}
			found = true
			moved = s.rebuild(mesh.Detection{At: now, By: "event"}) || moved
			s.notice("event")
			s.wantFull = true
			s.timer.Stir(now)
			poke(s.wake)
		}
		if !found {
			poke(n.wake)
		}
		if moved {
			n.publish()
		}
		n.mu.Unlock()
	}
}

// concerns reports whether an event may be about instances of s.
func (s *service) concerns(now time.Time, ecsService, task string, stopping bool) bool {
	yes := ecsService != "" && strings.EqualFold(s.name.DiscoveryName, ecsService)
	for _, i := range s.belief.Good {
		if i.Task == task || i.ID() == task || strings.HasPrefix(i.ID(), task+".") {
			if yes = true; stopping {
				s.avoid[i.ID()] = now
			}
		}
		yes = yes || ecsService != "" && (i.Attributes["ECS_SERVICE_NAME"] == ecsService || i.Owner == s.name.Namespace+"/"+ecsService)
	}
	return yes
}

// avoided makes an endpoint of a task that is to stop unhealthy.
func (s *service) avoided(e mesh.Endpoint) mesh.Endpoint {
	if at, yes := s.avoid[e.InstanceID]; yes && time.Since(at) < avoidFor {
		e.Health = mesh.Unhealthy
	} else if yes {
		delete(s.avoid, e.InstanceID)
	}
	return e
}
