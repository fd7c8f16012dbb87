package operate

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"patchbay/admin/api"
	"patchbay/cmd/patchbay/cli"
	"patchbay/cmd/patchbay/operate/complete"
	"patchbay/fault"
)

func newFaultCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "fault",
		Short: "Break a local mesh on purpose, for a while",
		Long: `Breaks a mesh on this machine on purpose, to see what its applications make of
it, and reports the requests that failed meanwhile. Every fault ends by itself,
after --for, and on Ctrl-C, and leaves the mesh as it was; none is written
anywhere. No connection is cut by delay and abort. If the control plane is killed
meanwhile, sidecars keep what they were told until it is back. SERVICE may be given
without its namespace where only one has it.

It is refused where the mesh is not a local one: where the registry is AWS Cloud
Map, its services are others' too.`,
		Example: "  patchbay fault delay backend.demo 300ms --percent 50\n  patchbay fault abort backend.demo 503 --percent 10 --for 1m\n  patchbay fault restart",
	}
	c.AddCommand(
		faultCmd(fault.Delay, "delay SERVICE TIME", "Let requests to a service wait", "  patchbay fault delay backend.demo 300ms --percent 50", 2),
		faultCmd(fault.Abort, "abort SERVICE STATUS", "Answer requests to a service with an error", "  patchbay fault abort backend.demo 503 --percent 10", 2),
		faultCmd(fault.Drop, "drop SERVICE [IP:PORT]", "Hide an endpoint of a service from its callers", "  patchbay fault drop backend.demo\n  patchbay fault drop backend.demo 10.0.0.7:15010 --for 1m", 1),
		faultCmd(fault.Expire, "expire SERVICE", "Let the certificate of a service end, without renewal", "  patchbay fault expire backend.demo\n  patchbay fault expire backend.demo --life 5m --for 8m", 1),
		faultCmd(fault.Throttle, "throttle", "Let the registry refuse calls, as Cloud Map does above its limits", "  patchbay fault throttle --percent 80", 0),
		faultCmd(fault.Restart, "restart", "End the control plane and start it again", "  patchbay fault restart --for 10s", 0),
	)
	return c
}

// faultCmd is the command of one kind.
func faultCmd(kind, use, short, example string, args int) *cobra.Command {
	var o operator
	w := fault.Wanted{Kind: kind}
	c := &cobra.Command{
		Use: use, Short: short, Example: example,
		Args:              cobra.RangeArgs(args, args),
		RunE:              func(c *cobra.Command, args []string) error { return o.fault(c, w, args) },
		ValidArgsFunction: complete.Args(o.asked, complete.Services),
	}
	switch kind {
	case fault.Expire:
		c.ValidArgsFunction = complete.Args(o.asked, complete.Encrypted)
	case fault.Throttle, fault.Restart:
		c.ValidArgsFunction = complete.Args(o.asked)
	case fault.Drop:
		c.Args = cobra.RangeArgs(1, 2)
	}
	o.flags(c.Flags())
	lasts := fault.DefaultTime
	if kind == fault.Expire {
		lasts *= 2
		c.Long = `Gives the tasks of a service another certificate of its own issuer, which ends
after --life, and none in its place until the fault ends. Connections that stand go
on, as they always do; every new one is refused by its caller. The service's own
certificate is neither touched nor taken out of its store, is renewed as always,
and comes back at once.`
		c.Flags().DurationVar(&w.Life, "life", fault.DefaultLife, "how long the certificate is valid; the issuer may have a minimum")
	}
	c.Flags().DurationVar(&w.For, "for", lasts, "how long; at most "+fault.MaxTime.String())
	if slices.Contains([]string{fault.Delay, fault.Abort, fault.Throttle}, kind) {
		c.Flags().Uint32Var(&w.Percent, "percent", 100, "how many of the requests, or calls")
	}
	return c
}

// reportTime bounds the questions after a fault.
const reportTime = 15 * time.Second

func (o *operator) fault(c *cobra.Command, w fault.Wanted, args []string) error {
	p, err := o.printer(c)
	if err != nil {
		return err
	}
	if len(args) > 0 {
		w.Service = args[0]
	}
	if len(args) > 1 {
		switch w.Kind {
		case fault.Delay:
			if w.Delay, err = time.ParseDuration(args[1]); err != nil {
				return cli.Usage(c, fmt.Errorf("time %q; allowed: such as 300ms", args[1]))
			}
		case fault.Abort:
			n, err := strconv.ParseUint(args[1], 10, 16)
			if err != nil {
				return cli.Usage(c, fmt.Errorf("status %q; allowed: 200 to 599", args[1]))
			}
			w.Abort = uint32(n)
		default:
			w.Endpoint = args[1]
		}
	}
	client, err := o.client()
	if err != nil {
		return err
	}
	before, err := fault.Counted(c.Context(), client)
	if err != nil {
		return cli.Hint(err)
	}
	began := false
	err = api.FollowPost(c.Context(), client, "/api/v1/fault?"+w.Query().Encode(), func(e fault.Event) error {
		began = true
		if p.ForPeople() {
			p.Note(e.At, e.Event+": "+e.Text)
		}
		return nil
	})
	if err != nil && c.Context().Err() == nil && !(w.Kind == fault.Restart && began) { // whose end cuts the stream
		return cli.Hint(err)
	}
	// After Ctrl-C, too, what happened is reported: the fault is over by now.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), reportTime)
	defer cancel()
	rows, err := fault.Outcome(ctx, client, before)
	if err != nil {
		return cli.Hint(err)
	}
	if !p.ForPeople() {
		return p.Value(rows)
	}
	p.Fault(rows)
	return nil
}
