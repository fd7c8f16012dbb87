package translate

import (
	"time"

	"patchbay/mesh"
	"patchbay/mesh/policy"
)

// Words are what holds for calls to s from the view's sidecars, member by
// member, and whose word each is: timeouts first, which a service says in
// ECS's block.
func Words(v View, s *mesh.Service) []policy.Word {
	said, own := s.Policy, v.own(s.Name)
	if v.Strict {
		said, own = nil, nil
	}
	var caller policy.Timeout
	if own != nil && own.Timeout != nil {
		caller = *own.Timeout
	}
	idle := idleTCP
	if s.Protocol.L7() {
		idle = idleL7
	}
	var out []policy.Word
	if s.Protocol.L7() {
		out = append(out, timeout("timeout.perRequest", caller.PerRequest, s.Timeouts.PerRequest, perRequest))
	}
	out = append(out, timeout("timeout.idle", caller.Idle, s.Timeouts.Idle, idle))
	for _, w := range policy.Words(said, own, s.Protocol.L7(), s.Protocol == mesh.GRPC) {
		if w.Member != "timeout.perRequest" && w.Member != "timeout.idle" {
			out = append(out, w)
		}
	}
	return out
}

func timeout(member string, caller *policy.Duration, block *time.Duration, otherwise time.Duration) policy.Word {
	switch {
	case caller != nil:
		return policy.Word{Member: member, Value: *caller, From: policy.FromCaller}
	case block != nil:
		return policy.Word{Member: member, Value: policy.Duration(*block), From: policy.FromBlock}
	}
	return policy.Word{Member: member, Value: policy.Duration(otherwise), From: policy.FromDefault}
}
