// Package token has the commands that let workloads join: they work on the control
// plane's data directory.
//
// It must not know how a workload proves itself: that is package identity's. Start
// reading at [Command].
package token

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"patchbay/cmd/patchbay/cli"
	"patchbay/controlplane"
	"patchbay/identity"
	"patchbay/identity/registered"
)

// Command is `patchbay token`.
func Command() *cobra.Command {
	c := &cobra.Command{
		Use:   "token",
		Short: "Let workloads join the mesh",
		Long: `A workload joins with a key of its own: its agent makes a one-time proof from
the key and exchanges it for a short-lived node certificate.

These commands work on the control plane's data directory and need no running
control plane; a running one follows what they change within seconds.`,
		Example: `  patchbay token join --data data --namespace prod --workload frontend --out join
                                                   a workload that only calls others
  patchbay token list --data data                  who may join, and with which keys`,
	}
	c.AddCommand(newJoinCmd(), newListCmd(), newWithdrawCmd(), newAdminCmd())
	return c
}

func newListCmd() *cobra.Command {
	var data string
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List who may join, and with which keys",
		Long: `Lists the registered workloads with the discoveryNames that they may offer and
the ids of their join keys. A key's id is its JWK thumbprint (RFC 7638); the
same stands as keyId in a join directory's join.json, and in the control plane's
log where a node certificate is issued.`,
		Example: `  patchbay token list --data /var/lib/patchbay --json`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := registered.All(data)
			if _, plane := os.Stat(identity.ControlDir(data)); errors.Is(err, os.ErrNotExist) && plane == nil {
				err = nil // nobody yet
			}
			if errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("no workload is registered in %s (%w)\nname the control plane's data directory with --data, or register one there with `patchbay token join`", data, err)
			}
			if asJSON {
				return errors.Join(err, json.NewEncoder(c.OutOrStdout()).Encode(append([]registered.Registration{}, all...)))
			}
			if len(all) == 0 && err == nil {
				fmt.Fprintf(c.ErrOrStderr(), "no workload is registered in %s: `patchbay token join` registers one\n", data)
			}
			for _, r := range all {
				fmt.Fprintf(c.OutOrStdout(), "%s offers %q\n", r.AsWorkload(), r.DiscoveryNames)
				for _, k := range r.Keys {
					fmt.Fprintf(c.OutOrStdout(), "  key %s\n", k.KeyID)
				}
			}
			return err
		},
	}
	c.Flags().StringVar(&data, "data", "./data", "the control plane's data directory")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func newWithdrawCmd() *cobra.Command {
	var data, namespace, workload, key string
	var all bool
	c := &cobra.Command{
		Use:   "withdraw",
		Short: "Take a join key, or a whole workload, out of the mesh",
		Long: `Withdraws a join key: nobody can join with it any more, and the control plane
ends the connections of the tasks that came with it within six seconds. A task
whose join directory has another key by then joins with that one.

With --all the workload itself is withdrawn. Its tasks lose their connections
to the control plane; their Envoys keep the configuration and the certificates
that they have until those end, so stop the tasks as well.

Withdrawing what is not registered is no error.`,
		Example: `  patchbay token join --data data --namespace prod --workload backend \
    --discovery-name backend --out join --new-key  a new key first; running agents take it up within a minute
  patchbay token list --data data                  the id of the old one
  patchbay token withdraw --data data --namespace prod --workload backend --key=ID`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if (key == "") != all {
				return cli.Usage(c, errors.New("allowed: either --key=ID, or --all for the whole workload"))
			}
			did, err := identity.Withdraw(data, namespace, workload, key)
			if errors.Is(err, identity.ErrRequest) {
				return cli.Usage(c, err)
			}
			if err != nil {
				return err
			}
			what := namespace + "/" + workload
			if key != "" {
				what = "key " + key + " of " + what
			}
			if did {
				fmt.Fprintln(c.OutOrStdout(), what, "is withdrawn")
			} else {
				fmt.Fprintln(c.OutOrStdout(), what, "was not registered")
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&data, "data", "./data", "the control plane's data directory")
	f.StringVar(&namespace, "namespace", "", "the workload's namespace")
	f.StringVar(&workload, "workload", "", "the workload's name")
	f.StringVar(&key, "key", "", "id of the key to withdraw")
	f.BoolVar(&all, "all", false, "withdraw the workload itself")
	return c
}

func newAdminCmd() *cobra.Command {
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
			text, err := os.ReadFile(controlplane.AdminTokenFile(data))
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
