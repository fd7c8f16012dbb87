package forecast

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"patchbay/admin/api"
	"patchbay/mesh"
)

// Overlay is the snapshot as it would be with the planned services in it, what
// would be refused, and what must be known, in words. Endpoints and addresses
// stay.
func Overlay(snap *mesh.Snapshot, planned []api.Planned, now time.Time) (next *mesh.Snapshot, refused, notes []string) {
	with := *snap
	next = &with
	next.Services = slices.Clone(snap.Services)
	namespaces := map[string]bool{}
	for _, p := range planned {
		name := mesh.ServiceName{Namespace: p.Namespace, DiscoveryName: p.DiscoveryName}
		if !snap.Synced[p.Namespace] {
			refused = append(refused, fmt.Sprintf("%s: this control plane does not serve the namespace %q", name, p.Namespace))
			continue
		}
		old := snap.Service(name)
		s := &mesh.Service{Name: name, Created: now}
		if old != nil {
			c := *old
			s = &c
		}
		if old != nil && old.Foreign {
			refused = append(refused, fmt.Sprintf("%s is another's (%s): the registration would be refused", name, old.ARN))
			continue
		}
		if old != nil && old.Protocol != "" && old.Protocol != mesh.Protocol(p.Protocol) {
			refused = append(refused, fmt.Sprintf("%s speaks %s and can't become %s: as in ECS, the protocol of a service is fixed; give it another discoveryName", name, old.Protocol, p.Protocol))
			continue
		}
		apply(s, old, p)
		namespaces[p.Namespace] = true
		next.Services = slices.DeleteFunc(next.Services, func(v *mesh.Service) bool { return v.Name == name })
		next.Services = append(next.Services, s)
	}
	for ns := range namespaces {
		notes = append(notes, resolve(next, ns)...)
	}
	slices.SortFunc(next.Services, func(a, b *mesh.Service) int { return a.Name.Compare(b.Name) })
	slices.Sort(notes)
	return next, refused, notes
}

// resolve decides whose each alias of a namespace is, and says who gets none.
func resolve(next *mesh.Snapshot, namespace string) (notes []string) {
	var own, others []*mesh.Service
	for _, s := range next.Services {
		if s.Name.Namespace == namespace {
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
	return notes
}

// Targets is the snapshot as it would be with these targets outside the mesh,
// in the place of those that it has, and what must be known of that.
func Targets(snap *mesh.Snapshot, targets []*mesh.Service) (next *mesh.Snapshot, notes []string) {
	with := *snap
	next = &with
	next.Services = slices.DeleteFunc(slices.Clone(snap.Services), func(s *mesh.Service) bool {
		return s.External != nil || slices.ContainsFunc(targets, func(t *mesh.Service) bool { return t.Name == s.Name })
	})
	namespaces := map[string]bool{}
	for _, t := range targets {
		one := *t
		one.Aliases = slices.Clone(t.Aliases)
		for i := range one.Aliases {
			one.Aliases[i].VIP = vip(snap.Service(t.Name), one.Aliases[i].DNSName)
		}
		next.Services = append(next.Services, &one)
		namespaces[t.Name.Namespace] = true
	}
	for ns := range namespaces {
		notes = append(notes, resolve(next, ns)...)
	}
	slices.SortFunc(next.Services, func(a, b *mesh.Service) int { return a.Name.Compare(b.Name) })
	slices.Sort(notes)
	return next, notes
}

// vip is the address that a name of a service has; zero: none yet.
func vip(of *mesh.Service, dnsName string) netip.Addr {
	if of != nil {
		for _, a := range of.Aliases {
			if a.DNSName == dnsName {
				return a.VIP
			}
		}
	}
	return netip.Addr{}
}

// apply makes s what is planned. A name keeps its address.
func apply(s, old *mesh.Service, p api.Planned) {
	s.Protocol, s.TLS, s.Timeouts, s.Aliases, s.Policy = mesh.Protocol(p.Protocol), nil, mesh.Timeouts{}, nil, p.Policy
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
		one.VIP = vip(old, one.DNSName)
		s.Aliases = append(s.Aliases, one)
	}
	slices.SortFunc(s.Aliases, mesh.Alias.Compare)
}
