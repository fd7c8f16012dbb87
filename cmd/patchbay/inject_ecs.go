package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"patchbay/declare/source"
	"patchbay/inject/ecs"
)

func newInjectECSCmd() *cobra.Command {
	var s ecs.Settings
	var out, join string
	var only []string
	var strict bool
	parameters := map[string]string{}
	c := &cobra.Command{
		Use:   "ecs FILE [FILE]",
		Short: "Put patchbay's sidecar into an ECS task definition, in the place of Service Connect's",
		Long: `Reads a task definition and its service with serviceConnectConfiguration, and
writes the same with the sidecar's container for 'aws ecs
register-task-definition', and without the Service Connect block for 'aws ecs
create-service' (update-service for one that runs). The files are what the AWS
command line prints or takes (describe-task-definition, describe-services), the
output of 'terraform show -json PLAN', or a CloudFormation template.

Applications wait until the sidecar is healthy, and are stopped before it; CPU and
memory grow as AWS advises for the proxy; load balancers are aimed at the
sidecar's port. On Fargate it needs no privileges.

Everything that is wrong is said at once, in the words of the file; exit code 4
then, and nothing is written. What is often a mistake is noted; with --strict that
is exit code 4, too. 'patchbay uninject ecs' gives back what was there.`,
		Example: `  aws ecs describe-task-definition --task-definition backend > task.json
  aws ecs describe-services --cluster prod --services backend > service.json
  patchbay inject ecs task.json service.json -o mesh --join join \
    --image REGISTRY/patchbay:1 --xds patchbay.internal:18000 --agent patchbay.internal:18001
  aws ecs register-task-definition --cli-input-json file://mesh/backend.task-definition.json
  aws ecs update-service --cli-input-json file://mesh/backend.service.json`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			files, err := sourceFiles(c.InOrStdin(), args)
			if err != nil {
				return err
			}
			if s.Join, err = joinFiles(join); err != nil {
				return err
			}
			return injectECS(c.ErrOrStderr(), out, only, strict, s, source.Options{Namespace: s.Namespace, Parameters: parameters}, files)
		},
	}
	f := c.Flags()
	f.StringVarP(&out, "output", "o", "", "directory for NAME.task-definition.json and NAME.service.json")
	f.StringVar(&s.Image, "image", "patchbay:dev", "the sidecar's image")
	f.StringSliceVar(&s.XDS, "xds", nil, "the control plane's xDS port, HOST:PORT (several replicas: separated by commas)")
	f.StringVar(&s.Agent, "agent", "", "the control plane's agent port, HOST:PORT")
	f.StringVar(&join, "join", "", "join directory without a key (patchbay token join --task-role), which goes into the task definition")
	f.StringVar(&s.Wiring, "wiring", "", "redirect or bind (default: bind on Fargate, redirect on EC2)")
	f.StringVar(&s.Namespace, "namespace", "", "the namespace of services that name none: the cluster's default")
	f.StringToStringVar(&parameters, "parameter", nil, "a parameter of a CloudFormation template, NAME=VALUE")
	f.StringSliceVar(&only, "service", nil, "of several services in a file, only these")
	f.IntVar(&s.Requests, "requests", 0, "requests a second of a task at the peak; above 500 the sidecar gets 512 CPU units")
	f.IntVar(&s.Services, "services", 0, "services of the namespace; above 100 the sidecar gets 128 MiB")
	f.IntVar(&s.Tasks, "tasks", 0, "tasks of the namespace; above 2000 the sidecar gets 128 MiB")
	f.BoolVar(&strict, "strict", false, "exit 4 if there is anything to note")
	for _, name := range []string{"output", "xds", "agent"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // the flag is defined above
		}
	}
	return c
}

func injectECS(stderr io.Writer, out string, only []string, strict bool, s ecs.Settings, o source.Options, files []source.File) error {
	found, err := source.Read(o, files...)
	if err != nil {
		return &exitError{exitProblems, fmt.Errorf("nothing was written:\n%w", err)}
	}
	var results []*ecs.Result
	var errs []error
	for _, d := range found {
		if len(only) > 0 && !slices.Contains(only, d.Name) || len(found) > 1 && len(only) == 0 && !d.InMesh() {
			continue
		}
		r, problems := ecs.Inject(d, s, ecs.OriginalOf(d, files...))
		if len(problems) > 0 {
			errs = append(errs, problems)
			continue
		}
		results = append(results, r)
	}
	switch {
	case len(errs) > 0:
		return &exitError{exitProblems, fmt.Errorf("nothing was written:\n%w", errors.Join(errs...))}
	case len(results) == 0:
		return &exitError{exitProblems, errors.New("nothing was written: no service asks for Service Connect, or is named by --service")}
	}
	notes := 0
	for _, r := range results {
		for _, n := range r.Notes {
			notes++
			fmt.Fprintln(stderr, "note:", n)
		}
		name := strings.ReplaceAll(r.Name, string(filepath.Separator), "-")
		if err := writeBoth(out, name, string(r.Task), string(r.Service)); err != nil {
			return err
		}
	}
	if strict && notes > 0 {
		return &exitError{exitProblems, fmt.Errorf("%d notes, with --strict", notes)}
	}
	return nil
}

// writeBoth writes a task definition and a service; an empty text is not
// written.
func writeBoth(dir, name, task, service string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for suffix, text := range map[string]string{".task-definition.json": task, ".service.json": service} {
		if text == "" {
			continue
		}
		if err := replace(filepath.Join(dir, name+suffix), []byte(text)); err != nil {
			return err
		}
	}
	return nil
}

func sourceFiles(stdin io.Reader, args []string) (files []source.File, err error) {
	for _, name := range args {
		f := source.File{Name: name}
		if name == "-" {
			f.Name = "standard input"
			f.Text, err = io.ReadAll(stdin)
		} else {
			f.Text, err = os.ReadFile(name)
		}
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// joinFiles are the files of a join directory that has no key.
func joinFiles(dir string) (map[string]string, error) {
	if dir == "" {
		return nil, nil
	}
	if _, err := os.Stat(filepath.Join(dir, "join.key")); err == nil {
		return nil, &exitError{exitUsage, fmt.Errorf("%s holds a key, and a task definition is no place for one; allowed: a directory of patchbay token join --task-role", dir)}
	}
	files := map[string]string{}
	for _, name := range []string{"join.json", "ca.pem"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		files[name] = string(text)
	}
	return files, nil
}

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
		Use:   "ecs TASK-DEFINITION [SERVICE]",
		Short: "Take the sidecar out of an ECS task definition",
		Long: `Gives back what 'patchbay inject ecs' was given: byte for byte if nothing was
edited since, else with what was edited. The sidecar's container carries the
original, so that a task definition as ECS prints it is enough; without SERVICE
the service is the original one.`,
		Example: `  aws ecs describe-task-definition --task-definition backend > now.json
  patchbay uninject ecs now.json -o plain`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			files, err := sourceFiles(c.InOrStdin(), args)
			if err != nil {
				return err
			}
			files = append(files, source.File{})
			o, err := ecs.Remove(files[0], files[1])
			if err != nil {
				return &exitError{exitProblems, fmt.Errorf("nothing was written:\n%w", err)}
			}
			name := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(args[0]), ".json"), ".task-definition")
			return writeBoth(out, name, o.Task, o.Service)
		},
	}
	c.Flags().StringVarP(&out, "output", "o", "", "directory for NAME.task-definition.json and NAME.service.json")
	if err := c.MarkFlagRequired("output"); err != nil {
		panic(err) // the flag is defined above
	}
	return c
}
