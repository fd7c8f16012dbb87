package operate

import (
	"errors"

	"github.com/spf13/cobra"

	"patchbay/admin/api"
	"patchbay/cmd/patchbay/cli"
	"patchbay/cmd/patchbay/operate/complete"
	"patchbay/tap"
)

func newTapCmd() *cobra.Command {
	var o operator
	w := tap.Wanted{}
	c := &cobra.Command{
		Use:   "tap NODE|SERVICE",
		Short: "Show requests through a sidecar as they pass",
		Long: `Shows the requests that a sidecar has passed on, each when it ends (a connection
of tcp, when it is closed): from whom, to which endpoint, with which outcome, and
Envoy's own words where one went wrong. Of a NODE, which may also be a workload or
the name of a task, they are those that come in and those that go out; of a
SERVICE, those that come in to the tasks that offer it.

Nothing is switched on before, and nothing stays: a sidecar shows its requests
while this command looks, for --for at most, and to one at a time. More than
--rate requests a second are not shown; then fewer are sampled, and it says so.

Bodies are never shown, and neither are queries nor headers unless they are asked
for. With --headers, headers that may hold secrets are [redacted]; those that are
shown are a fixed list, of requests that come in.

It needs the admin token, as whatever acts, and stands in the audit log.
With -o json each line is one request.`,
		Example: `  patchbay tap frontend
  patchbay tap backend.demo --status 5xx --for 5m
  patchbay tap demo/frontend/f1 --direction egress --path /api/ --sample 10 -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			w.Name = args[0]
			return o.tap(c, w)
		},
		ValidArgsFunction: complete.Args(o.asked, complete.NodesAndServices),
	}
	o.flags(c.Flags())
	f := c.Flags()
	f.DurationVar(&w.For, "for", tap.DefaultTime, "how long; at most "+tap.MaxTime.String())
	f.Float64Var(&w.Sample, "sample", 100, "percent of the requests that are looked at")
	f.Uint32Var(&w.Rate, "rate", tap.DefaultRate, "how many requests a second of each sidecar may be looked at")
	f.StringVar(&w.Status, "status", "", "only responses of this status: 503, 5xx or 400-499")
	f.StringVar(&w.Path, "path", "", "only paths that begin so")
	f.StringVar(&w.Direction, "direction", "", "ingress, egress or both (default: both of a node, ingress of a service)")
	f.BoolVar(&w.ShowQuery, "query", false, "show paths with their query")
	f.BoolVar(&w.Headers, "headers", false, "show request headers, without secrets")
	return c
}

func (o *operator) tap(c *cobra.Command, w tap.Wanted) error {
	p, err := o.printer(c)
	if err != nil {
		return err
	}
	client, err := o.client()
	if err != nil {
		return err
	}
	var last api.TapEvent
	err = api.FollowPost(c.Context(), client, "/api/v1/tap?"+w.Query().Encode(), func(e api.TapEvent) error {
		switch last = e; {
		case e.Request != nil && p.ForPeople():
			p.Tapped(e.Request)
		case e.Request != nil:
			return p.Line(e.Request)
		case e.Ended:
		case p.ForPeople():
			p.Note(e.At, e.Note)
		default: // lines are requests
			c.PrintErrln(e.Note)
		}
		return nil
	})
	if last.Error != "" {
		return errors.New(last.Error)
	}
	if last.Ended {
		return nil
	}
	return cli.Over(c.Context(), err)
}
