package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"patchbay/identity"
)

func newTokenCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "token",
		Short: "Let workloads join the mesh",
		Long: `A workload joins with a key of its own: its agent makes a one-time proof from
the key at each start and exchanges it for a short-lived node certificate.

This command works on the control plane's data directory and needs no running
control plane; a running one finds a new key by itself.`,
		Example: `  patchbay token join --data data --namespace prod --workload frontend --out join
                                                   a workload that only calls others`,
	}
	c.AddCommand(newTokenJoinCmd(), newTokenAdminCmd())
	return c
}

func newTokenJoinCmd() *cobra.Command {
	var r identity.JoinRequest
	var asJSON bool
	c := &cobra.Command{
		Use:   "join",
		Short: "Register a workload and make its join directory",
		Long: `Registers a workload with the control plane and writes a directory for its
agent: join.json, join.key (0600) and ca.pem. Give the directory to the
workload's tasks alone, and to the agent with --join.

The workload may offer the given discoveryNames and no others; without any it
is client-only. Running the command again changes nothing unless the
discoveryNames differ or the directory is gone.`,
		Example: `  patchbay token join --data /var/lib/patchbay --namespace prod \
    --workload backend --discovery-name backend --out /join/backend`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			done, err := identity.MakeJoin(r)
			if errors.Is(err, identity.ErrRequest) {
				return usage(c, err)
			}
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(map[string]any{"changed": len(done.Changed) > 0, "did": done.Changed, "join": done.Info, "directory": r.Out})
			}
			for _, did := range done.Changed {
				fmt.Fprintln(c.OutOrStdout(), did)
			}
			fmt.Fprintf(c.OutOrStdout(), "%s/%s may join with %s (key %s)\n", done.Info.Namespace, done.Info.Workload, r.Out, done.Info.KeyID)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&r.Data, "data", "", "the control plane's data directory")
	f.StringVar(&r.TrustDomain, "trust-domain", "", "trustDomain of the control plane's configuration (default: that of the data directory's CA, else "+identity.DefaultTrustDomain+")")
	f.StringVar(&r.Workload.Namespace, "namespace", "", "the workload's Cloud Map namespace")
	f.StringVar(&r.Workload.Name, "workload", "", "the workload's name")
	f.StringArrayVar(&r.Workload.DiscoveryNames, "discovery-name", nil, "a discoveryName that the workload may offer (repeat for more)")
	f.StringVar(&r.Out, "out", "", "the directory to make")
	f.BoolVar(&r.NewKey, "new-key", false, "make a new key even where the directory holds a good one")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func newTokenAdminCmd() *cobra.Command {
	var data string
	c := &cobra.Command{
		Use:   "admin",
		Short: "Print the token of the admin interface",
		Long: `Prints the token that the control plane has made at its first start. Callers
that are not on its own machine need it for everything but /healthz and /readyz.`,
		Example: `  curl -H "Authorization: Bearer $(docker compose exec -T patchbay patchbay token admin --data /data)" \
    http://127.0.0.1:18002/api/v1/agents`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			text, err := os.ReadFile(adminTokenFile(data))
			if err != nil {
				return fmt.Errorf("%w: the control plane makes it at its first start, unless its configuration names an admin.tokenFile", err)
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), strings.TrimSpace(string(text)))
			return err
		},
	}
	c.Flags().StringVar(&data, "data", "./data", "the control plane's data directory")
	return c
}
