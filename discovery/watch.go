package discovery

import (
	"context"
	"strings"
	"time"

	"patchbay/mesh"
	"patchbay/registry/watch"
)

// Watcher is a stream of changes; *watch.Client is one. Its events are hints
// only: what has changed is fetched, by the path that polling takes. Losing
// one costs time, the period of polling, and nothing else.
type Watcher interface {
	// Run calls f for every event, in order, until ctx ends. It reconnects by
	// itself, and sends Resync where events may have been missed.
	Run(ctx context.Context, f func(watch.Event)) error
	// Standing reports whether changes are being told just now.
	Standing() bool
}

// follow turns what the watch says into hints. If the watch gives up, polling
// goes on and the watch is tried again.
func (c *CloudMap) follow(ctx context.Context) error {
	for {
		err := c.cfg.Watch.Run(ctx, c.changed)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		c.log.Warn("the watch has ended; changes are found by polling until it is back", "error", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (c *CloudMap) changed(e watch.Event) {
	for _, n := range c.names {
		if e.Kind == watch.Resync {
			n.refetch()
			continue
		}
		if !n.is(e.Namespace) {
			continue
		}
		name := mesh.ServiceName{Namespace: n.want.Name}
		if e.Kind != watch.Namespaces && e.Kind != watch.Services {
			name.DiscoveryName = strings.ToLower(e.Service)
		}
		n.hint(name, e.Kind == watch.Attributes, "watch")
	}
}

// watched reports whether a watch tells of changes, so that polling is only
// the safety net.
func (n *namespace) watched() bool { return n.cfg.Watch != nil && n.cfg.Watch.Standing() }

// is reports whether a namespace of that HttpName may be this one.
func (n *namespace) is(httpName string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cloud.ID != "" {
		return n.cloud.HTTPName == httpName
	}
	return n.want.Registry != "" || strings.ToLower(httpName) == n.want.Name
}
