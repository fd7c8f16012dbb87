package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"patchbay/admin"
	"patchbay/config"
)

// AdminSocket is the operator's interface for whoever may read the control
// plane's data directory, also from another network namespace.
func AdminSocket(data string) string { return filepath.Join(data, "admin.sock") }

// listenSocket serves the admin interface on a Unix socket too. Who may open
// it may read the token beside it as well, so none is asked for.
func (c *control) listenSocket(ctx context.Context, g *errgroup.Group, o admin.Options) error {
	path, err := filepath.Abs(AdminSocket(c.cfg.Data))
	if err != nil {
		return fmt.Errorf("admin socket: %w", err)
	}
	if len(path) > config.MaxSocketPath {
		c.log.Warn("no admin socket: its path is too long", "socket", path, "most", config.MaxSocketPath)
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("admin socket: %w", err)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("admin socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(fmt.Errorf("admin socket: %w", err), l.Close())
	}
	o.Trusted = true
	g.Go(func() error { return admin.Serve(ctx, l, c.adminHandler(o), c.log) })
	return nil
}
