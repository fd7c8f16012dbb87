package discovery

import (
	"context"
	"strings"
	"time"

	"patchbay/mesh"
)

// Watcher is a stream of changes, such as that of patchbay's own registry.
type Watcher interface {
	// Watch calls f for everything that happens, in order, until ctx ends. It
	// reconnects by itself, and says when it has and when it has not.
	Watch(ctx context.Context, f func(Change)) error
}

// Change is one thing that a watch says. It is a hint only: what has changed
// is fetched. Losing one costs time, the period of polling, and nothing else.
type Change struct {
	Kind      ChangeKind
	Namespace string // HttpName
	Service   string // as the registry spells it; empty: the list of services
}

// ChangeKind is what a Change is about.
type ChangeKind uint8

// The kinds of Change.
const (
	Instances    ChangeKind = iota // instances, or their health
	Settings                       // attributes of a service
	Topology                       // services or namespaces came or went
	Connected                      // from now on everything is said; what was before may have been missed
	Disconnected                   // from now on nothing is said
)

// watch turns what the watch says into hints. If the watch gives up, polling
// goes on and the watch is tried again.
func (c *CloudMap) watch(ctx context.Context) error {
	for {
		err := c.cfg.Watch.Watch(ctx, c.changed)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		c.changed(Change{Kind: Disconnected})
		c.log.Warn("the watch has ended; changes are found by polling until it is back", "error", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (c *CloudMap) changed(ch Change) {
	for _, n := range c.names {
		switch ch.Kind {
		case Connected, Disconnected:
			n.rehint(ch.Kind == Connected)
			continue
		}
		if !n.is(ch.Namespace) {
			continue
		}
		name := mesh.ServiceName{Namespace: n.want.Name}
		if ch.Kind != Topology {
			name.DiscoveryName = strings.ToLower(ch.Service)
		}
		n.hint(name, ch.Kind == Settings)
	}
}

// is reports whether a namespace of that HttpName may be this one.
func (n *namespace) is(httpName string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cloud.ID != "" {
		return n.cloud.HTTPName == httpName
	}
	return n.want.Registry != "" || strings.ToLower(httpName) == n.want.Name
}
