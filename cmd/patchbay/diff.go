package main

import (
	"net/url"

	"github.com/spf13/cobra"

	"patchbay/admin/api"
)

func newDiffCmd() *cobra.Command {
	var o operator
	c := &cobra.Command{
		Use:   "diff NODE",
		Short: "Compare what a sidecar's Envoy has with what it should have",
		Long: `Compares what the Envoy of NODE, a task of the mesh, has by its own dump with
what the control plane wants it to have: clusters, endpoints, secrets, listeners
and routes, field by field. A private key is never shown: one that differs shows
in its certificate and its version.

It exits with 4 if something differs.`,
		Example: `  patchbay diff demo/frontend/f1
  patchbay diff backend -o json`,
		Args:              cobra.ExactArgs(1),
		RunE:              func(c *cobra.Command, args []string) error { return o.diffNode(c, args[0]) },
		ValidArgsFunction: o.completeNames,
	}
	o.flags(c.Flags())
	return c
}

func (o *operator) diffNode(c *cobra.Command, name string) error {
	p, err := o.printer(c)
	if err != nil {
		return err
	}
	client, node, err := o.node(c, name)
	if err != nil {
		return err
	}
	d := &api.Difference{}
	if err := client.Get(c.Context(), "diff", url.Values{"node": {node}}, d); err != nil {
		return hint(err)
	}
	if p.ForPeople() {
		p.Difference(d)
	} else if err := p.Value(d); err != nil {
		return err
	}
	if len(d.Resources) > 0 {
		return problems(len(d.Resources), "difference")
	}
	return nil
}
