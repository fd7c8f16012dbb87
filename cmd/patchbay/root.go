package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"patchbay/cmd/patchbay/cli"
	"patchbay/cmd/patchbay/operate"
	"patchbay/cmd/patchbay/tasks"
	"patchbay/internal/suggest"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "patchbay",
		Short: "ECS Service Connect for the Envoys that you run yourself",
		Long: `patchbay gives each task a sidecar Envoy, resolves services from AWS Cloud Map
(or its own registry), issues short-lived TLS 1.3 certificates, and keeps every
sidecar current over incremental xDS.`,
		Example: `  patchbay demo                                    the whole mesh on this machine, to look at
  patchbay serve --config patchbay.yaml            the control plane
  patchbay token join --data data --namespace prod \
    --workload backend --discovery-name backend --out join
                                                   let a workload join
  patchbay sidecar --xds HOST:18000 --agent HOST:18001 --join join
                                                   beside each of its applications
  patchbay registry                                AWS Cloud Map on this machine, for any AWS client`,
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return cli.Usage(c, meantFlag(c, err)) })
	root.AddCommand(commands()...)
	strict(root)
	return root
}

// meantFlag adds to the error about an unknown flag the one that was meant.
func meantFlag(c *cobra.Command, err error) error {
	name, unknown := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !unknown {
		return err
	}
	var all []string
	c.Flags().VisitAll(func(f *pflag.Flag) { all = append(all, f.Name) })
	if near := suggest.Near(name, all); near != "" {
		return fmt.Errorf("%w; did you mean --%s?", err, near)
	}
	return err
}

// strict makes c and all below it answer wrong arguments as usage errors.
func strict(c *cobra.Command) {
	for _, sub := range c.Commands() {
		strict(sub)
	}
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return cli.Usage(c, err)
			}
			return nil
		}
	}
}

// misnamed is the error for a word that is no command where one is expected;
// the library shows the help of a group then, as if nothing were wrong.
func misnamed(root *cobra.Command, args []string) error {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd(args...)
	c, rest, _ := root.Find(args)
	i := slices.IndexFunc(rest, func(a string) bool { return !strings.HasPrefix(a, "-") })
	if c.Runnable() || i < 0 || strings.HasPrefix(rest[i], "__complete") {
		return nil
	}
	meant := ""
	c.SuggestionsMinimumDistance = 2
	if near := c.SuggestionsFor(rest[i]); len(near) > 0 {
		meant = "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return cli.Usage(c, fmt.Errorf("%q has no command %q%s", c.CommandPath(), rest[i], meant))
}

// commands lists every subcommand, in the order of `patchbay --help`.
func commands() []*cobra.Command {
	first := []*cobra.Command{newServeCmd(), newRegistryCmd(), newTokenCmd(), newAuditCmd(), newDemoCmd(), newVersionCmd()}
	return slices.Concat(first, tasks.Commands(version()), operate.Commands(version()))
}

// exitCode prints err, if any, the way every subcommand does, and maps it to
// the exit code. A command that ends because ctx was cancelled by a signal has
// stopped cleanly.
func exitCode(ctx context.Context, root *cobra.Command, err error) int {
	if err == nil || ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx))) {
		return cli.Done
	}
	fmt.Fprintln(root.ErrOrStderr(), "patchbay:", err)
	return cli.Code(err)
}
