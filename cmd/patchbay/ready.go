package main

import (
	"slices"
	"strings"
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
	slices.Sort(reasons)
	return reasons
}
