package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"

	"github.com/spf13/pflag"

	"patchbay/sidecar/file"
)

// fromFile gives every flag that neither the command line nor the environment
// names its value in the file of --config.
func (o *sidecarOptions) fromFile(f *pflag.FlagSet) error {
	if o.file == "" {
		return nil
	}
	text, err := os.ReadFile(o.file)
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("--config: %w", err)}
	}
	var names []string
	f.VisitAll(func(flag *pflag.Flag) {
		if flag.Name != "config" && flag.Name != "help" {
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
			errs = append(errs, fmt.Errorf("%s:%d: %s: %w", o.file, v.Line, v.Key, err))
		}
	}
	o.declaration = got.Declaration
	if err := errors.Join(errs...); err != nil {
		return &exitError{exitUsage, err}
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
