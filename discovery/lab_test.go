package discovery_test

import (
	"context"
	"net/http"
	"testing"

	"patchbay/registry"
	"patchbay/registry/store"
)

// newRegistry is the real registry with its watch.
func newRegistry(t *testing.T) http.Handler {
	reg := registry.New(&store.Memory{}, registry.Options{})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = reg.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	return reg
}
