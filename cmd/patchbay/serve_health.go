package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"patchbay/cmd/patchbay/cli"
	"patchbay/internal/health"
)

func newServeHealthCmd() *cobra.Command {
	var addr string
	c := &cobra.Command{
		Use:   "health",
		Short: "Ask a running control plane whether it is ready (for container health checks)",
		Long: `Exits 0 when the control plane on this machine answers that it is ready, else 1
with the reasons.`,
		Example: "  patchbay serve health",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			transport, host := &http.Transport{}, addr // no proxy of the environment
			if path, socket := strings.CutPrefix(addr, "unix:"); socket {
				host = "localhost"
				transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, "unix", path)
				}
			}
			client := &http.Client{Timeout: 4 * time.Second, Transport: transport}
			req, err := http.NewRequestWithContext(c.Context(), http.MethodGet, "http://"+host+"/readyz", nil)
			if err != nil {
				return cli.Exit(cli.Misused, fmt.Errorf("--admin %q; allowed: HOST:PORT or unix:DATA/admin.sock", addr))
			}
			resp, err := client.Do(req)
			if err != nil {
				return fmt.Errorf("no control plane answers: %w\nstart it with `patchbay serve`, or name the admin.listen of its configuration with --admin; its log says more", err)
			}
			defer resp.Body.Close()
			var answer struct{ Problems []health.Problem }
			err = json.NewDecoder(resp.Body).Decode(&answer)
			if err != nil || resp.StatusCode != http.StatusOK && len(answer.Problems) == 0 {
				return fmt.Errorf("what answers at %s, with %s, is not the admin interface of a control plane: name that with --admin", addr, resp.Status)
			}
			if resp.StatusCode != http.StatusOK {
				return errors.New("not ready: " + strings.Join(cli.Aged(health.Texts(answer.Problems), answer.Problems), "; "))
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), "ready")
			return err
		},
	}
	c.Flags().StringVar(&addr, "admin", "127.0.0.1:18002", "the control plane's admin port, HOST:PORT, or with admin.tls its socket, unix:DATA/admin.sock")
	return c
}
