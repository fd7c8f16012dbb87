package tasks

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"patchbay/cmd/patchbay/cli"
	"patchbay/declare/source"
	"patchbay/inject/ecs"
)

func newUninjectCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "uninject",
		Short:   "Take sidecars away again",
		Long:    "Gives back a definition of tasks as it was before 'patchbay inject'. For compose files: patchbay inject compose --remove.",
		Example: "  patchbay uninject ecs mesh/backend.task-definition.json mesh/backend.service.json -o plain",
	}
	c.AddCommand(newUninjectECSCmd())
	return c
}

func newUninjectECSCmd() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "ecs TASK-DEFINITION|TEMPLATE [SERVICE]",
		Short: "Take the sidecar out of an ECS task definition",
		Long: `Gives back what 'patchbay inject ecs' was given: byte for byte if nothing was
edited since, else with what was edited. The sidecar's container carries the
original, so that a task definition as ECS prints it is enough; without SERVICE
the service is the original one. A CloudFormation template goes back as a whole.
Of a Terraform plan it gives the plan in ECS's words: Terraform's own files are
yours to change back.`,
		Example: `  aws ecs describe-task-definition --task-definition backend > now.json
  patchbay uninject ecs now.json -o plain`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			files, err := source.ReadFiles(c.InOrStdin(), args)
			if err != nil {
				return err
			}
			if ecs.IsTemplate(files[0]) {
				text, n, err := ecs.RemoveTemplate(files[0])
				switch {
				case err != nil:
					return cli.Exit(cli.Problems, fmt.Errorf("nothing was written:\n%w", err))
				case n == 0:
					fmt.Fprintf(c.ErrOrStderr(), "note: %s has no %s: it was never injected, or is not what was written, and stays as it is\n", files[0].Name, ecs.Sidecar)
				}
				return writeTemplate(c.OutOrStdout(), out, files[0].Name, text)
			}
			files = append(files, source.File{})
			o, err := ecs.Remove(files[0], files[1])
			if err != nil {
				return cli.Exit(cli.Problems, fmt.Errorf("nothing was written:\n%w", err))
			}
			if !ecs.Injected(files[0]) {
				fmt.Fprintf(c.ErrOrStderr(), "note: %s has no %s: it was never injected, or is not what was written, and stays as it is\n", files[0].Name, ecs.Sidecar)
			}
			name := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(args[0]), ".json"), ".task-definition")
			return writeAll(c.OutOrStdout(), out, name, output{".task-definition.json", []byte(o.Task)}, output{".service.json", []byte(o.Service)})
		},
	}
	c.Flags().StringVarP(&out, "output", "o", "", "directory for NAME.task-definition.json and NAME.service.json, or the template")
	if err := c.MarkFlagRequired("output"); err != nil {
		panic(err) // the flag is defined above
	}
	return c
}
