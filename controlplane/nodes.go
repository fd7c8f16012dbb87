package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"patchbay/config"
	"patchbay/mesh"
	"patchbay/xds"
	"patchbay/xds/bootstrap"
	"patchbay/xds/claim"
)

// listenNodes serves ADS on the Unix sockets of workloads. Each file is there
// until ctx ends.
func (c *control) listenNodes(ctx context.Context, g *errgroup.Group) error {
	var all []net.Listener
	var errs []error
	for i, u := range c.cfg.XDS.Unix {
		l, err := listenUnix(ctx, u)
		if err != nil {
			errs = append(errs, fmt.Errorf("xds.unix[%d]: %w", i, err))
			continue
		}
		all = append(all, l)
	}
	if len(errs) > 0 {
		for _, l := range all {
			errs = append(errs, l.Close()) // removes the file
		}
		return errors.Join(errs...)
	}
	for i, u := range c.cfg.XDS.Unix {
		server := xds.NewSocketServer(c.pusher, socketOf(u), xds.ServerConfig{Log: c.log, MaxAge: 45 * time.Minute})
		c.log.Info("a socket for nodes", "socket", u.Path, "mode", fs.FileMode(u.FileMode()).String(), "workload", u.Owner().String())
		g.Go(func() error { return server.Run(ctx, all[i]) })
	}
	return nil
}

func socketOf(u config.Unix) claim.Socket {
	s := claim.Socket{Workload: u.Owner()}
	for _, p := range u.Ports {
		port := bootstrap.Port{PortName: p.PortName, DiscoveryName: p.Name(), Protocol: mesh.Protocol(p.Protocol), AppPort: p.AppPort}
		if p.Issuer != "" {
			port.TLS = &bootstrap.PortTLS{Issuer: p.Issuer}
		}
		s.Ports = append(s.Ports, claim.Port{Port: port, Container: p.Container})
	}
	return s
}

// listenUnix opens a socket, in place of one that nobody serves any more. At no
// time may others open it than its mode allows.
func listenUnix(ctx context.Context, u config.Unix) (net.Listener, error) {
	if err := removeStale(ctx, u.Path); err != nil {
		return nil, err
	}
	closed := func(_, _ string, raw syscall.RawConn) (err error) {
		// The file gets the permissions that the socket has when it is bound.
		if e := raw.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), 0o600) }); e != nil {
			return e
		}
		return err
	}
	l, err := (&net.ListenConfig{Control: closed}).Listen(ctx, "unix", u.Path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(u.Path, fs.FileMode(u.FileMode())); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// removeStale removes a socket that a killed process left. A file of another
// kind, and a socket that somebody serves, stay.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is there and is no socket: remove it, or choose another path", path)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(fmt.Errorf("another process serves %s: stop it, or choose another path", path), conn.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%s is there, and whether somebody serves it is unknown: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
