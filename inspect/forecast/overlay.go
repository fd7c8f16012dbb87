package forecast

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"patchbay/admin/api"
	"patchbay/mesh"
)

// Overlay is the snapshot as it would be with the planned services in it, and
// what would stand in the way, in words. Endpoints and addresses stay.
func Overlay(snap *mesh.Snapshot, planned []api.Planned, now time.Time) (*mesh.Snapshot, []string) {
	next, notes := *snap, []string{}
	next.Services = slices.Clone(snap.Services)
	namespaces := map[string]bool{}
	for _, p := range planned {
		name := mesh.ServiceName{Namespace: p.Namespace, DiscoveryName: p.DiscoveryName}
		if !snap.Synced[p.Namespace] {
			notes = append(notes, fmt.Sprintf("%s: this control plane does not serve the namespace %q", name, p.Namespace))
			continue
		}
		old := snap.Service(name)
		s := &mesh.Service{Name: name, Created: now}
		if old != nil {
			c := *old
			s = &c
		}
		if old != nil && old.Foreign {
			notes = append(notes, fmt.Sprintf("%s is another's (%s): the registration would be refused", name, old.ARN))
			continue
		}
		if old != nil && old.Protocol != "" && old.Protocol != mesh.Protocol(p.Protocol) {
			notes = append(notes, fmt.Sprintf("%s speaks %s and can't become %s: as in ECS, the protocol of a service is fixed; give it another discoveryName", name, old.Protocol, p.Protocol))
			continue
		}
		apply(s, old, p)
		namespaces[p.Namespace] = true
		next.Services = slices.DeleteFunc(next.Services, func(v *mesh.Service) bool { return v.Name == name })
		next.Services = append(next.Services, s)
	}
	for ns := range namespaces {
		var own, others []*mesh.Service
		for _, s := range next.Services {
			if s.Name.Namespace == ns {
				own = append(own, s)
			} else {
				others = append(others, s)
			}
		}
		own, conflicts := mesh.Resolve(own)
		for _, c := range conflicts {
			notes = append(notes, fmt.Sprintf("%s would not get the alias %s:%d: it is that of %s, which is older", c.Loser, c.Alias.DNSName, c.Alias.Port, c.Winner))
		}
		next.Services = append(others, own...)
	}
	slices.SortFunc(next.Services, func(a, b *mesh.Service) int { return a.Name.Compare(b.Name) })
	slices.Sort(notes)
	return &next, notes
}

// apply makes s what is planned. A name keeps its address.
func apply(s, old *mesh.Service, p api.Planned) {
	s.Protocol, s.TLS, s.Timeouts, s.Aliases = mesh.Protocol(p.Protocol), nil, mesh.Timeouts{}, nil
	if p.Issuer != "" {
		s.TLS = &mesh.ServiceTLS{Issuer: p.Issuer, Only: p.TLSOnly, KMSKey: p.KMSKey}
	}
	span := func(seconds *float64) *time.Duration {
		if seconds == nil {
			return nil
		}
		return new(time.Duration(*seconds * float64(time.Second)))
	}
	s.Timeouts = mesh.Timeouts{Idle: span(p.IdleSeconds), PerRequest: span(p.PerRequestSeconds)}
	for _, a := range p.Aliases {
		one := mesh.Alias{DNSName: strings.ToLower(a.DNSName), Port: a.Port}
		if one.DNSName == "" {
			one.DNSName = s.Name.String()
		}
		if old != nil {
			for _, b := range old.Aliases {
				if b.DNSName == one.DNSName {
					one.VIP = b.VIP
				}
			}
		}
		s.Aliases = append(s.Aliases, one)
	}
	slices.SortFunc(s.Aliases, mesh.Alias.Compare)
}
