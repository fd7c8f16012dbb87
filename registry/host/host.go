// Package host runs a registry as a server of its own: what it keeps, where it
// keeps it, the port that it answers at, and its end. `patchbay registry` is
// that, and so is the registry that a control plane contains.
//
// It must not know what a registry answers. Start reading at [Open].
package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"patchbay/config"
	"patchbay/registry"
	"patchbay/registry/store"
)

// Registry is a registry with its store and its open port.
type Registry struct {
	// URL is how this process reaches it.
	URL string
	// Before, where it is set before Run, makes what stands before the registry.
	Before func(http.Handler) http.Handler

	guard    func(http.Handler) http.Handler // before all: who may call by which host
	server   *registry.Server
	store    store.Store
	listener net.Listener
}

// Open opens a registry of what is in a store, which it takes over. One that is
// shared may be away: then it is waited for. Without keys the port that it got
// must be a loopback one, else the error is a [config.Wrong]. Setting is what
// listen is called where it was written.
func Open(ctx context.Context, setting, listen string, in store.Store, o registry.Options) (*Registry, error) {
	as := func(h http.Handler) http.Handler { return h }
	r := &Registry{store: in, server: registry.New(in, o), Before: as, guard: as}
	if err := r.server.Load(); err != nil && !errors.Is(err, store.ErrUnavailable) {
		return nil, errors.Join(err, r.store.Close())
	}
	var err error
	if r.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", listen); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", setting, err), r.store.Close())
	}
	at := r.listener.Addr().(*net.TCPAddr)
	if o.Keys == nil && !at.IP.IsLoopback() {
		return nil, errors.Join(&config.Wrong{Err: fmt.Errorf("%s: %s is %s, which is no loopback address, and there are no keys", setting, listen, at)}, r.listener.Close(), r.store.Close())
	}
	if o.Keys == nil {
		r.guard = registry.Local
	}
	if at.IP.IsUnspecified() {
		at = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: at.Port}
	}
	r.URL = "http://" + at.String()
	return r, nil
}

// drainTime is how long requests may take that are under way at the end.
const drainTime = 5 * time.Second

// Run serves until ctx ends, answers what is under way, and closes the store.
func (r *Registry) Run(ctx context.Context) error {
	s := &http.Server{
		Handler: r.guard(r.Before(r.server)), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10,
		// The watch's streams end with ctx; calls don't look at it.
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.server.Run(ctx) })
	g.Go(func() error {
		if err := s.Serve(r.listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("registry: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		late, stop := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer stop()
		if s.Shutdown(late) != nil {
			s.Close()
		}
		return nil
	})
	return errors.Join(g.Wait(), r.store.Close())
}
