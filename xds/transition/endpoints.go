package transition

import (
	"slices"

	"patchbay/mesh"
)

// While TLS is switched on or off, a service has endpoints of both kinds, and
// for a moment an Envoy uses new endpoints with its old cluster: endpoints take
// effect at once, a cluster only when its secrets have come. So a cluster that
// could meet TLS speaks TLS, except to an endpoint that says of itself that it
// is plain. What went wrong for a moment then fails at connecting, and another
// host is tried; the opposite default would send a request in plain text.
//
// One step remains in which an endpoint that speaks TLS could be called in
// plain text: from a cluster that has never heard of TLS. See [Interim].

// KnowsTLS reports whether the cluster of s speaks TLS.
func KnowsTLS(s *mesh.Service) bool { return s.TLS != nil || anySpeaksTLS(s) }

// Callable are the endpoints that may be called at all: a service that is
// locked to TLS has no others.
func Callable(s *mesh.Service) []mesh.Endpoint {
	if s.TLS == nil || !s.TLS.Only {
		return s.Endpoints
	}
	return slices.DeleteFunc(slices.Clone(s.Endpoints), func(e mesh.Endpoint) bool { return !e.TLS })
}

// Revision is s with the endpoints of one revision. If it has none (left), it
// has those that are in production: until an Envoy has its new routes, requests
// still come here.
func Revision(s *mesh.Service, revision string) *mesh.Service {
	out := with(s, slices.DeleteFunc(slices.Clone(s.Endpoints), func(e mesh.Endpoint) bool { return e.Revision != revision }))
	if out == nil {
		return Production(s)
	}
	return out
}

// Production is s with the endpoints that are in production, each as heavy as
// its revision's share says.
func Production(s *mesh.Service) *mesh.Service {
	if s.Deployment == nil || len(s.Deployment.Shares) == 0 {
		return s
	}
	members, shares, several := map[string]uint32{}, map[string]uint32{}, 0
	for _, sh := range s.Deployment.Shares {
		shares[sh.Revision] = sh.Weight
	}
	for _, e := range Callable(s) {
		if members[e.Revision]++; members[e.Revision] == 1 && shares[e.Revision] > 0 {
			several++
		}
	}
	var in []mesh.Endpoint
	for _, e := range s.Endpoints {
		w := shares[e.Revision]
		if w == 0 {
			continue
		}
		if several > 1 {
			e.Weight *= max(w*mesh.Whole/max(members[e.Revision], 1), 1)
		}
		in = append(in, e)
	}
	if out := with(s, in); out != nil {
		return out
	}
	return s // better another revision than none
}

// with is s with some of its endpoints; nil if none of them may be called.
func with(s *mesh.Service, some []mesh.Endpoint) *mesh.Service {
	out := *s
	out.Endpoints = some
	if len(Callable(&out)) == 0 {
		return nil
	}
	// Whether it speaks TLS is the service's to say: its cluster may get the
	// other endpoints at any time.
	if out.TLS == nil && KnowsTLS(s) {
		out.TLS = &mesh.ServiceTLS{}
	}
	return &out
}
