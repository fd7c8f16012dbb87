package main

import (
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// notReady lists what is being waited for, and why it does not come.
func (c *control) notReady() []string {
	var reasons []string
	snap := c.store.Snapshot()
	for _, n := range c.discovery.Status() {
		switch {
		case snap.Synced[n.Name]:
		case len(n.Waiting) > 0:
			reasons = append(reasons, "namespace "+n.Name+": waiting for "+strings.Join(n.Waiting, "; for "))
		default: // it is being published
			reasons = append(reasons, "namespace "+n.Name+": not read from the registry yet")
		}
	}
	for _, i := range c.rotator.Status().Issuers {
		if snap.Bundles[i.Name] != nil {
			continue
		}
		why := i.LastError
		if why == "" {
			why = "no answer yet"
		}
		reasons = append(reasons, "issuer "+i.Name+": waiting for its roots: "+why)
	}
	if old := c.behind(); old != "" {
		reasons = append(reasons, old)
	}
	slices.Sort(reasons)
	return reasons
}

// behind says what this replica shows that another knows to be old; empty:
// nothing.
func (c *control) behind() string {
	if c.replicas == nil {
		return ""
	}
	for _, n := range c.discovery.Status() {
		for _, s := range n.Services {
			if s.Behind {
				return "service " + s.Name.String() + ": another replica has a newer answer of the registry, which does not answer here: " + s.Error
			}
		}
	}
	return ""
}

// fresh refuses streams while what they would be told is known to be old: an
// Envoy that comes from another replica keeps what it has, and tries elsewhere.
func (c *control) fresh(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if old := c.behind(); old != "" {
		return status.Error(codes.Unavailable, "this replica is behind: "+old)
	}
	return next(srv, stream)
}
