// Package assemble makes what sidecars may be told of a service from what the
// registry has of it.
//
// It is pure, and owns what a foreign service is taken for. It must not know
// when the registry was asked, nor what is believed.
//
// Start reading at [Service].
package assemble

import (
	"cmp"
	"slices"

	"patchbay/discovery/cloud"
	"patchbay/mesh"
	"patchbay/mesh/record"
)

// Override replaces what is assumed of a foreign service.
type Override struct {
	Protocol mesh.Protocol // empty: tcp
	Aliases  []mesh.Alias  // empty: discoveryName.namespace at the instances' port
}

// noIssuer is the reason for leaving out an endpoint that speaks TLS when
// nothing says whom to trust: it can't be called safely.
const noIssuer = "tls_without_issuer"

// Parts is all that is known of one service.
type Parts struct {
	Name      mesh.ServiceName
	Info      cloud.Summary
	Settings  *record.Service // nil: foreign, or unfinished if Info.Managed
	Instances []cloud.Instance
	Override  Override
	Before    *mesh.Service // what it was last; nil at first
}

// Service is what sidecars may be told of a service, or nil if that is nothing
// yet. It counts what it leaves out by reason.
func Service(p Parts) (*mesh.Service, map[string]int) {
	s := &mesh.Service{Name: p.Name, Created: p.Info.Created, ARN: p.Info.ARN}
	skipped := map[string]int{}
	switch {
	case p.Settings != nil:
		own(s, p)
	case p.Info.Managed:
		return nil, nil // its settings are not written yet
	default:
		if foreign(s, p); len(s.Aliases) == 0 {
			return nil, nil // never had an instance: nothing to call
		}
	}
	for _, i := range p.Instances {
		if i.Endpoint.TLS && s.TLS == nil {
			skipped[noIssuer]++
			continue
		}
		s.Endpoints = append(s.Endpoints, i.Endpoint)
	}
	s.Endpoints = onePerAddress(s.Endpoints, p.Instances)
	all := births(p.Instances)
	s.Newest = mesh.Newest(all)
	if p.Settings != nil && p.Settings.Shift != nil {
		s.Deployment = mesh.Deploy(*p.Settings.Shift, all)
		s.Deployment.Spare(s.Endpoints)
	}
	return s, skipped
}

func own(s *mesh.Service, p Parts) {
	doc := p.Settings.Settings()
	s.SettingsHash = p.Settings.Current
	s.Protocol = doc.Protocol
	s.Aliases = p.Settings.Aliases()
	s.Timeouts = doc.Timeouts
	s.Policy = doc.Policy
	s.TLS = doc.TLS
	if !s.Policy.Asks() && stillAsks(p) {
		s.Policy = s.Policy.Asking()
	}
	if s.TLS != nil {
		return
	}
	// TLS has been switched off. Instances from before still speak it, and
	// their callers still need to know whom to trust.
	for _, i := range p.Instances {
		if !i.Endpoint.TLS {
			continue
		}
		if d := p.Settings.Documents[i.Settings]; d.TLS != nil {
			s.TLS = &mesh.ServiceTLS{Issuer: d.TLS.Issuer, KMSKey: d.TLS.KMSKey}
			return
		}
		if p.Before != nil && p.Before.TLS != nil {
			s.TLS = &mesh.ServiceTLS{Issuer: p.Before.TLS.Issuer, KMSKey: p.Before.TLS.KMSKey}
			return
		}
	}
}

// stillAsks reports whether an instance from before asks its callers for a
// certificate although the service no longer does: it may refuse those that show
// none for as long as it lives.
func stillAsks(p Parts) bool {
	return slices.ContainsFunc(p.Instances, func(i cloud.Instance) bool {
		if d, known := p.Settings.Documents[i.Settings]; known {
			return d.Policy.Asks()
		}
		return p.Before != nil && p.Before.Policy.Asks()
	})
}

// births is since when each revision has instances.
func births(all []cloud.Instance) (out []mesh.Birth) {
	for _, i := range all {
		r := i.Endpoint.Revision
		if r == "" {
			continue
		}
		at := slices.IndexFunc(out, func(b mesh.Birth) bool { return b.Revision == r })
		switch {
		case at < 0:
			out = append(out, mesh.Birth{Revision: r, At: i.Since})
		case i.Since.Before(out[at].At):
			out[at].At = i.Since
		}
	}
	return out
}

func foreign(s *mesh.Service, p Parts) {
	s.Foreign = true
	s.Protocol = cmp.Or(p.Override.Protocol, mesh.TCP)
	if len(p.Override.Aliases) > 0 {
		s.Aliases = slices.Clone(p.Override.Aliases)
		slices.SortFunc(s.Aliases, mesh.Alias.Compare)
		return
	}
	ports := map[uint16]int{}
	for _, i := range p.Instances {
		ports[i.Endpoint.Addr.Port()]++
	}
	port := uint16(0)
	for candidate, n := range ports {
		if port == 0 || n > ports[port] || n == ports[port] && candidate < port {
			port = candidate
		}
	}
	// An alias that applications may have in use stays as long as it can.
	if p.Before != nil && p.Before.Foreign && len(p.Before.Aliases) == 1 && (port == 0 || ports[p.Before.Aliases[0].Port] > 0) {
		port = p.Before.Aliases[0].Port
	}
	if name := s.Name.String(); port != 0 && mesh.ValidDNSName(name) {
		s.Aliases = []mesh.Alias{{DNSName: name, Port: port}}
	}
}

// onePerAddress keeps one endpoint for each address: the healthiest, then the
// newest registration, then the lesser id. Two instances share an address when
// a task died without a word and another got its address.
func onePerAddress(list []mesh.Endpoint, from []cloud.Instance) []mesh.Endpoint {
	since := map[string]int64{}
	for _, i := range from {
		since[i.ID()] = i.Since.UnixMilli()
	}
	health := map[mesh.Health]int{mesh.Healthy: 0, mesh.Unknown: 1, mesh.Unhealthy: 2}
	slices.SortFunc(list, func(a, b mesh.Endpoint) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(health[a.Health], health[b.Health]),
			cmp.Compare(since[b.InstanceID], since[a.InstanceID]), cmp.Compare(a.InstanceID, b.InstanceID))
	})
	return slices.CompactFunc(list, func(a, b mesh.Endpoint) bool { return a.Addr == b.Addr })
}
