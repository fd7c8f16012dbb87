// Package devca sets up and runs a real smallstep authority
// (github.com/smallstep/certificates) for laptops, containers and tests: one
// root, one intermediate, one JWK provisioner, TLS 1.3, P-256 everywhere.
//
// It owns the authority's directory and the files that its clients need. It
// must not know the mesh, and the patchbay binary must not import it: only
// cmd/devca and tests run an authority.
//
// Start reading at [Run], then [Init].
package devca

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/smallstep/certificates/authority/config"
	"github.com/smallstep/certificates/ca"
	_ "github.com/smallstep/certificates/cas/softcas" // the authority's own signer
	"github.com/smallstep/certificates/db"
)

// Provisioner is the name of the one JWK provisioner that an authority has.
const Provisioner = "patchbay"

// Defaults of [Options].
const (
	DefaultName   = "patchbay dev"
	DefaultListen = "127.0.0.1:9000"
	// DefaultMinLifetime is low, so that a demo can show a renewal. The
	// authority counts its backdating too, so this is no bound to rely on.
	DefaultMinLifetime = 10 * time.Second
	// DefaultMaxLifetime is the life of a Service Connect certificate.
	DefaultMaxLifetime = 7 * 24 * time.Hour
)

// Options describe one authority. What is zero keeps what the directory has,
// or gets the default when the directory is new.
type Options struct {
	Dir    string   // everything of the authority; made 0700
	Share  string   // where the files for clients go; empty: Dir
	Name   string   // of the authority, in its subjects; fixed once made
	Names  []string // DNS names and IP addresses by which clients call it; the first is in the URL
	Listen string   // host:port

	MinLifetime, MaxLifetime time.Duration // of the certificates that it signs

	// Database keeps used one-time tokens and issued certificates in a bbolt
	// file, so that a token can't be used twice across a restart either.
	Database bool
}

// problems lists all that is wrong with o.
func (o Options) problems() error {
	var all []error
	if o.Dir == "" {
		all = append(all, errors.New("dir: missing; allowed: a directory of the authority's own"))
	}
	for _, n := range o.Names {
		if n == "" || strings.ContainsAny(n, " :/") && net.ParseIP(n) == nil {
			all = append(all, fmt.Errorf("dns: %q; allowed: DNS names and IP addresses, without port", n))
		}
	}
	if o.Listen != "" {
		if _, _, err := net.SplitHostPort(o.Listen); err != nil {
			all = append(all, fmt.Errorf("listen: %q; allowed: HOST:PORT or :PORT", o.Listen))
		}
	}
	if o.MinLifetime < 0 || o.MaxLifetime < 0 || o.MaxLifetime > 0 && o.MinLifetime > o.MaxLifetime {
		all = append(all, fmt.Errorf("lifetimes: %s to %s; allowed: positive, the minimum not above the maximum", o.MinLifetime, o.MaxLifetime))
	}
	return errors.Join(all...)
}

// Run runs the authority until ctx ends, and initialises it first when its
// directory is new. Port 0 means any free port; the url file then names it.
// It ends with nil when ctx ended and the authority stopped cleanly.
func Run(ctx context.Context, o Options, log *slog.Logger) error {
	if err := freePort(&o); err != nil {
		return err
	}
	client, err := Init(ctx, o)
	if err != nil {
		return err
	}
	path := o.file(configFile)
	cfg, err := config.LoadConfiguration(path)
	if err != nil {
		return fmt.Errorf("configuration of the authority: %w", err)
	}
	authority, err := ca.New(cfg, ca.WithConfigFile(path), ca.WithQuiet(true))
	if err != nil {
		return fmt.Errorf("start the authority of %s: %w", o.Dir, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- authority.Run() }()
	log.Info("authority running", "url", client.URL, "fingerprint", client.Fingerprint, "listen", cfg.Address, "names", cfg.DNSNames)
	select {
	case err := <-ended:
		return fmt.Errorf("authority on %s: %w", cfg.Address, err)
	case <-ctx.Done():
	}
	if err := authority.Stop(); err != nil {
		return fmt.Errorf("stop the authority: %w", err)
	}
	if err := <-ended; err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("authority on %s: %w", cfg.Address, err)
	}
	log.Info("authority stopped")
	return nil
}

// freePort turns port 0 into a free one: the authority opens its listener
// itself, by its configuration, and clients need to know the port.
func freePort(o *Options) error {
	host, port, err := net.SplitHostPort(o.Listen)
	if err != nil || port != "0" {
		return nil //nolint:nilerr // a malformed address is the authority's to refuse
	}
	l, err := net.Listen("tcp", o.Listen) //nolint:noctx // closed at once
	if err != nil {
		return fmt.Errorf("find a free port: %w", err)
	}
	_, port, _ = net.SplitHostPort(l.Addr().String())
	o.Listen = net.JoinHostPort(host, port)
	return l.Close()
}

// update writes what o asks for into an existing configuration. Keys and
// provisioner stay.
func update(path string, o Options) (*config.Config, error) {
	cfg, err := config.LoadConfiguration(path)
	if err != nil {
		return nil, fmt.Errorf("configuration of the authority: %w", err)
	}
	before := *cfg
	o.place(cfg) // the directory may have moved
	claims := cfg.AuthorityConfig.Claims
	oldMin, oldMax := claims.MinTLSDur.Duration, claims.MaxTLSDur.Duration
	if len(o.Names) > 0 {
		cfg.DNSNames = o.Names
	}
	if o.Listen != "" {
		cfg.Address = o.Listen
	}
	setLifetimes(claims, o)
	if o.Database && cfg.DB == nil {
		cfg.DB = &db.Config{Type: "bbolt"}
		o.place(cfg)
	}
	if slices.Equal(before.Root, cfg.Root) && slices.Equal(before.DNSNames, cfg.DNSNames) && before.Address == cfg.Address && before.DB == cfg.DB &&
		oldMin == claims.MinTLSDur.Duration && oldMax == claims.MaxTLSDur.Duration {
		return cfg, nil
	}
	if err := cfg.Save(path + ".new"); err != nil {
		return nil, fmt.Errorf("configuration of the authority: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return nil, fmt.Errorf("configuration of the authority: %w", err)
	}
	return cfg, nil
}
