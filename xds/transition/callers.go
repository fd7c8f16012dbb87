package transition

import "patchbay/mesh"

// Callers show who they are in this order, in which no request fails: the
// issuer's bundle is there since always; a workload gets its certificate when
// a service that it may call first asks for one; then the clusters present it;
// only then are endpoints called that require it. See [Interim].

// Asks reports whether s wants its callers to show a certificate.
func Asks(s *mesh.Service) bool { return s.TLS != nil && s.Policy.Asks() }

// Requires reports whether s refuses callers without a certificate.
func Requires(s *mesh.Service) bool { return s.TLS != nil && s.Policy.Requires() }

// Quiet is s as it would be if it did not ask.
func Quiet(s *mesh.Service) *mesh.Service {
	q := *s
	q.Policy = s.Policy.Quiet()
	return &q
}
