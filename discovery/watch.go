package discovery

import (
	"context"

	"patchbay/mesh"
)

// Watcher is a stream of changes, such as our registry's.
type Watcher interface {
	// Watch calls f for what happens until ctx ends. It reconnects by itself.
	Watch(ctx context.Context, f func(Change)) error
}

// Change is something that a watch says.
type Change struct {
	Name       mesh.ServiceName
	Attributes bool
}

func (c *CloudMap) watch(ctx context.Context) error { <-ctx.Done(); return nil }
