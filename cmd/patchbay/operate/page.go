package operate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/spf13/cobra"

	"patchbay/admin/api"
	"patchbay/admin/page"
	"patchbay/cmd/patchbay/cli"
)

func newPageCmd() *cobra.Command {
	var o operator
	var listen string
	c := &cobra.Command{
		Use:   "page",
		Short: "Show the mesh in a browser: map, traffic, certificates, findings",
		Long: `Serves the control plane's page to browsers of this machine, also where the
control plane is reached over a Unix socket, in another network namespace or
with a token: none of them is handed to the browser. It only reads, and runs
until Ctrl-C. A control plane on this machine shows the same page itself, at
` + api.DefaultAddress + `.`,
		Example: `  patchbay page
  patchbay page --admin unix:data/admin.sock --listen 127.0.0.1:8088
  patchbay page --admin https://patchbay.internal --token-file admin-token`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return showPage(c, &o, listen) },
	}
	o.server(c.Flags())
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "the port of this machine to serve it on: 127.0.0.1:PORT; 0 is any that is free")
	return c
}

func showPage(c *cobra.Command, o *operator, listen string) error {
	client, err := o.client()
	if err != nil {
		return err
	}
	events := func(ctx context.Context) (io.ReadCloser, error) { return client.Stream(ctx, "/events") }
	service := func(ctx context.Context, name string) (any, error) {
		d := &api.ServiceDetail{}
		err := client.Get(ctx, "service", url.Values{"name": {name}}, d)
		return d, err
	}
	l, err := page.Listen(c.Context(), listen)
	if errors.Is(err, page.ErrNotLoopback) {
		return cli.Usage(c, fmt.Errorf("--listen %s: %w", listen, err))
	}
	if err != nil {
		return err
	}
	first, err := events(c.Context())
	if err != nil {
		l.Close()
		return cli.Hint(err)
	}
	first.Close()
	fmt.Fprintf(c.OutOrStdout(), "http://%s/ shows the mesh (Ctrl-C ends it)\n", l.Addr())
	return page.Serve(c.Context(), l, page.Local(events, service))
}
