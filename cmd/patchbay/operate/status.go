package operate

import (
	"time"

	"github.com/spf13/cobra"

	"patchbay/admin/api"
	"patchbay/cmd/patchbay/cli"
	"patchbay/cmd/patchbay/operate/complete"
	"patchbay/diagnose"
	"patchbay/diagnose/show"
)

func newStatusCmd() *cobra.Command {
	var o operator
	var watch bool
	var interval time.Duration
	c := &cobra.Command{
		Use:   "status [NODE|SERVICE]",
		Short: "Show every sidecar and service, and whether all is as it should be",
		Long: `One line for each sidecar: whether its Envoy has taken each type of resource
(cds clusters, eds endpoints, lds listeners, rds routes, sds certificates), how
long its last answer took, and how long its certificate is valid. One line for
each service: how it is called, its endpoints, how many of the connections to it
were encrypted, and where that is known from.

  synced     everything was taken
  waiting    Envoy has not answered yet, for so long
  stale      something changed and is not sent yet, since so long
  rejected   Envoy refuses a resource and keeps what it had

NODE and SERVICE may be shortened. It exits with 4 if something is wrong;
'patchbay doctor' then says why and what to do.`,
		Example: `  patchbay status
  patchbay status backend -o wide
  patchbay status --watch
  patchbay status -o json | jq '.findings[].code'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			p, err := o.printer(c)
			if err != nil {
				return err
			}
			once := func() error { return o.showStatus(c, p, args) }
			if watch {
				return every(c.Context(), p, interval, func() error {
					if err := once(); cli.Code(err) != cli.Problems {
						return err
					}
					return nil
				})
			}
			return once()
		},
		ValidArgsFunction: complete.Args(o.asked, complete.NodesAndServices),
	}
	o.flags(c.Flags())
	c.Flags().BoolVarP(&watch, "watch", "w", false, "show it again and again, until Ctrl-C")
	c.Flags().DurationVar(&interval, "interval", 2*time.Second, "how often, with --watch")
	return c
}

// StatusOutput is what -o json prints.
type StatusOutput struct {
	*api.Status
	Findings []diagnose.Finding `json:"findings"`
}

func (o *operator) showStatus(c *cobra.Command, p *show.Printer, args []string) error {
	st, findings, err := o.status(c.Context())
	if err != nil {
		return err
	}
	if len(args) > 0 {
		if err := show.Select(st, args[0]); err != nil {
			return cli.Usage(c, err)
		}
		findings = diagnose.Concerning(findings, st)
	}
	if p.ForPeople() {
		p.Status(st, findings)
	} else if err := p.Value(StatusOutput{st, findings}); err != nil {
		return err
	}
	if len(findings) > 0 {
		return cli.Found(len(findings), "finding")
	}
	return nil
}
