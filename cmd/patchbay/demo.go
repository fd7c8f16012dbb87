package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"patchbay/cmd/patchbay/cli"
	"patchbay/demo"
	"patchbay/demo/containers"
)

func newDemoCmd() *cobra.Command {
	var o demo.Options
	var inContainers bool
	var compose string
	c := &cobra.Command{
		Use:   "demo",
		Short: "Run the whole mesh on this machine and watch it, or prove it",
		Long: `Starts a mesh in network namespaces: a frontend, two backends, a real step-ca, a
control plane with the embedded registry, and a real Envoy beside each
application. Ordinary programs then call http://backend.demo:8080.

Without --once it runs until Ctrl-C and shows what happens. With --once it
runs every proof, prints each with its figure, and exits 0 if all held, 1 if
not. It needs root, and cleans up after itself.

With --cloud=fake-aws the same mesh stands on AWS's protocols: stand-ins for
Cloud Map (polled, as AWS's is), Private CA (P-384, SHA-512), Secrets Manager,
STS, ECS and the task metadata; two control planes; tasks that prove their role.

With --containers it proves the mesh of docker-compose.yml in this directory
instead. That needs Docker, and the images of 'make images'.`,
		Example: `  patchbay demo
  patchbay demo --once
  patchbay demo --once --cloud=fake-aws
  patchbay demo --once --json > report.json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find the programs: %w", err)
			}
			o.Programs, o.Out = filepath.Dir(self), c.OutOrStdout()
			if o.Cloud != "" && o.Cloud != demo.FakeAWS {
				return cli.Exit(cli.Misused, fmt.Errorf("--cloud %q; allowed: %s", o.Cloud, demo.FakeAWS))
			}
			if inContainers {
				err = proveContainers(c.Context(), containers.Options{Compose: compose, JSON: o.JSON, Out: o.Out})
			} else {
				err = demo.Run(c.Context(), o)
			}
			if errors.Is(err, demo.ErrNotHere) {
				return cli.Exit(cli.NotPossible, err)
			}
			return err
		},
	}
	c.Flags().StringVar(&o.Cloud, "cloud", "", "fake-aws: on the protocols of AWS, by stand-ins, with two control planes")
	c.Flags().BoolVar(&o.Once, "once", false, "run every proof and end")
	c.Flags().BoolVar(&o.JSON, "json", false, "with --once: print the report as JSON, and nothing else")
	c.Flags().BoolVar(&inContainers, "containers", false, "prove docker-compose.yml in this directory")
	c.Flags().StringVar(&compose, "compose", "", "with --containers: the command of Compose (default: 'docker compose', else docker-compose)")
	c.Flags().BoolVar(&o.Keep, "keep", false, "leave logs and state behind, and say where")
	return c
}

func proveContainers(ctx context.Context, o containers.Options) error {
	var err error
	if o.Dir, err = os.Getwd(); err != nil {
		return err
	}
	return containers.Run(ctx, o)
}
