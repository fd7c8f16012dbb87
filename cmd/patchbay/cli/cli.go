// Package cli is what the commands of patchbay have in common: with which code
// they end, how they say so, and how they log.
//
// It must not know a command. Start reading at [Code].
package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"patchbay/admin/api"
	"patchbay/config"
	"patchbay/internal/count"
	"patchbay/internal/health"
)

// Exit codes, part of the command line's contract; [Codes] says what they mean.
const (
	Done        = 0
	Failed      = 1
	Misused     = 2 // by what was typed, or what was configured
	NotPossible = 3 // here
	Problems    = 4 // were found
)

// Codes is what each exit code means: the end of the root's help, and the head of
// docs/reference/cli.md.
var Codes = [...]string{
	Done: "done; also when Ctrl-C or SIGTERM has ended a command that runs until then",
	Failed: "failed, and may succeed later: nothing answers, it is not ready, another\n" +
		"is at it now",
	Misused: "wrong as it was given, and wrong again until that is changed: a command,\n" +
		"flag, name, file, configuration or declaration, also if only the control\n" +
		"plane can tell; every problem is listed, and nothing was done",
	NotPossible: "not possible here: the machine lacks something (an Envoy, a privilege, a\n" +
		"package), and the message says how to get it",
	Problems: "the command was to judge a mesh, a log, or a file that it converts, and\n" +
		"has found something wrong",
}

// exitError carries an exit code through cobra.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// Exit is err, for which the program ends with a code of its own.
func Exit(code int, err error) error { return &exitError{code, err} }

// Given is err, if any, of what was given to a command: [Misused].
func Given(err error) error {
	if err == nil {
		return nil
	}
	return Exit(Misused, err)
}

// Code is the exit code that an error stands for: the one that its command gave
// it, or what its kind says.
func Code(err error) int {
	if err == nil {
		return Done
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	if _, ok := errors.AsType[*config.Wrong](err); ok {
		return Misused
	}
	if e, ok := errors.AsType[*api.Declined](err); ok && !e.ForNow() {
		return Misused // also what the control plane finds wrong
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok { // of a file that was named
		return Misused
	}
	if _, ok := errors.AsType[*net.AddrError](err); ok { // it is no address
		return Misused
	}
	return Failed
}

// Usage is an error of the command line: of what was typed.
func Usage(c *cobra.Command, err error) error {
	return Exit(Misused, fmt.Errorf("%w\nsee '%s --help'", err, c.CommandPath()))
}

// Found is the error of a command that found so many: they have been printed.
func Found(n int, what string) error { return Exit(Problems, errors.New(count.Of(n, what))) }

// WrongLog is what is wrong with what is wanted of a log.
func WrongLog(l config.Log) error {
	var errs []error
	for _, flag := range []struct {
		name, value string
		allowed     []string
	}{
		{"log-level", l.Level, []string{"debug", "info", "warn", "error"}},
		{"log-format", l.Format, []string{"text", "json"}},
	} {
		if !slices.Contains(flag.allowed, flag.value) {
			errs = append(errs, fmt.Errorf("--%s %q; allowed: %s", flag.name, flag.value, strings.Join(flag.allowed, ", ")))
		}
	}
	return errors.Join(errs...)
}

// Log writes as is wanted. A level that is none is info.
func Log(l config.Log, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		level = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// Aged are texts, each with the time that its problem has lasted.
func Aged(texts []string, problems []health.Problem) []string {
	for i, p := range problems {
		texts[i] += " (for " + time.Since(p.Since).Round(time.Second).String() + ")"
	}
	return texts
}

// HostName is this machine's name.
func HostName() string {
	name, err := os.Hostname()
	if err != nil {
		return "patchbay"
	}
	return name
}
