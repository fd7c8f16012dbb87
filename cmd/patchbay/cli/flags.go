package cli

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"patchbay/diagnose/show"
	"patchbay/internal/count"
	"patchbay/internal/suggest"
)

// WrongFlags is everything that is wrong with the flags among args, which are
// those of c: the library stops at the first. Each longer beginning of args is
// read until one can't be; what is wrong is the last of it, and the rest is read
// on. Values may be set twice by that: c is not to run any more.
func WrongFlags(c *cobra.Command, args []string) error {
	var errs []error
	from := 0
	for to := range args {
		err := c.Flags().Parse(args[from : to+1])
		if needs := new(pflag.ValueRequiredError); err == nil || errors.As(err, &needs) && to+1 < len(args) {
			continue // a value may follow
		}
		errs, from = append(errs, flagError(c, err)), to+1
	}
	return Usage(c, errors.Join(append(errs, unfit(c))...))
}

// Strict makes c and all below it answer wrong arguments and flags that are
// missing, or don't go together, as usage errors, all of them at once.
func Strict(c *cobra.Command) {
	for _, sub := range c.Commands() {
		Strict(sub)
	}
	check := c.Args
	if check == nil {
		return
	}
	c.Args = func(c *cobra.Command, args []string) error {
		var wrong error
		if check(c, args) != nil {
			got := count.Of(len(args), "argument")
			if len(args) > 0 {
				got += ": " + strings.Trim(fmt.Sprintf("%q", args), "[]")
			}
			wrong = fmt.Errorf("%s; allowed: %s", got, c.UseLine())
		}
		if err := errors.Join(wrong, unfit(c)); err != nil {
			return Usage(c, err)
		}
		return nil
	}
}

// flagError is an error of the library, with what is allowed, or was meant.
func flagError(c *cobra.Command, err error) error {
	if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		bad.GetFlag().Changed = true // it is not missing
		return fmt.Errorf("--%s %w", bad.GetFlag().Name, Value(err))
	}
	if bad, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		bad.GetFlag().Changed = true
		return fmt.Errorf("--%s lacks its value: %s", bad.GetFlag().Name, bad.GetFlag().Usage)
	}
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		var all []string
		c.Flags().VisitAll(func(f *pflag.Flag) { all = append(all, f.Name) })
		switch name := unknown.GetSpecifiedName(); { // what other commands call it
		case slices.Contains(all, "json") && (name == "o" || name == "output"):
			return fmt.Errorf("%w; did you mean --json?", err)
		case name == "json" && slices.Contains(all, "output") && c.Flags().Lookup("output").DefValue == show.Text:
			return fmt.Errorf("%w; did you mean --output json?", err)
		}
		if near := suggest.Near(unknown.GetSpecifiedName(), all); near != "" && unknown.GetSpecifiedShortnames() == "" {
			return fmt.Errorf("%w; did you mean --%s?", err, near)
		}
	}
	return err
}

// Value is the error of a flag's value, by whatever name it was given: the value,
// and what is allowed in its place. Any other error is returned as it is.
func Value(err error) error {
	bad, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return err
	}
	allowed := map[string]string{
		"duration":       "a number with its unit, such as 300ms, 20s, 5m or 1h30m",
		"int":            "a whole number",
		"uint32":         "a whole number, 0 to 4294967295",
		"float64":        "a number",
		"bool":           "true or false",
		"stringToString": "NAME=VALUE",
	}[bad.GetFlag().Value.Type()]
	if allowed == "" { // the flag's own words
		return bad.Unwrap()
	}
	return fmt.Errorf("%q; allowed: %s", bad.GetValue(), allowed)
}

// together finds the flags in what the library says of those that are not.
var together = regexp.MustCompile(`\[([^]]*)\] were all set`)

// unfit is what is wrong with flags that are each right: one that is missing, or
// those that don't go together.
func unfit(c *cobra.Command) error {
	var errs []error
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Annotations[cobra.BashCompOneRequiredFlag] != nil && !f.Changed {
			errs = append(errs, fmt.Errorf("--%s is missing; allowed: %s", f.Name, f.Usage))
		}
	})
	if err := c.ValidateFlagGroups(); err != nil {
		if m := together.FindStringSubmatch(err.Error()); m != nil {
			err = fmt.Errorf("--%s don't go together; allowed: one of them", strings.ReplaceAll(m[1], " ", " and --"))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
