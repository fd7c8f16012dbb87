package operate

import (
	"errors"
	"io"
	"net/url"

	"github.com/spf13/cobra"

	"patchbay/admin/api"
	"patchbay/cmd/patchbay/cli"
	"patchbay/cmd/patchbay/operate/complete"
	"patchbay/config"
	"patchbay/declare/source"
	"patchbay/inspect/plan"
)

func newDiffCmd() *cobra.Command {
	var o operator
	var w change
	c := &cobra.Command{
		Use:   "diff NODE | diff -f FILE",
		Short: "Compare an Envoy with what it should have, or a file with the mesh",
		Long: `With NODE, compares what the Envoy of NODE, a task of the mesh, has by its own dump with
what the control plane wants it to have: clusters, endpoints, secrets, listeners
and routes, field by field. A private key is never shown: one that differs shows
in its certificate and its version.

It exits with 4 if something differs. A host that Envoy itself avoids for a while,
after failures, is no difference.

With -f or --config, says what a changed file would change before it is applied:
services, the resources of sidecars with what is different in them, how many
sidecars are touched, and which connections would be cut. FILE declares services:
a compose file with x-service-connect, ECS's JSON, 'terraform show -json', a
CloudFormation template, or a declaration as a sidecar has it. ECS's JSON is a task
definition and its service as 'aws ecs' prints or takes them, not as 'patchbay inject'
writes them: two files, each by -f, or {"taskDefinition": …, "service": …} in one. A
FILE that declares no service is refused. --config is a control plane's file. The
running control plane computes it, by the translation that makes what is sent;
nothing is changed. It exits with 4 if the mesh would refuse something of it.`,
		Example: `  patchbay diff demo/frontend/f1
  patchbay diff backend -o json
  patchbay diff -f docker-compose.yml
  patchbay diff -f task.json -f service.json --namespace prod
  patchbay diff --config patchbay.yaml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			planned := len(w.files) > 0 || w.config != ""
			switch {
			case planned == (len(args) > 0):
				return cli.Usage(c, errors.New("compare what? name a NODE, or a changed file with -f or --config"))
			case planned:
				return o.diffFiles(c, w)
			}
			return o.diffNode(c, args[0])
		},
		ValidArgsFunction: complete.Args(o.asked, complete.Nodes),
	}
	o.flags(c.Flags())
	c.Flags().StringArrayVarP(&w.files, "file", "f", nil, "a file that declares services; may be repeated")
	c.Flags().StringVar(&w.config, "config", "", "a changed file of the control plane")
	c.Flags().StringVar(&w.namespace, "namespace", "", "of services in -f that name none, or an ARN (default: the control plane's, if it has one)")
	return c
}

// change is what is not applied yet.
type change struct {
	files             []string
	config, namespace string
}

func (o *operator) diffFiles(c *cobra.Command, w change) error {
	p, err := o.printer(c)
	if err != nil {
		return err
	}
	client, err := o.client()
	if err != nil {
		return err
	}
	if w.namespace == "" {
		st, err := ask[api.Status](c.Context(), client, "status", nil)
		if err != nil {
			return err
		}
		if len(st.Namespaces) == 1 {
			w.namespace = st.Namespaces[0].Name
		}
	}
	body, err := w.plan(c.InOrStdin())
	if err != nil {
		return cli.Exit(cli.Misused, err)
	}
	out := &api.Forecast{}
	if err := client.Ask(c.Context(), "diff", body, out); err != nil {
		return cli.Hint(err)
	}
	if p.ForPeople() {
		p.Forecast(out)
	} else if err := p.Value(out); err != nil {
		return err
	}
	if n := len(out.Refused); n > 0 {
		return cli.Found(n, "refused change")
	}
	return nil
}

// plan reads the files. The error lists every problem.
func (w change) plan(stdin io.Reader) (out api.Plan, err error) {
	files, err := source.ReadFiles(stdin, w.files)
	errs := []error{err}
	if err == nil && len(files) > 0 {
		out.Services, err = plan.Read(w.namespace, files...)
		errs = append(errs, err)
	}
	if w.config != "" {
		cfg, err := config.Load(w.config)
		if err == nil {
			out.Config, err = cfg.Keys()
		}
		errs = append(errs, err)
	}
	return out, errors.Join(errs...)
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
	d, err := ask[api.Difference](c.Context(), client, "diff", url.Values{"node": {node}})
	if err != nil {
		return err
	}
	if p.ForPeople() {
		p.Difference(d)
	} else if err := p.Value(d); err != nil {
		return err
	}
	if len(d.Resources) > 0 {
		return cli.Found(len(d.Resources), "difference")
	}
	return nil
}
