package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"patchbay/admin"
	"patchbay/admin/page"
	"patchbay/config"
	"patchbay/internal/count"
	"patchbay/tap"
	"patchbay/xds/csds"
)

// serveHTTP serves until ctx ends. What is wrong with single connections is
// logged for debugging alone: strangers can cause it.
func serveHTTP(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, Protocols: &http.Protocols{}, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetHTTP2(true)
	s.Protocols.SetUnencryptedHTTP2(true) // for gRPC on the admin port
	defer context.AfterFunc(ctx, func() { s.Close() })()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return ctx.Err()
}

// adminTLS is how the operator's interface is served; nil: as plain HTTP.
func (c *control) adminTLS() (*tls.Config, error) {
	t := c.cfg.Admin.TLS
	if t == nil {
		return nil, nil
	}
	return admin.TLS(admin.Files{Cert: t.CertFile, Key: t.KeyFile, ClientCA: t.ClientCAFile})
}

// adminOptions are the operator's interface. The token is made at the first
// start unless the configuration names a file.
func (c *control) adminOptions() (admin.Options, error) {
	token, err := adminToken(c.cfg)
	return admin.Options{
		Token: token, Open: config.Loopback(c.cfg.Admin.Listen), Ready: c.notReady, Alive: c.notAlive, Metrics: c.metrics, Log: c.log,
		Parts: map[string]func() any{
			"traffic":      func() any { return c.trafficAnswer() },
			"status":       func() any { return c.statusAnswer() },
			"sidecars":     func() any { return c.cache.Status() },
			"withheld":     func() any { return c.pusher.Withheld() },
			"agents":       func() any { return c.agents.Status() },
			"namespaces":   func() any { return namespacesAnswer(c.namespaces()) },
			"certificates": func() any { return certificatesAnswer(c.rotator, time.Now()) },
		},
		Queries:  c.inspections(c.queries()),
		Handlers: c.watches(c.handlers()),
		Acting:   map[string]http.Handler{"POST /api/v1/fault": c.faults, "POST /api/v1/tap": &tap.Server{Agents: c.agents, Status: c.statusAnswer, Log: c.log}},
		Page:     page.Handler(),
		Actions:  c.actions(),
	}, err
}

// adminTokenFile is where the token is unless the configuration names a file.
func adminTokenFile(data string) string { return filepath.Join(data, "admin-token") }

// csds are the handlers of Envoy's client status discovery protocol.
func (c *control) csds() map[string]http.Handler {
	s, all := csds.New(c.cache), map[string]http.Handler{}
	for _, pattern := range csds.Paths {
		all[pattern] = s
	}
	return all
}

// tokenLeast is how long a token is that nobody guesses; one of ours has 26 characters.
const tokenLeast = 16

func adminToken(cfg config.Config) (string, error) {
	file := cfg.Admin.TokenFile
	if file == "" {
		file = adminTokenFile(cfg.Data)
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) && cfg.Admin.TokenFile == "" {
		text = []byte(rand.Text() + "\n")
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		return "", fmt.Errorf("admin token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if n := len(token); n < tokenLeast {
		remedy := ""
		if cfg.Admin.TokenFile == "" {
			remedy = ". Remove the file: the next start makes a new one"
		}
		return "", fmt.Errorf("admin token: %s has %s; allowed: %d or more%s", file, count.Of(n, "character"), tokenLeast, remedy)
	}
	return token, nil
}

// rotate renews the leaf of ?service=discoveryName.namespace now.
func (c *control) rotate(ctx context.Context, v url.Values) (any, error) {
	for _, s := range c.store.Snapshot().Services {
		if s.Name.String() != v.Get("service") {
			continue
		}
		leaf, err := c.rotator.Rotate(ctx, s.Name)
		if err != nil {
			return nil, err
		}
		return map[string]string{"service": s.Name.String(), "serial": leaf.Serial, "notAfter": leaf.NotAfter.UTC().Format(time.RFC3339)}, nil
	}
	return nil, admin.Invalid{Err: fmt.Errorf("service %q is not in the mesh; ask with ?service=discoveryName.namespace", v.Get("service"))}
}
