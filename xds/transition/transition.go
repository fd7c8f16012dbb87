// Package transition knows services in the middle of a change: TLS is switched
// on or off, calls move from one revision to another, callers are about to be
// asked for a certificate.
//
// It owns which endpoints may be called meanwhile, and what to show between two
// states of a service, so that no request fails. It must not know Envoy's
// configuration, nor who acknowledged what. Start reading at [Interim].
package transition

import (
	"slices"

	"patchbay/mesh"
)

// Interim is what to show between old and now, two states of one service, or
// nil if now may be shown at once. It is not nil in three cases.
//
// When old's cluster does not know TLS and now has endpoints that speak it: an
// Envoy would call these in plain text until its cluster has been replaced. The
// interim has now's cluster and old's endpoints.
//
// When now calls a revision for which old has no cluster: an Envoy would refuse
// requests until it is in use. The interim has now's clusters and old's routes.
//
// When now begins to require certificates: an Envoy whose cluster presents none
// would be refused. The interim has now's clusters and old's endpoints.
//
// Show now when all have acknowledged the interim's clusters, which they do when
// these are in use.
func Interim(old, now *mesh.Service) *mesh.Service {
	if old == nil {
		return nil
	}
	between := *now
	cold := unready(old, now)
	if cold != nil {
		between.Deployment = warming(old.Deployment, cold)
	}
	if KnowsTLS(old) || !anySpeaksTLS(now) {
		starts := startsToRequire(old, now)
		if cold == nil && !starts {
			return nil
		}
		if starts {
			between.Endpoints = old.Endpoints
		}
		return &between
	}
	declared := mesh.ServiceTLS{}
	if now.TLS != nil {
		declared.Issuer = now.TLS.Issuer // not Only: it would drop the old endpoints
	}
	between.Endpoints, between.TLS = old.Endpoints, &declared
	return &between
}

// unready are the revisions that now calls and old has no cluster for.
func unready(old, now *mesh.Service) []string {
	if !now.Protocol.L7() {
		return nil
	}
	has := old.Deployment.Revisions()
	return slices.DeleteFunc(now.Deployment.Revisions(), func(r string) bool { return slices.Contains(has, r) })
}

// warming is old with clusters for further revisions.
func warming(old *mesh.Deployment, cold []string) *mesh.Deployment {
	d := mesh.Deployment{}
	if old != nil {
		d = *old
	}
	d.Warm = slices.Sorted(slices.Values(append(slices.Clone(d.Warm), cold...)))
	return &d
}

// startsToRequire reports whether endpoints of now may refuse callers that a
// cluster of old leads to.
func startsToRequire(old, now *mesh.Service) bool {
	return Requires(now) && !Requires(old) && anySpeaksTLS(now)
}

func anySpeaksTLS(s *mesh.Service) bool {
	return slices.ContainsFunc(s.Endpoints, func(e mesh.Endpoint) bool { return e.TLS })
}
