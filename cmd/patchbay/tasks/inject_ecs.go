package tasks

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"patchbay/cmd/patchbay/cli"
	"patchbay/declare/definition"
	"patchbay/declare/source"
	"patchbay/identity/join"
	"patchbay/inject/ecs"
	"patchbay/internal/count"
	"patchbay/xds/bootstrap"
)

// injectECS are the flags of inject ecs.
type injectECS struct {
	settings      ecs.Settings
	source        source.Options
	out, join     string
	previous      string
	only          []string
	policies      []string // FILE, or SERVICE=FILE
	strict, plain bool     // plain: print a diff
}

func newInjectECSCmd() *cobra.Command {
	f := &injectECS{}
	c := &cobra.Command{
		Use:   "ecs FILE [FILE]",
		Short: "Put patchbay's sidecar into an ECS task definition, in the place of Service Connect's",
		Long: `Reads a task definition and its service with serviceConnectConfiguration, and
writes the same with the sidecar's container for 'aws ecs
register-task-definition', and without the Service Connect block for 'aws ecs
create-service' (update-service for one that runs). The files are what the AWS
command line prints or takes (describe-task-definition, describe-services), the
output of 'terraform show -json PLAN', or a CloudFormation template.

Of a template it writes the template, with these two resources changed and all
else as it was. Of a plan it writes besides NAME.hcl: what to change in the files of
Terraform.

Applications wait until the sidecar is healthy, and are stopped before it; CPU and
memory grow as AWS advises for the proxy; load balancers are aimed at the
sidecar's port. On Fargate it needs no privileges.

What ECS has no words for, policies, stands beside the block in the service, or in
a file of its own (--policies).

Everything that is wrong is said at once, in the words of the file; exit code 4
then, and nothing is written. What is often a mistake is noted; with --strict that
is the same. With --previous it is wrong to change a port's appProtocol: a
service keeps its own for ever. --diff prints what would change, and writes
nothing. 'patchbay uninject ecs' gives back what was there.`,
		Example: `  aws ecs describe-task-definition --task-definition backend > task.json
  aws ecs describe-services --cluster prod --services backend > service.json
  patchbay inject ecs task.json service.json -o mesh --join join \
    --image REGISTRY/patchbay:1 --xds patchbay.internal:18000 --agent patchbay.internal:18001
  aws ecs register-task-definition --cli-input-json file://mesh/backend.task-definition.json
  aws ecs update-service --cli-input-json file://mesh/backend.service.json
  patchbay inject ecs new.json service.json --previous task.json --diff \
    --xds patchbay.internal:18000 --agent patchbay.internal:18001
  patchbay inject ecs template.yaml -o mesh --join join --policies policies.yaml \
    --xds patchbay.internal:18000 --agent patchbay.internal:18001`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			if (f.out != "") == f.plain {
				return cli.Usage(c, errors.New("allowed: either --output DIR, or --diff"))
			}
			if err := f.addresses(); err != nil {
				return cli.Usage(c, err)
			}
			files, err := source.ReadFiles(c.InOrStdin(), args)
			if err != nil {
				return err
			}
			if f.settings.Join, err = joinFiles(f.join); err != nil {
				return err
			}
			f.source.Namespace, f.settings.Parameters = f.settings.Namespace, f.source.Parameters
			return f.run(c.OutOrStdout(), c.ErrOrStderr(), files)
		},
	}
	f.register(c)
	return c
}

func (f *injectECS) register(c *cobra.Command) {
	s, l := &f.settings, c.Flags()
	l.StringVarP(&f.out, "output", "o", "", "directory for NAME.task-definition.json and NAME.service.json, or the template")
	l.BoolVar(&f.plain, "diff", false, "print what would change as a unified diff, and write nothing")
	l.StringVar(&f.previous, "previous", "", "the task definition as it is registered now (describe-task-definition), whose protocols must stay")
	l.StringVar(&s.Image, "image", "patchbay:dev", "the sidecar's image")
	l.StringSliceVar(&s.XDS, "xds", nil, "the control plane's xDS port, HOST:PORT (several replicas: separated by commas)")
	l.StringVar(&s.Agent, "agent", "", "the control plane's agent port, HOST:PORT (several replicas: separated by commas)")
	l.StringVar(&f.join, "join", "", "join directory without a key (patchbay token join --task-role), which goes into the task definition")
	l.StringVar(&s.Wiring, "wiring", "", "redirect or bind (default: bind on Fargate, redirect on EC2)")
	l.StringVar(&s.Namespace, "namespace", "", "the namespace of services that name none: the cluster's default")
	l.StringToStringVar(&f.source.Parameters, "parameter", nil, "a parameter of a CloudFormation template, NAME=VALUE")
	l.StringSliceVar(&f.only, "service", nil, "of several services in a file, only these")
	l.IntVar(&s.Requests, "requests", 0, "requests a second of a task at the peak; above 500 the sidecar gets 512 CPU units")
	l.IntVar(&s.Services, "services", 0, "services of the namespace; above 100 the sidecar gets 128 MiB")
	l.IntVar(&s.Tasks, "tasks", 0, "tasks of the namespace; above 2000 the sidecar gets 128 MiB")
	l.BoolVar(&f.strict, "strict", false, "exit 4 if there is anything to note")
	l.StringArrayVar(&f.policies, "policies", nil, `a file {"policies": {…}} beside the service (docs/reference/policies.md), for what can't hold them itself: a plan, a template; of several services SERVICE=FILE, repeated`)
}

// addresses holds the control plane's addresses against what the sidecar will.
func (f *injectECS) addresses() error {
	var errs []error
	if len(f.settings.XDS) == 0 {
		errs = append(errs, errors.New("xds: is missing; allowed: the control plane's xDS port, HOST:PORT"))
	}
	for _, text := range f.settings.XDS {
		if _, err := bootstrap.ParseHostPort(text); err != nil {
			errs = append(errs, fmt.Errorf("xds: %w", err))
		}
	}
	if f.settings.Agent == "" {
		errs = append(errs, errors.New("agent: is missing; allowed: the control plane's agent port, HOST:PORT"))
	} else {
		for text := range strings.SplitSeq(f.settings.Agent, ",") {
			if _, err := bootstrap.ParseHostPort(text); err != nil {
				errs = append(errs, fmt.Errorf("agent: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}

func (f *injectECS) run(stdout, stderr io.Writer, files []source.File) error {
	before, err := f.before()
	if err != nil {
		return err
	}
	found, err := source.Read(f.source, files...)
	if err != nil {
		return cli.Exit(cli.Problems, fmt.Errorf("nothing was written:\n%w", err))
	}
	chosen := f.chosen(found)
	errs := []error{f.policiesOf(chosen)}
	var results []injected
	for _, d := range chosen {
		f.settings.Together = append(f.settings.Together, d.Name)
	}
	for _, d := range chosen {
		r, problems := ecs.Inject(d, f.settings, ecs.OriginalOf(d, files...))
		if len(problems) == 0 {
			problems = changed(d, before, len(found))
		}
		if len(problems) > 0 {
			errs = append(errs, problems)
			continue
		}
		results = append(results, injected{d, r})
	}
	err = errors.Join(errs...)
	switch {
	case err != nil:
		return cli.Exit(cli.Problems, fmt.Errorf("nothing was written:\n%w", err))
	case len(results) == 0:
		why := "no service asks for Service Connect, or is named by --service"
		if slices.ContainsFunc(found, ecs.Carries) {
			why += "; some have " + ecs.Sidecar + " already (patchbay uninject ecs takes it out)"
		}
		return cli.Exit(cli.Problems, errors.New("nothing was written: "+why))
	}
	return f.write(stdout, stderr, results, files)
}

// chosen are the definitions that get a sidecar.
func (f *injectECS) chosen(found []*definition.Definition) (out []*definition.Definition) {
	for _, d := range found {
		if len(f.only) > 0 && !slices.Contains(f.only, d.Name) || len(found) > 1 && len(f.only) == 0 && !d.InMesh() {
			continue
		}
		out = append(out, d)
	}
	return out
}

// policiesOf gives the definitions the files of --policies.
func (f *injectECS) policiesOf(chosen []*definition.Definition) error {
	var errs []error
	for _, arg := range f.policies {
		name, file, named := strings.Cut(arg, "=")
		if !named {
			file = arg
		}
		i := slices.IndexFunc(chosen, func(d *definition.Definition) bool { return !named || d.Name == name })
		if i < 0 || !named && len(chosen) > 1 {
			errs = append(errs, fmt.Errorf("--policies %s: of which service? allowed: SERVICE=FILE, of %s", arg, namesOf(chosen)))
			continue
		}
		text, err := os.ReadFile(file)
		if err == nil {
			err = source.Policies(chosen[i], source.File{Name: file, Text: text})
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func namesOf(list []*definition.Definition) string {
	var names []string
	for _, d := range list {
		names = append(names, d.Name)
	}
	return strings.Join(names, ", ")
}

// injected is a definition, and what it became.
type injected struct {
	d *definition.Definition
	r *ecs.Result
}

// write says what there is to know, and then writes; with --strict nothing if
// there is anything to note.
func (f *injectECS) write(stdout, stderr io.Writer, results []injected, files []source.File) error {
	notes := 0
	for _, x := range results {
		for _, n := range x.r.Notes {
			notes++
			fmt.Fprintln(stderr, "note:", n)
		}
		for _, n := range x.r.Changes {
			fmt.Fprintln(stderr, "changed:", n)
		}
	}
	if f.strict && notes > 0 {
		return cli.Exit(cli.Problems, fmt.Errorf("nothing was written: %s, with --strict", count.Of(notes, "note")))
	}
	for _, file := range files {
		if err := f.writeTemplate(stdout, file, results); err != nil {
			return err
		}
	}
	for _, x := range results {
		var err error
		switch {
		case x.d.Form == definition.CloudFormation:
		case f.plain:
			_, err = stdout.Write(ecs.Diff(x.d, x.r))
		default:
			err = writeAll(stdout, f.out, strings.ReplaceAll(x.r.Name, string(filepath.Separator), "-"), output{".task-definition.json", x.r.Task}, output{".service.json", x.r.Service}, output{".hcl", x.r.HCL})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeTemplate writes a template with all of its results, if the file is one.
func (f *injectECS) writeTemplate(stdout io.Writer, file source.File, results []injected) error {
	made := file
	var of []*ecs.Result
	for _, x := range results {
		if x.d.Form != definition.CloudFormation || x.d.TaskFile() != file.Name {
			continue
		}
		text, err := x.r.Template(made)
		if err != nil {
			return cli.Exit(cli.Problems, fmt.Errorf("nothing was written:\n%w", err))
		}
		made.Text, of = text, append(of, x.r)
	}
	switch {
	case len(of) == 0:
		return nil
	case f.plain:
		_, err := stdout.Write(ecs.TemplateDiff(file, made.Text, of...))
		return err
	}
	return writeTemplate(stdout, f.out, file.Name, made.Text)
}

// before are the definitions of --previous.
func (f *injectECS) before() ([]*definition.Definition, error) {
	if f.previous == "" {
		return nil, nil
	}
	text, err := os.ReadFile(f.previous)
	if err != nil {
		return nil, err
	}
	found, err := source.Read(f.source, source.File{Name: f.previous, Text: text})
	if err == nil && !slices.ContainsFunc(found, func(d *definition.Definition) bool { return d.Task != nil }) {
		err = fmt.Errorf("%s: has no task definition", f.previous)
	}
	if err != nil {
		return nil, cli.Exit(cli.Problems, fmt.Errorf("nothing was written:\n%w", err))
	}
	return found, nil
}

// changed are the protocols that are not what they were: of the definition of
// that family, or of the only one.
func changed(d *definition.Definition, before []*definition.Definition, of int) definition.Problems {
	for _, b := range before {
		if b.Task != nil && (b.Task.Text("family") == d.Task.Text("family") || len(before) == 1 && of == 1) {
			return ecs.Changed(d, b)
		}
	}
	return nil
}

// joinFiles are the files of a join directory that has no key; none without one.
func joinFiles(dir string) (map[string]string, error) {
	if dir == "" {
		return nil, nil
	}
	files, err := join.PublicFiles(dir)
	if errors.Is(err, join.ErrKeyed) {
		return nil, cli.Exit(cli.Misused, fmt.Errorf("%s holds a key, and a task definition is no place for one; allowed: a directory of patchbay token join --task-role", dir))
	}
	return files, err
}
