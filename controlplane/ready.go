package controlplane

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"patchbay/internal/health"
)

// notReady lists what is being waited for, and why it does not come.
func (c *control) notReady() []health.Problem {
	var problems []health.Problem
	add := func(what, reason string) { problems = append(problems, health.Problem{What: what, Reason: reason}) }
	snap := c.store.Snapshot()
	for _, n := range c.discovery.Status() {
		switch {
		case snap.Synced[n.Name]:
		case len(n.Waiting) > 0:
			add("namespace "+n.Name, "waiting for "+strings.Join(n.Waiting, "; for "))
		default: // it is being published
			add("namespace "+n.Name, "not read from the registry yet")
		}
	}
	for _, i := range c.rotator.Status().Issuers {
		if snap.Bundles[i.Name] != nil {
			continue
		}
		add("issuer "+i.Name, "waiting for its roots: "+cmp.Or(i.LastError, "no answer yet"))
	}
	if service, why := c.behind(); why != "" {
		add("service "+service, why)
	}
	slices.SortFunc(problems, func(a, b health.Problem) int { return cmp.Compare(a.What, b.What) })
	return c.unready.Since(time.Now(), problems)
}

// stuckAfter is far beyond any push: one that takes longer will not end.
const stuckAfter = time.Minute

// notAlive lists what only a restart cures.
func (c *control) notAlive() []health.Problem {
	since, busy := c.pusher.Busy()
	if !busy || time.Since(since) < stuckAfter {
		return nil
	}
	return []health.Problem{{What: "push loop", Reason: "one push does not end: no sidecar is told of changes", Since: since.UTC()}}
}

// behind says of which service this replica shows what another knows to be old,
// and why; empty: of none.
func (c *control) behind() (service, why string) {
	if c.replicas == nil {
		return "", ""
	}
	for _, n := range c.discovery.Status() {
		for _, s := range n.Services {
			if s.Behind {
				return s.Name.String(), "another replica has a newer answer of the registry, which does not answer here: " + s.Error
			}
		}
	}
	return "", ""
}

// fresh refuses streams while what they would be told is known to be old: an
// Envoy that comes from another replica keeps what it has, and tries elsewhere.
func (c *control) fresh(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if service, why := c.behind(); why != "" {
		return status.Error(codes.Unavailable, "this replica is behind: service "+service+": "+why)
	}
	return next(srv, stream)
}
