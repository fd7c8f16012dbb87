package operate

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/spf13/cobra"

	"patchbay/balancers"
	"patchbay/cmd/patchbay/cli"
	"patchbay/declare/source"
	"patchbay/diagnose"
	"patchbay/diagnose/bundle"
	"patchbay/diagnose/show"
	"patchbay/docs/doctor"
)

type doctorOptions struct {
	operator
	version            string
	bundle, from, code string
	aws                bool
	definitions        []string
}

func newDoctorCmd(version string) *cobra.Command {
	o := doctorOptions{version: version}
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say what is wrong with the mesh, why, and what to do",
		Long: `Looks at the control plane, its registry, CA and permissions, at every sidecar and
service, and has agents shake hands with the endpoints. Each finding has a cause,
the evidence, the fix, and a code with a page of its own; the likely cause of the
others comes first.

--bundle writes what was seen into an archive for a report. It holds no key: the
facts have no room for one. --from diagnoses such an archive again.

With --aws the control plane tries each call that it makes of AWS once, with its
own role, and what is missing is named with the policy statement that allows it.
Only calls that change nothing are tried; the others are listed.

With --definition it looks at the target groups and listener policies of a
Terraform plan, a CloudFormation template or a task definition with its service,
which it reads as 'patchbay inject ecs' does. With --aws besides, target groups
that are named by their ARN are looked up in Elastic Load Balancing with your own
credentials: protocols, listener policies, and which targets are unhealthy.

It exits with 4 if something was found.`,
		Example: `  patchbay doctor
  patchbay doctor -o json | jq -r '.findings[0].fix[]'
  patchbay doctor --code PB1401
  patchbay doctor --aws
  patchbay doctor --definition plan.json
  aws ecs describe-services --cluster prod --services backend > service.json
  aws ecs describe-task-definition --task-definition backend > task.json
  patchbay doctor --aws --definition task.json --definition service.json
  patchbay doctor --bundle report.tar.gz`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c) },
	}
	o.flags(c.Flags())
	c.Flags().StringVar(&o.bundle, "bundle", "", "write an archive for a report to this file (.tar.gz)")
	c.Flags().StringVar(&o.from, "from", "", "diagnose this archive instead of the running mesh")
	c.Flags().StringVar(&o.code, "code", "", "print the page of a code, such as PB1401")
	c.Flags().BoolVar(&o.aws, "aws", false, "have the control plane try its calls of AWS; none changes anything")
	c.Flags().StringArrayVar(&o.definitions, "definition", nil, "look at the load balancers of this file, too (repeat for more)")
	c.MarkFlagsMutuallyExclusive("aws", "from", "code")
	c.MarkFlagsMutuallyExclusive("definition", "from", "code")
	c.MarkFlagsMutuallyExclusive("bundle", "from", "code")
	return c
}

// DoctorOutput is what -o json prints.
type DoctorOutput struct {
	At       time.Time          `json:"at"`
	Address  string             `json:"address"`
	Areas    []diagnose.Area    `json:"areas"`
	Findings []diagnose.Finding `json:"findings"`
}

func (o *doctorOptions) run(c *cobra.Command) error {
	if o.code != "" {
		page, err := doctor.Page(o.code)
		if err != nil {
			return cli.Usage(c, err)
		}
		_, err = io.WriteString(c.OutOrStdout(), page)
		return err
	}
	p, err := o.printer(c)
	if err != nil {
		return err
	}
	done := show.Wait(c.ErrOrStderr(), "asking the control plane and the sidecars")
	facts, err := o.facts(c.Context(), c.InOrStdin())
	done()
	if err != nil {
		return err
	}
	out := DoctorOutput{facts.Now, facts.Address, diagnose.Areas(facts), diagnose.Check(facts)}
	if p.ForPeople() {
		p.Doctor(out.Areas, out.Findings)
	} else if err := p.Value(out); err != nil {
		return err
	}
	if o.bundle != "" {
		if err := o.write(c.Context(), facts, out); err != nil {
			return fmt.Errorf("bundle: %w", err)
		}
		fmt.Fprintln(c.ErrOrStderr(), "written:", o.bundle)
	}
	if len(out.Findings) > 0 {
		return cli.Found(len(out.Findings), "finding")
	}
	return nil
}

// facts are gathered, or read from a bundle.
func (o *doctorOptions) facts(ctx context.Context, stdin io.Reader) (*diagnose.Facts, error) {
	if o.from != "" {
		f, err := bundle.Read(o.from)
		return f, cli.Given(err)
	}
	src, err := o.source()
	if err != nil {
		return nil, err
	}
	found, err := o.balancers(ctx, stdin)
	if err != nil {
		return nil, err
	}
	f, err := src.Doctor(ctx)
	if err == nil {
		f.Balancers = found
	}
	if err == nil && o.aws {
		// A control plane that uses no AWS may still have tasks behind its load
		// balancers.
		if none := src.AWS(ctx, f); len(o.definitions) == 0 {
			err = none
		}
	}
	return f, err
}

// balancers are the load balancers of definitions of tasks that do not fit.
func (o *doctorOptions) balancers(ctx context.Context, stdin io.Reader) ([]diagnose.Balancer, error) {
	files, err := source.ReadFiles(stdin, o.definitions)
	if err != nil || len(files) == 0 {
		return nil, err
	}
	found, err := source.Read(source.Options{}, files...)
	if err != nil {
		return nil, cli.Given(err)
	}
	if o.aws {
		cfg, err := awsconfig.LoadDefaultConfig(ctx)
		if err != nil {
			return nil, fmt.Errorf("AWS: %w", err)
		}
		if err := balancers.Fill(ctx, elasticloadbalancingv2.NewFromConfig(cfg), found); err != nil {
			return nil, err
		}
	}
	var out []diagnose.Balancer
	for _, d := range found {
		task, _ := d.Declare() // its other faults are those of inject and ECS
		for _, p := range d.BalancerTrouble(task) {
			out = append(out, diagnose.Balancer{Where: p.File + ": " + p.Path, Text: p.Text})
		}
	}
	return out, nil
}

// write makes the archive, with the control plane's metrics if it gives them.
func (o *doctorOptions) write(ctx context.Context, facts *diagnose.Facts, out DoctorOutput) error {
	findings, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return err
	}
	more := []bundle.File{{Name: "findings.json", Text: findings}, {Name: "version.txt", Text: []byte("patchbay " + o.version + "\n")}}
	if client, err := o.client(); err == nil {
		if b, err := client.Raw(ctx, "/metrics"); err == nil {
			more = append(more, bundle.File{Name: "metrics.txt", Text: b})
		}
	}
	return bundle.Write(o.bundle, facts, more...)
}
