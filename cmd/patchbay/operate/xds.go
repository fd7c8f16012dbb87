package operate

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"patchbay/admin/api"
	"patchbay/cmd/patchbay/cli"
	"patchbay/cmd/patchbay/operate/complete"
	"patchbay/diagnose"
	"patchbay/inspect"
)

func newXDSCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "xds",
		Short:   "Show what a sidecar is sent",
		Long:    "Shows what the control plane sends to one Envoy: the resources with their content,\nor each push and its answer as they pass.",
		Example: "  patchbay xds get frontend cds\n  patchbay xds watch frontend",
	}
	c.AddCommand(newXDSGetCmd(), newXDSWatchCmd())
	return c
}

func newXDSGetCmd() *cobra.Command {
	var o operator
	c := &cobra.Command{
		Use:   "get NODE [TYPE] [NAME]",
		Short: "Print the resources that a sidecar is sent",
		Long: `Prints the resources that NODE, a task of the mesh, is sent: cds (clusters), eds
(endpoints), leds (members of collections), sds (secrets), lds (listeners), rds
(routes). For each it says which version was sent, whether Envoy has
acknowledged or rejected it, and in which words. With a NAME, and with
-o wide, json or yaml, the content is printed as well, in Envoy's field names.

A private key is never shown: [redacted] stands in its place.`,
		Example: `  patchbay xds get demo/frontend/f1
  patchbay xds get frontend cds backend.demo
  patchbay xds get backend sds -o json`,
		Args:              cobra.RangeArgs(1, 3),
		RunE:              func(c *cobra.Command, args []string) error { return o.xdsGet(c, args) },
		ValidArgsFunction: complete.Args(o.asked, complete.Nodes, func(*api.Status) []string { return inspect.Kinds }),
	}
	o.flags(c.Flags())
	return c
}

func (o *operator) xdsGet(c *cobra.Command, args []string) error {
	p, err := o.printer(c)
	if err != nil {
		return err
	}
	args = append(args, "", "")
	if args[1] != "" && !slices.Contains(inspect.Kinds, args[1]) {
		return cli.Usage(c, errors.New("type \""+args[1]+"\"; allowed: "+strings.Join(inspect.Kinds, ", ")))
	}
	client, node, err := o.node(c, args[0])
	if err != nil {
		return err
	}
	sent, err := ask[api.Sent](c.Context(), client, "xds", url.Values{"node": {node}, "type": {args[1]}, "name": {args[2]}})
	if err != nil {
		return err
	}
	if args[2] != "" && len(sent.Resources) == 0 && len(sent.Missing) == 0 {
		return cli.Exit(cli.Misused, errors.New(node+" is sent no "+args[1]+" called \""+args[2]+"\"; `patchbay xds get "+args[0]+" "+args[1]+"` lists them"))
	}
	if !p.ForPeople() {
		return p.Value(sent)
	}
	return p.Sent(sent, args[2] != "")
}

func newXDSWatchCmd() *cobra.Command {
	var o operator
	var last time.Duration
	c := &cobra.Command{
		Use:   "watch NODE",
		Short: "Print each push to a sidecar, and its answer, as they pass",
		Long: `Prints each response that NODE, a task of the mesh, is sent from now on, with
its type, names, bytes and nonce, and Envoy's answer to it: an ACK, or a NACK
with Envoy's words, and how long it took. It shows no content: for that,
'patchbay xds get'. It ends with Ctrl-C.

With -o json each line is one event.`,
		Example: `  patchbay xds watch frontend
  patchbay xds watch demo/frontend/f1 --for 1m -o json`,
		Args:              cobra.ExactArgs(1),
		RunE:              func(c *cobra.Command, args []string) error { return o.xdsWatch(c, args[0], last) },
		ValidArgsFunction: complete.Args(o.asked, complete.Nodes),
	}
	o.flags(c.Flags())
	c.Flags().DurationVar(&last, "for", 0, "end after this time (default: with Ctrl-C)")
	return c
}

func (o *operator) xdsWatch(c *cobra.Command, name string, last time.Duration) error {
	p, err := o.printer(c)
	if err != nil {
		return err
	}
	client, node, err := o.node(c, name)
	if err != nil {
		return err
	}
	ctx, cancel := cli.Lasting(c.Context(), last)
	defer cancel()
	err = api.Follow(ctx, client, "/api/v1/xds/watch?"+url.Values{"node": {node}}.Encode(), func(e api.Push) error {
		if !p.ForPeople() {
			return p.Line(e)
		}
		p.Push(e)
		return nil
	})
	return cli.Over(ctx, err)
}

// node is the one sidecar that is meant by a name.
func (o *operator) node(c *cobra.Command, name string) (*api.Client, string, error) {
	client, err := o.client()
	if err != nil {
		return nil, "", err
	}
	st, err := ask[api.Status](c.Context(), client, "status", nil)
	if err != nil {
		return nil, "", err
	}
	node, ok := diagnose.Client(st, name)
	if !ok {
		var all []string
		for _, s := range st.Sidecars {
			all = append(all, s.Node)
		}
		if several := diagnose.Called(st, name); len(several) > 0 {
			return nil, "", cli.Usage(c, fmt.Errorf("more than one sidecar is called %q; name one of these: %s", name, strings.Join(several, ", ")))
		}
		return nil, "", cli.Usage(c, fmt.Errorf("no sidecar is called %q; connected: %s", name, cmp.Or(strings.Join(all, ", "), "none")))
	}
	return client, node, nil
}
