package controlplane

import (
	"context"
	"strings"

	"golang.org/x/sync/errgroup"

	"patchbay/audit"
	"patchbay/mesh"
	"patchbay/registrar/reaper"
)

// startReaper runs the reaper where one is needed.
func (c *control) startReaper(ctx context.Context, g *errgroup.Group) {
	if r := c.reaper(); r != nil {
		g.Go(func() error { return r.Run(ctx) })
	}
}

// reaper takes ended tasks out of Cloud Map, where instances have no leases. It
// is nil where they have, or where nobody can say what has ended.
func (c *control) reaper() *reaper.Reaper {
	if c.cfg.Registry != nil || c.cfg.CloudMap.Lease > 0 {
		return nil
	}
	alone := c.cfg.CloudMap.OnlyControlPlane
	if len(c.roles) == 0 && !alone {
		return nil
	}
	return reaper.New(reaper.Config{
		Snapshot: c.store.Snapshot, Tasks: c.roles, Registry: c.registrar, Connected: c.connected, Alone: alone, Log: c.log,
		Reaped: func(service mesh.ServiceName, id, why string) {
			c.audit.Record(audit.Event{Kind: audit.Deregistered, Actor: "reaper", Subject: service.String() + " " + id, Decision: audit.Allowed, Reason: why})
		},
	})
}

// connected are the names of the tasks whose agents are connected here.
func (c *control) connected() map[string]bool {
	out := map[string]bool{}
	for _, s := range c.agents.Status() {
		out[s.Node[strings.LastIndexByte(s.Node, '/')+1:]] = true
	}
	return out
}
