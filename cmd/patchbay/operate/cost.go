package operate

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"patchbay/admin/api"
	"patchbay/cmd/patchbay/cli"
	"patchbay/discovery/cost"
)

func newCostCmd() *cobra.Command {
	var f costFlags
	c := &cobra.Command{
		Use:   "cost",
		Short: "Print what Cloud Map costs in a month",
		Long: `Prints what the calls of AWS Cloud Map cost in a month of thirty days, by
operation, for the mesh that the control plane has now; or, with --services,
for one that does not exist yet.

The prices are AWS's list prices (the page names their source and month), and
upper bounds: where a call may be of either of two kinds, it is taken for the
dearer. The calls are those of the control plane's own schedule
(docs/reference/discovery.md); patchbay_registry_cost_dollars_total counts what
they really came to.`,
		Example: `  patchbay cost
  patchbay cost --changes-per-minute 5 --replicas 3
  patchbay cost --services 100 --changes-per-minute 1 --replicas 2
  patchbay cost --services 100 --unhinted --health-checks 100 -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	f.register(c)
	return c
}

type costFlags struct {
	o        operator
	mesh     cost.Mesh
	unhinted bool
}

func (f *costFlags) register(c *cobra.Command) {
	f.o.flags(c.Flags())
	c.Flags().IntVar(&f.mesh.Services, "services", 0, "plan for so many services, without asking a control plane")
	c.Flags().Float64Var(&f.mesh.ChangesPerMinute, "changes-per-minute", 1, "instances that come or go, all services together")
	c.Flags().IntVar(&f.mesh.Checked, "health-checks", -1, "services with a health check in Cloud Map (default: all, as patchbay makes them)")
	c.Flags().IntVar(&f.mesh.Instances, "instances", 0, "instances of all services, for the price of keeping them registered")
	c.Flags().IntVar(&f.mesh.Replicas, "replicas", 1, "replicas of the control plane, which share the polling")
	c.Flags().BoolVar(&f.mesh.Events, "events", false, "events of ECS arrive through a queue")
	c.Flags().BoolVar(&f.unhinted, "unhinted", false, "with --services: instances are registered by others, and no events tell of them")
}

func (f *costFlags) run(c *cobra.Command) error {
	p, err := f.o.printer(c)
	if err != nil {
		return err
	}
	m := f.mesh
	if err := f.check(c); err != nil {
		return err
	}
	m.Shared, m.Namespaces, m.Managed = true, 1, m.Services
	if f.unhinted {
		m.Managed = 0
	}
	if !c.Flags().Changed("services") {
		st, _, err := f.o.status(c.Context())
		if err != nil {
			return err
		}
		m = present(m, st)
	}
	if m.Checked = f.mesh.Checked; m.Checked < 0 {
		m.Checked = m.Services
	}
	bill := m.Month(cost.Schedule{Topology: 30 * time.Second, Settings: time.Minute})
	if !p.ForPeople() {
		return p.Value(bill)
	}
	return bill.Write(c.OutOrStdout())
}

func (f *costFlags) check(c *cobra.Command) error {
	var errs []error
	for name, n := range map[string]float64{
		"services": float64(f.mesh.Services), "changes-per-minute": f.mesh.ChangesPerMinute, "instances": float64(f.mesh.Instances),
		"health-checks": float64(max(f.mesh.Checked, 0)), "replicas": float64(f.mesh.Replicas - 1),
	} {
		if n < 0 || n > 1e6 {
			errs = append(errs, fmt.Errorf("--%s is out of range; allowed: up to 1000000", name))
		}
	}
	if f.unhinted && !c.Flags().Changed("services") {
		errs = append(errs, errors.New("--unhinted goes with --services: of the present mesh it is known who registers"))
	}
	if len(errs) > 0 {
		return cli.Usage(c, errors.Join(errs...))
	}
	return nil
}

// present is the mesh that a control plane has.
func present(m cost.Mesh, st *api.Status) cost.Mesh {
	m.Namespaces, m.Services, m.Managed = len(st.Namespaces), len(st.Services), 0
	for _, s := range st.Services {
		if !s.Foreign {
			m.Managed++
		}
		for _, n := range s.Endpoints {
			m.Instances += n
		}
	}
	return m
}
