package tasks

import (
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strconv"

	"github.com/spf13/pflag"

	"patchbay/cmd/patchbay/cli"
	"patchbay/declare"
	"patchbay/internal/textfile"
	"patchbay/mesh"
	"patchbay/sidecar/file"
)

// atLines says where in the file the problems of its declaration stand.
func (o *sidecarOptions) atLines(problems declare.Problems) error {
	var errs []error
	slices.SortStableFunc(problems, func(a, b declare.Problem) int { return o.fromConfig.Line(a.Path) - o.fromConfig.Line(b.Path) })
	for _, p := range problems {
		if n := o.fromConfig.Line(p.Path); n > 0 {
			errs = append(errs, fmt.Errorf("%s:%d: %w", o.file, n, errors.New(p.String())))
		} else {
			errs = append(errs, fmt.Errorf("%s: %w", o.file, errors.New(p.String())))
		}
	}
	return errors.Join(errs...)
}

// fromFile gives every flag that neither the command line nor the environment
// names its value in the file of --config. What is wrong in it is kept: agent
// lists it with the rest.
func (o *sidecarOptions) fromFile(f *pflag.FlagSet) error {
	if o.file == "" {
		return nil
	}
	text, _, err := textfile.Read(o.file, "a task's file")
	if err != nil {
		return cli.Exit(cli.Misused, fmt.Errorf("--config: %w", err))
	}
	var names []string
	f.VisitAll(func(flag *pflag.Flag) {
		if flag.Name != "config" && flag.Name != "help" && flag.Name != "service-connect" {
			names = append(names, flag.Name)
		}
	})
	got, err := file.Parse(o.file, text, names)
	errs := []error{err}
	for _, v := range got.Flags {
		if f.Changed(v.Name) {
			continue
		}
		if err := f.Set(v.Name, v.Value); err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %s: %w", o.file, v.Line, v.Key, cli.Value(err)))
		}
	}
	o.fromConfig, o.inFile = got, errors.Join(errs...)
	if got.Flags == nil && got.Declaration == nil && o.inFile != nil { // nothing more follows
		return cli.Exit(cli.Misused, o.inFile)
	}
	return nil
}

// envoyUser is the id of the user that Envoy runs under.
func (o *sidecarOptions) envoyUser() (int, error) {
	if o.user == "" {
		return o.uid, nil
	}
	u, err := user.Lookup(o.user)
	if err != nil {
		return 0, fmt.Errorf("envoy-user: %w", err)
	}
	return strconv.Atoi(u.Uid)
}

// revisionValue is a revision, held against its letters where it is given.
type revisionValue struct{ to *string }

// Set takes a revision, or nothing.
func (v revisionValue) Set(text string) error {
	if text != "" && !mesh.ValidRevision(text) {
		return fmt.Errorf("%q; allowed: up to 64 of [0-9a-zA-Z_.-]", text)
	}
	*v.to = text
	return nil
}

// Type is what help calls it.
func (v revisionValue) Type() string { return "string" }

func (v revisionValue) String() string {
	if v.to == nil {
		return ""
	}
	return *v.to
}
