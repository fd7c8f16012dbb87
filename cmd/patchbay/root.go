package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"patchbay/cmd/patchbay/cli"
	"patchbay/cmd/patchbay/operate"
	"patchbay/cmd/patchbay/tasks"
	"patchbay/cmd/patchbay/token"
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
	addCommands(root)
	codes := "\nExit codes:\n"
	for code, means := range cli.Codes {
		codes += fmt.Sprintf("  %d  %s\n", code, strings.ReplaceAll(means, "\n", "\n     "))
	}
	root.SetUsageTemplate(root.UsageTemplate() + "{{if not .HasParent}}" + codes + "{{end}}")
	cli.Strict(root)
	return root
}

// besides is the group of what is about this program itself.
const besides = "Besides:"

// groups are the commands as the root's help shows them, those that are used
// most first.
var groups = []struct{ title, names string }{
	{"Run the mesh:", "demo serve token registry"},
	{"Put tasks into it:", "inject uninject sidecar task pause import"},
	{"Look at it:", "status doctor explain tap page verify diff xds audit cost"},
	{"Change it:", "shift fault"},
	{besides, "version"},
}

// Commands stand in the order of groups; for cobra that is one setting for all.
func init() { cobra.EnableCommandSorting = false }

func addCommands(root *cobra.Command) {
	all := []*cobra.Command{newServeCmd(), newRegistryCmd(), token.Command(), newAuditCmd(), newDemoCmd(), newVersionCmd()}
	all = slices.Concat(all, tasks.Commands(version()), operate.Commands(version()))
	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.title, Title: g.title})
		for name := range strings.FieldsSeq(g.names) {
			i := slices.IndexFunc(all, func(c *cobra.Command) bool { return c.Name() == name })
			all[i].GroupID = g.title
			root.AddCommand(all[i])
		}
	}
	root.SetHelpCommandGroupID(besides)
	root.SetCompletionCommandGroupID(besides)
}

// misnamed is the error for a word that is no command where one is expected;
// the library shows the help of a group then, as if nothing were wrong.
func misnamed(root *cobra.Command, args []string) error {
	if len(args) > 0 && args[0] == "help" {
		args = args[1:]
	}
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd(args...)
	c, rest, _ := root.Find(args)
	i := slices.IndexFunc(rest, func(a string) bool { return !strings.HasPrefix(a, "-") })
	if c.Runnable() || i < 0 || strings.HasPrefix(rest[i], "__complete") {
		return nil
	}
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	meant := "; there are: " + strings.Join(names, ", ")
	c.SuggestionsMinimumDistance = 2
	if near := c.SuggestionsFor(rest[i]); len(near) > 0 {
		meant = "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return cli.Usage(c, fmt.Errorf("%q has no command %q%s", c.CommandPath(), rest[i], meant))
}

// perform is the program: it does what args say, and returns the exit code.
func perform(ctx context.Context, root *cobra.Command, args []string) int {
	root.SetArgs(args)
	root.SetFlagErrorFunc(func(c *cobra.Command, _ error) error {
		_, rest, _ := root.Find(args) // it has been found
		return cli.WrongFlags(c, rest)
	})
	err := misnamed(root, args)
	if err == nil {
		err = root.ExecuteContext(ctx)
	}
	return exitCode(ctx, root, err)
}

// exitCode prints err, if any, the way every subcommand does, and maps it to
// the exit code. A command that ends because ctx was cancelled by a signal has
// stopped cleanly.
func exitCode(ctx context.Context, root *cobra.Command, err error) int {
	if err == nil || ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx))) {
		return cli.Done
	}
	cli.Print(root.ErrOrStderr(), err)
	return cli.Code(err)
}
