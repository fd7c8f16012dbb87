package controlplane

import (
	"cmp"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"patchbay/admin"
	"patchbay/admin/page"
	"patchbay/config"
	"patchbay/controlplane/answers"
	"patchbay/identity/durable"
	"patchbay/internal/count"
)

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
	var err error
	o := c.answers.Interface(c.watch)
	o.Token, err = AdminToken(c.cfg)
	o.Open, o.Ready, o.Alive = config.Loopback(c.cfg.Admin.Listen), c.notReady, c.notAlive
	o.Metrics, o.Page, o.Log = c.metrics, page.Handler(), c.log
	return o, err
}

// adminHandler serves the admin interface.
func (c *control) adminHandler(o admin.Options) http.Handler {
	return answers.Audited(admin.Handler(o), c.audit.Record)
}

// AdminTokenFile is where the token of the admin interface is, in the control
// plane's data directory, unless the configuration names another file.
func AdminTokenFile(data string) string { return filepath.Join(data, "admin-token") }

// tokenLeast is how long a token is that nobody guesses; one of ours has 26 characters.
const tokenLeast = 16

// AdminToken is the token of the admin interface. If there is none, and the
// configuration names no file, it is made.
func AdminToken(cfg config.Config) (string, error) {
	file := cfg.Admin.TokenFile
	if file == "" {
		file = AdminTokenFile(cfg.Data)
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) && cfg.Admin.TokenFile == "" {
		text = []byte(rand.Text() + "\n")
		err = durable.WriteFile(file, text, 0o600) // half a token would stay for good
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

// noFaults says why a mesh may not be broken on purpose; empty: it is a local
// one.
func noFaults(cfg config.Config) string {
	switch {
	case cfg.Registry == nil:
		return "faults are made on local meshes only: the registry of this one is " + cmp.Or(cfg.CloudMap.Endpoint, "AWS Cloud Map") + ", so its services may be others' too"
	case cfg.Registry.Etcd != nil:
		return "faults are made on local meshes only: the registry of this one is shared through etcd, so its services are others' too"
	}
	return ""
}
