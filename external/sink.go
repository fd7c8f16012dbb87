package external

import (
	"log/slog"
	"net/netip"
	"slices"
	"strings"
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
	// Collector is the host of tracing.collector, which no service may have as an
	// alias: each sidecar would send its spans to itself. Empty: there is none.
	Collector string
	Log       *slog.Logger

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
	services, conflicts := s.spared(services)
	if len(all) == 0 {
		s.note(namespace, conflicts)
		return s.To.SetServices(namespace, services)
	}
	for _, v := range services {
		if names[v.Name] {
			s.hidden(v)
			continue
		}
		all = append(all, v)
	}
	all, lost := mesh.Resolve(all)
	s.note(namespace, append(conflicts, lost...))
	if s.vips == nil {
		s.vips = map[string]netip.Addr{}
	}
	for _, v := range all {
		for _, a := range v.Aliases {
			if v.External != nil {
				s.vips[namespace+"/"+a.DNSName] = a.VIP
			}
		}
	}
	return s.To.SetServices(namespace, all)
}

// keepsCollector stands for the collector where an alias is its: its String is
// the key of the file.
var keepsCollector = mesh.ServiceName{DiscoveryName: "tracing", Namespace: "collector"}

// spared are the services without aliases that are the collector's host.
func (s *Sink) spared(services []*mesh.Service) ([]*mesh.Service, []mesh.AliasConflict) {
	is := func(a mesh.Alias) bool { return strings.EqualFold(a.DNSName, s.Collector) }
	var lost []mesh.AliasConflict
	out := make([]*mesh.Service, 0, len(services))
	for _, v := range services {
		if slices.ContainsFunc(v.Aliases, is) {
			without := *v
			without.Aliases = nil
			for _, a := range v.Aliases {
				if is(a) {
					lost = append(lost, mesh.AliasConflict{Alias: a, Winner: keepsCollector, Loser: v.Name})
				} else {
					without.Aliases = append(without.Aliases, a)
				}
			}
			v = &without
		}
		out = append(out, v)
	}
	return out, lost
}

// note keeps the conflicts of a namespace, and says each once.
func (s *Sink) note(namespace string, conflicts []mesh.AliasConflict) {
	for _, c := range conflicts {
		if !slices.Contains(s.lost[namespace], c) {
			s.Log.Error("an alias is that of the control plane's file", "alias", c.Alias.DNSName, "port", c.Alias.Port, "target", c.Winner.String(), "service", c.Loser.String())
		}
	}
	if s.lost == nil {
		s.lost = map[string][]mesh.AliasConflict{}
	}
	s.lost[namespace] = conflicts
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

// Conflicts are the aliases that services of the registry have lost to the
// control plane's file: to targets of the namespace, or to tracing.collector.
func (s *Sink) Conflicts(namespace string) []mesh.AliasConflict {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lost[namespace])
}
