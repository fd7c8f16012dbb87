package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"patchbay/cmd/patchbay/cli"
	"patchbay/controlplane"
	"patchbay/identity"
	"patchbay/identity/join"
	"patchbay/identity/registered"
	"patchbay/identity/taskrole"
)

func newTokenCmd() *cobra.Command {
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
	c.AddCommand(newTokenJoinCmd(), newTokenListCmd(), newTokenWithdrawCmd(), newTokenAdminCmd())
	return c
}

func newTokenJoinCmd() *cobra.Command {
	var r identity.JoinRequest
	var asJSON, byTask, byInstance bool
	c := &cobra.Command{
		Use:   "join",
		Short: "Register a workload and make its join directory",
		Long: `Registers a workload with the control plane and writes a directory for its
agent: join.json, join.key and ca.pem, all 0600. Give the directory to the
workload's tasks alone, and to the agent with --join: whoever has the key can
be the workload.

The workload may offer the given discoveryNames and no others; without any it
is client-only. Give all of them each time: they replace those of before.

Running the command again changes nothing if the directory and the registration
are as asked; it prints what it did. A second --out is a second key for the same
workload, for another machine. With --new-key the directory gets a new key,
which agents that are running take up within a minute; the key of before goes
on to count until 'patchbay token withdraw'.

With --task-role the directory has no key, and nothing in it is secret: the
tasks of an ECS service prove their AWS role instead, and with --instance-role
EC2 instances that of their instance profile (docs/reference/task-roles.md).
Nothing is registered then, and --json prints the files, too: for a command that
runs where nobody can fetch them. The data directory has to be that of a control
plane, or --trust-domain says what one that starts on it later will have.`,
		Example: `  patchbay token join --data /var/lib/patchbay --namespace prod \
    --workload backend --discovery-name backend --out /join/backend
  patchbay token join --data /var/lib/patchbay --task-role --namespace prod \
    --workload backend --discovery-name backend --out join
  docker compose run --rm backend-join             the same in containers, as inject writes it`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case byTask:
				r.ByRole = taskrole.KeyID
			case byInstance:
				r.ByRole = taskrole.InstanceKeyID
			}
			done, err := identity.MakeJoin(r)
			if errors.Is(err, identity.ErrRequest) {
				return cli.Usage(c, err)
			}
			if err != nil {
				return cli.Given(err)
			}
			if done.NewCA && r.ByRole != "" { // with a key it is the usual first step
				fmt.Fprintf(c.ErrOrStderr(), "note: %s had no control plane's CA, and got one: who joins with %s trusts a control plane with this data directory and no other\n", r.Data, r.Out)
			}
			return printJoined(c.OutOrStdout(), r, done, asJSON)
		},
	}
	joinFlags(c.Flags(), &r)
	f := c.Flags()
	f.BoolVar(&byTask, "task-role", false, "no key: the workload's tasks join by their AWS role, which identities.taskRoles of the control plane's file names")
	f.BoolVar(&byInstance, "instance-role", false, "no key: the workload's EC2 instances join by their AWS role, which identities.instanceRoles of the control plane's file names")
	c.MarkFlagsMutuallyExclusive("task-role", "instance-role")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// joinFlags are those that say what is asked for.
func joinFlags(f *pflag.FlagSet, r *identity.JoinRequest) {
	f.StringVar(&r.Data, "data", "", "the control plane's data directory")
	f.StringVar(&r.TrustDomain, "trust-domain", "", "trustDomain of the control plane's configuration (default: that of the data directory's CA, else "+identity.DefaultTrustDomain+")")
	f.StringVar(&r.Workload.Namespace, "namespace", "", "the workload's Cloud Map namespace")
	f.StringVar(&r.Workload.Name, "workload", "", "the workload's name")
	f.StringArrayVar(&r.Workload.DiscoveryNames, "discovery-name", nil, "a discoveryName that the workload may offer (repeat for more)")
	f.StringVar(&r.Out, "out", "", "the directory to make")
	f.BoolVar(&r.NewKey, "new-key", false, "make a new key even where the directory holds a good one")
}

// printJoined says what was done, and of which directory.
func printJoined(out io.Writer, r identity.JoinRequest, done identity.Joined, asJSON bool) error {
	if asJSON {
		did := append([]string{}, done.Changed...) // [] in JSON
		answer := map[string]any{"changed": len(did) > 0, "did": did, "join": done.Info, "directory": r.Out}
		if r.ByRole != "" { // no secret is in them
			files, err := join.PublicFiles(r.Out)
			if err != nil {
				return err
			}
			answer["files"] = files
		}
		return json.NewEncoder(out).Encode(answer)
	}
	for _, did := range done.Changed {
		fmt.Fprintln(out, did)
	}
	fmt.Fprintf(out, "%s/%s may join with %s (key %s)\n", done.Info.Namespace, done.Info.Workload, r.Out, done.Info.KeyID)
	return nil
}

func newTokenListCmd() *cobra.Command {
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

func newTokenWithdrawCmd() *cobra.Command {
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
