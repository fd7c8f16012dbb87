package token

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"patchbay/cmd/patchbay/cli"
	"patchbay/config"
	"patchbay/identity"
	"patchbay/identity/join"
	"patchbay/identity/taskrole"
)

func newJoinCmd() *cobra.Command {
	var o joinOptions
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
plane, or --trust-domain says what one that starts on it later will have.

With --config the command takes both from the control plane's file, and refuses a
role that the file would not let in.`,
		Example: `  patchbay token join --data /var/lib/patchbay --namespace prod \
    --workload backend --discovery-name backend --out /join/backend
  patchbay token join --config patchbay.yaml --task-role --namespace prod \
    --workload backend --discovery-name backend --out join
  docker compose run --rm backend-join             the same in containers, as inject writes it`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c) },
	}
	f := c.Flags()
	o.flags(f)
	f.BoolVar(&o.byTask, "task-role", false, "no key: the workload's tasks join by their AWS role, which identities.taskRoles of the control plane's file names")
	f.BoolVar(&o.byInstance, "instance-role", false, "no key: the workload's EC2 instances join by their AWS role, which identities.instanceRoles of the control plane's file names")
	c.MarkFlagsMutuallyExclusive("task-role", "instance-role")
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	return c
}

// joinOptions are the flags of join.
type joinOptions struct {
	identity.JoinRequest
	byTask, byInstance, asJSON bool
	config                     string // the control plane's file
}

// flags are those that say what is asked for.
func (o *joinOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.Data, "data", "", "the control plane's data directory")
	f.StringVar(&o.config, "config", "", "the control plane's configuration: names --data and --trust-domain, and who may join by a role")
	f.StringVar(&o.TrustDomain, "trust-domain", "", "trustDomain of the control plane's configuration (default: that of the data directory's CA, else "+identity.DefaultTrustDomain+")")
	f.StringVar(&o.Workload.Namespace, "namespace", "", "the workload's Cloud Map namespace")
	f.StringVar(&o.Workload.Name, "workload", "", "the workload's name")
	f.StringArrayVar(&o.Workload.DiscoveryNames, "discovery-name", nil, "a discoveryName that the workload may offer (repeat for more)")
	f.StringVar(&o.Out, "out", "", "the directory to make")
	f.BoolVar(&o.NewKey, "new-key", false, "make a new key even where the directory holds a good one")
}

func (o *joinOptions) run(c *cobra.Command) error {
	key := "" // of identities in the control plane's file
	switch {
	case o.byTask:
		o.ByRole, key = taskrole.KeyID, "taskRoles"
	case o.byInstance:
		o.ByRole, key = taskrole.InstanceKeyID, "instanceRoles"
	}
	if err := o.fromConfig(key); err != nil {
		return err
	}
	done, err := identity.MakeJoin(o.JoinRequest)
	if errors.Is(err, identity.ErrRequest) {
		return cli.Usage(c, err)
	}
	if err != nil {
		return cli.Given(err)
	}
	note := func(format string, args ...any) { fmt.Fprintf(c.ErrOrStderr(), "note: "+format+"\n", args...) }
	if done.NewCA && key != "" { // with a key it is the usual first step
		note("%s had no control plane's CA, and got one: who joins with %s trusts a control plane with this data directory and no other", o.Data, o.Out)
	}
	if key != "" && o.config == "" {
		note("%s joins only where identities.%s of the control plane's file names it, which was not looked at; allowed: --config FILE", o.Workload, key)
	}
	return printJoined(c.OutOrStdout(), o.JoinRequest, done, o.asJSON)
}

// fromConfig takes from the control plane's file what no flag says, and holds who
// is to join by a role against what stands there.
func (o *joinOptions) fromConfig(key string) error {
	if o.config == "" {
		return nil
	}
	cfg, err := config.Load(o.config)
	if err != nil {
		return cli.Given(err)
	}
	o.Data, o.TrustDomain = cmp.Or(o.Data, cfg.Data), cmp.Or(o.TrustDomain, cfg.TrustDomain)
	if key == "" {
		return nil
	}
	if err := cfg.Admits(key, o.Workload.Namespace, o.Workload.Name, o.Workload.DiscoveryNames); err != nil {
		return cli.Given(fmt.Errorf("%s: %w\nnothing was made: the control plane would let nobody in with it", o.config, err))
	}
	return nil
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
