package operate

import (
	"github.com/spf13/cobra"

	"patchbay/cmd/patchbay/cli"
	"patchbay/cmd/patchbay/operate/complete"
	"patchbay/diagnose/gather"
	"patchbay/diagnose/hops"
	"patchbay/diagnose/show"
)

func newExplainCmd() *cobra.Command {
	var o operator
	var live bool
	c := &cobra.Command{
		Use:   "explain CLIENT URL",
		Short: "Say at which hop a call fails, and why",
		Long: `Walks a call from the application of CLIENT, a task of the mesh, to that of the
service: name, listener, route, cluster, endpoints, TLS, ingress, application. It
compares what the sidecars have with what the control plane wants them to have,
has the client's agent shake hands with every endpoint, and prints the one hop
that fails with its cause, the evidence and the fix. Below stands what holds for
the call, and whose word it is: timeouts, retries, outlier detection, balancing,
limits, from the caller's policies, the service's, its ECS block or a preset.

With --live the client's agent makes the call, too, and each sidecar on the way
shows what it counted: the application of the service sees one GET request (of
a tcp service: one connection without data).

It exits with 4 if the call fails.`,
		Example: `  patchbay explain demo/frontend/frontend http://backend.demo:8080
  patchbay explain frontend http://backend.demo:8080/health --live
  patchbay explain worker tcp://db.prod:5432 -o json`,
		Args:              cobra.ExactArgs(2),
		RunE:              func(c *cobra.Command, args []string) error { return o.explain(c, args[0], args[1], live) },
		ValidArgsFunction: complete.Args(o.asked, complete.Nodes, complete.Addresses),
	}
	o.flags(c.Flags())
	c.Flags().BoolVar(&live, "live", false, "make the call for real, and show what each sidecar counts")
	return c
}

func (o *operator) source() (gather.Source, error) {
	client, err := o.client()
	return gather.Source{Client: client, Address: o.address}, err
}

// ExplainOutput is what -o json prints.
type ExplainOutput struct {
	*hops.Walk
	Live *gather.Live `json:"live,omitempty"`
}

func (o *operator) explain(c *cobra.Command, client, address string, live bool) error {
	p, err := o.printer(c)
	if err != nil {
		return err
	}
	src, err := o.source()
	if err != nil {
		return err
	}
	done := show.Wait(c.ErrOrStderr(), "asking the sidecars")
	facts, err := src.Explain(c.Context(), client, address)
	done()
	if err != nil {
		return err
	}
	w, err := hops.Explain(facts, client, address)
	if err != nil {
		return cli.Usage(c, err)
	}
	out := ExplainOutput{Walk: w}
	if live && w.Service != "" {
		nodes := []string{w.Client}
		for n := range facts.Tasks {
			if n != w.Client {
				nodes = append(nodes, n)
			}
		}
		if out.Live, err = src.Call(c.Context(), w.Client, w.URL, nodes); err != nil {
			return cli.Hint(err)
		}
		hops.Called(w, out.Live.Called, out.Live.Counts[w.Client])
	}
	if p.ForPeople() {
		p.Walk(w, out.Live)
	} else if err := p.Value(out); err != nil {
		return err
	}
	if w.Finding != nil {
		return cli.Found(1, "failing hop")
	}
	return nil
}
