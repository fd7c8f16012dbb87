package views

import (
	"encoding/json"
	"strings"
	"time"

	"patchbay/mesh"
	"patchbay/mesh/policy"
)

// said are the words of the two that decide about calls to s from the view's
// sidecars: of the service, with the timeouts of its block or Service Connect's
// own, and of its callers. Nothing else asks either of them.
func (v View) said(s *mesh.Service) (service, caller *policy.Policy) {
	service = &policy.Policy{}
	if !v.Strict {
		caller = v.own(s.Name)
		if s.Policy != nil {
			*service = *s.Policy
		}
	}
	idle, request := policy.IdleOf(s.Timeouts.Idle, s.Protocol.L7()), policy.PerRequest
	if s.Timeouts.PerRequest != nil {
		request = *s.Timeouts.PerRequest
	}
	service.Timeout = &policy.Timeout{PerRequest: new(policy.Duration(request)), Idle: new(policy.Duration(idle))}
	return service, caller
}

// own is the word of the view's sidecars on a service that they call.
func (v View) own(name mesh.ServiceName) *policy.Policy {
	if v.Policies == "" || name.Namespace != v.Namespace {
		return nil
	}
	var all map[string]*policy.Policy
	if err := json.Unmarshal([]byte(v.Policies), &all); err != nil {
		return nil // [Of] wrote it
	}
	return all[name.DiscoveryName]
}

// Effective is what holds for calls to s from the view's sidecars. Its timeouts
// are complete.
func (v View) Effective(s *mesh.Service) policy.Policy { return policy.Effective(v.said(s)) }

// Words are what holds for calls to s from the view's sidecars, member by
// member, and whose word each is.
func (v View) Words(s *mesh.Service) []policy.Word {
	service, caller := v.said(s)
	all := policy.Words(service, caller, s.Protocol.L7(), s.Protocol == mesh.GRPC)
	block := map[string]*time.Duration{"timeout.perRequest": s.Timeouts.PerRequest, "timeout.idle": s.Timeouts.Idle}
	for i, w := range all {
		if w.From != policy.FromService || !strings.HasPrefix(w.Member, "timeout.") {
			continue
		}
		all[i].From = policy.FromBlock
		if block[w.Member] == nil {
			all[i].From = policy.FromDefault
		}
	}
	return all
}
