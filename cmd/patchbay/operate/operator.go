// Package operate has the commands of whoever operates a mesh: those that ask a
// running control plane. Each has a file, with its flags, its help and a call.
//
// It must not know what is wrong with a mesh, nor how it is shown: package
// diagnose judges, diagnose/show prints. Start reading at [Commands].
package operate

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"patchbay/admin/api"
	"patchbay/cmd/patchbay/cli"
	"patchbay/diagnose"
	"patchbay/diagnose/show"
)

// Commands are those that ask a running control plane. Version is the program's.
func Commands(version string) []*cobra.Command {
	return []*cobra.Command{newStatusCmd(), newVerifyCmd(version), newExplainCmd(), newDoctorCmd(version), newXDSCmd(), newCostCmd(), newDiffCmd(), newPageCmd(), newFaultCmd(), newTapCmd(), newShiftCmd()}
}

// operator is what all commands that ask a control plane share.
type operator struct {
	address   string
	tokenFile string
	tls       api.Files
	output    string
}

func (o *operator) flags(f *pflag.FlagSet) {
	o.server(f)
	f.StringVarP(&o.output, "output", "o", show.Text, "what to print: "+strings.Join(show.Formats, ", "))
}

// server says which control plane is asked, and how.
func (o *operator) server(f *pflag.FlagSet) {
	f.StringVar(&o.address, "admin", "", "the control plane's admin interface, http://HOST:PORT, https://HOST:PORT or unix:DATA/admin.sock (default: $PATCHBAY_ADMIN, else "+api.DefaultAddress+")")
	f.StringVar(&o.tls.CA, "tls-ca", "", "file with the CA that verifies the admin interface at https:// (default: $PATCHBAY_ADMIN_TLS_CA, else the system's roots)")
	f.StringVar(&o.tls.Cert, "tls-cert", "", "file with a client certificate to show it in place of the token (default: $PATCHBAY_ADMIN_TLS_CERT)")
	f.StringVar(&o.tls.Key, "tls-key", "", "file with the key of --tls-cert (default: $PATCHBAY_ADMIN_TLS_KEY)")
	f.StringVar(&o.tokenFile, "token-file", "", "file with the admin token; not needed to read on the control plane's machine (default: $PATCHBAY_ADMIN_TOKEN_FILE)")
}

func (o *operator) printer(c *cobra.Command) (*show.Printer, error) {
	p, err := show.New(c.OutOrStdout(), o.output)
	if err != nil {
		return nil, cli.Usage(c, err)
	}
	return p, nil
}

// client is that of the control plane that is meant. What is wrong with how it is
// named is wrong as it was given.
func (o *operator) client() (*api.Client, error) {
	c, err := o.named()
	return c, cli.Given(err)
}

func (o *operator) named() (*api.Client, error) {
	o.address = cmp.Or(o.address, os.Getenv("PATCHBAY_ADMIN"), api.DefaultAddress)
	token := ""
	if file := cmp.Or(o.tokenFile, os.Getenv("PATCHBAY_ADMIN_TOKEN_FILE")); file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("admin token: %w", err)
		}
		token = strings.TrimSpace(string(b))
	}
	client, err := api.New(o.address, token)
	if err != nil {
		return nil, err
	}
	return client, client.Use(api.Files{
		CA: cmp.Or(o.tls.CA, os.Getenv("PATCHBAY_ADMIN_TLS_CA")), Cert: cmp.Or(o.tls.Cert, os.Getenv("PATCHBAY_ADMIN_TLS_CERT")), Key: cmp.Or(o.tls.Key, os.Getenv("PATCHBAY_ADMIN_TLS_KEY")),
	})
}

// status asks for the status and judges it. A control plane that does not
// answer is an error here.
func (o *operator) status(ctx context.Context) (*api.Status, []diagnose.Finding, error) {
	client, err := o.client()
	if err != nil {
		return nil, nil, err
	}
	st, err := ask[api.Status](ctx, client, "status", nil)
	if err != nil {
		return nil, nil, err
	}
	return st, diagnose.Check(&diagnose.Facts{Now: time.Now(), Address: o.address, Status: st}), nil
}

// asked is the status alone.
func (o *operator) asked(ctx context.Context) (*api.Status, error) {
	st, _, err := o.status(ctx)
	return st, err
}

// ask reads a part of what the control plane has. Its error says what to do.
func ask[T any](ctx context.Context, client *api.Client, part string, query url.Values) (*T, error) {
	v := new(T)
	if err := client.Get(ctx, part, query, v); err != nil {
		return nil, cli.Hint(err)
	}
	return v, nil
}

// every calls f now and then each d, until ctx ends or f fails. On a terminal
// the screen shows the newest alone.
func every(ctx context.Context, p *show.Printer, d time.Duration, f func() error) error {
	if d <= 0 {
		return cli.Given(fmt.Errorf("--interval %v; allowed: more than 0s", d))
	}
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		p.Clear()
		if err := f(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
