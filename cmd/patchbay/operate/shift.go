package operate

import (
	"errors"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"patchbay/admin/api"
	"patchbay/cmd/patchbay/cli"
	"patchbay/cmd/patchbay/operate/complete"
)

func newShiftCmd() *cobra.Command {
	var o operator
	v := url.Values{}
	var status bool
	c := &cobra.Command{
		Use:   "shift SERVICE",
		Short: "Move the calls of a service from one revision to another",
		Long: `Moves the calls of a service to another revision of it: a share, a share first
and everything after a while, or step by step. What a revision is, its tasks say
(patchbay sidecar --revision; on ECS the revision of the task definition).
Weights change at run time; no connection is touched. SERVICE may be given without
its namespace where only one has it.

Until it has everything, requests with the header x-amzn-ecs-blue-green-test, or
the one that testTrafficRules names, reach the new revision. With a weight of 0
they are all that reaches it.

A service whose declaration has a deploymentConfiguration with another strategy
than ROLLING needs no command: calls move by its steps as soon as the new
revision has as many endpoints as the old one. Without --to, this begins at once.

The control plane carries the steps out, whether or not this command still runs.
With --rollback-on-failures the old revision gets everything again as soon as
more of the requests to the new one fail in a step (of at least 20).

A revision without a healthy endpoint is not moved to. Of two orders for a service
at one moment, wherever they are given, one holds; the other command fails, and
says what holds. A command therefore takes a moment longer than what it does.`,
		Example: `  patchbay shift backend.demo --to green --weight 0
  patchbay shift backend.demo --to green --canary 5% --bake 5m --rollback-on-failures 1%
  patchbay shift backend.demo --to green --linear 10% --every 1m
  patchbay shift backend.demo --status
  patchbay shift backend.demo --abort`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: complete.Args(o.asked, complete.Own),
	}
	o.flags(c.Flags())
	orderFlags(c.Flags(), v, &status)
	complete.Flags(c, o.asked, complete.Revisions, "to", "from")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := oneOf(v, status); err != nil {
			return cli.Usage(c, err)
		}
		v.Set("service", args[0])
		return o.shift(c, v, status)
	}
	return c
}

// orderFlags has the flags put what they say into v, or status.
func orderFlags(f *pflag.FlagSet, v url.Values, status *bool) {
	for _, flag := range []struct{ name, key, text string }{
		{"to", "to", "revision that calls move to"},
		{"from", "from", "revision that they move from (default: the one in production)"},
		{"weight", "weight", "percent of the calls, and no more"},
		{"canary", "canary", "percent of the calls at first; everything after --bake"},
		{"bake", "bake", "how long the canary lasts (default 10m)"},
		{"linear", "linear", "percent by which each step grows, 3 to 100"},
		{"every", "every", "how long each step lasts (default 6m)"},
		{"rollback-on-failures", "rollback", "percent of failed requests above which the old revision gets everything again"},
	} {
		f.Func(flag.name, flag.text, func(s string) error { v.Set(flag.key, s); return nil })
	}
	f.BoolVar(status, "status", false, "say how calls are divided now, and what comes next")
	f.BoolFunc("abort", "give everything back to the old revision, now", func(string) error { v.Set("abort", "aborted by an operator"); return nil })
	f.BoolFunc("end", "divide no longer: all endpoints are called alike", func(string) error { v.Set("end", "yes"); return nil })
}

// oneOf refuses what does not go together.
func oneOf(v url.Values, status bool) error {
	n := 0
	for _, is := range []bool{status, v.Has("abort"), v.Has("end"), v.Has("to")} {
		if is {
			n++
		}
	}
	if n > 1 || !v.Has("to") && slices.ContainsFunc([]string{"from", "weight", "canary", "bake", "linear", "every"}, v.Has) || n == 1 && !v.Has("to") && v.Has("rollback") {
		return errors.New("allowed: --to with what moves, or one of --status, --abort, --end, or none for the service's own strategy")
	}
	return nil
}

func (o *operator) shift(c *cobra.Command, v url.Values, status bool) error {
	p, err := o.printer(c)
	if err != nil {
		return err
	}
	client, err := o.client()
	if err != nil {
		return err
	}
	name := v.Get("service")
	if status {
		s, err := ask[api.ServiceDetail](c.Context(), client, "service", url.Values{"name": {name}})
		if err != nil {
			return err
		}
		if !p.ForPeople() {
			if s.Deployment == nil { // nothing is divided
				return p.Value(struct{}{})
			}
			return p.Value(s.Deployment)
		}
		p.Shift(s.Name, s.Deployment, time.Now())
		return nil
	}
	d := &api.Deployment{}
	if err := client.Post(c.Context(), "shift", v, d); err != nil {
		return cli.Hint(err)
	}
	switch {
	case !p.ForPeople():
		return p.Value(d)
	case v.Has("end"):
		p.Shift(name, nil, time.Now())
	case v.Has("abort"):
		p.Back(name, d.From)
	default:
		p.Moved(name, d)
	}
	return nil
}
