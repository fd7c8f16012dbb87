package external

import (
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"patchbay/mesh"
)

// Sink hands on what discovery has found, with the targets of the namespace
// among it. Where a service of the registry has a target's name or alias, the
// target keeps it: the control plane's file is the operator's word, a
// declaration a task's. It may be used from several goroutines.
type Sink struct {
	To interface {
		SetServices(namespace string, services []*mesh.Service) bool
	}
	Targets []*mesh.Service
	Log     *slog.Logger

	mu   sync.Mutex
	vips map[string]netip.Addr // by namespace and name: a VIP does not move
	lost map[string][]mesh.AliasConflict
	hid  map[string]bool
}

// SetServices is that of To.
func (s *Sink) SetServices(namespace string, services []*mesh.Service) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*mesh.Service
	names := map[mesh.ServiceName]bool{}
	for _, t := range s.Targets {
		if t.Name.Namespace == namespace {
			all = append(all, s.withVIPs(t))
			names[t.Name] = true
		}
	}
	if len(all) == 0 {
		return s.To.SetServices(namespace, services)
	}
	for _, v := range services {
		if names[v.Name] {
			s.hidden(v)
			continue
		}
		all = append(all, v)
	}
	all, conflicts := mesh.Resolve(all)
	for _, c := range conflicts {
		if !slices.Contains(s.lost[namespace], c) {
			s.Log.Error("an alias is that of a target in the control plane's file", "alias", c.Alias.DNSName, "port", c.Alias.Port, "target", c.Winner.String(), "service", c.Loser.String())
		}
	}
	if s.lost == nil {
		s.lost, s.vips = map[string][]mesh.AliasConflict{}, map[string]netip.Addr{}
	}
	s.lost[namespace] = conflicts
	for _, v := range all {
		for _, a := range v.Aliases {
			if v.External != nil {
				s.vips[namespace+"/"+a.DNSName] = a.VIP
			}
		}
	}
	return s.To.SetServices(namespace, all)
}

// hidden says once that a service of the registry has a target's name.
func (s *Sink) hidden(v *mesh.Service) {
	if s.hid == nil {
		s.hid = map[string]bool{}
	}
	if !s.hid[v.Name.String()] {
		s.hid[v.Name.String()] = true
		s.Log.Error("a service of the registry is not shown: a target in the control plane's file has its name", "service", v.Name.String(), "arn", v.ARN)
	}
}

func (s *Sink) withVIPs(t *mesh.Service) *mesh.Service {
	out := *t
	out.Aliases = slices.Clone(t.Aliases)
	for i, a := range out.Aliases {
		if v, ok := s.vips[t.Name.Namespace+"/"+a.DNSName]; ok {
			out.Aliases[i].VIP = v
		}
	}
	return &out
}

// Conflicts are the aliases that services of the registry have lost to targets
// of the namespace.
func (s *Sink) Conflicts(namespace string) []mesh.AliasConflict {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lost[namespace])
}
