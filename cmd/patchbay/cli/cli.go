// Package cli is what the commands of patchbay have in common: with which code
// they end, how they say so, and how they log.
//
// It must not know a command. Start reading at [Code].
package cli

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"patchbay/config"
	"patchbay/internal/count"
	"patchbay/internal/health"
)

// Exit codes, part of the command line's contract (docs/reference/cli.md).
const (
	Done        = 0
	Failed      = 1
	Misused     = 2 // by what was typed, or what was configured
	NotPossible = 3 // here
	Problems    = 4 // were found
)

// exitError carries an exit code through cobra.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// Exit is err, for which the program ends with a code of its own.
func Exit(code int, err error) error { return &exitError{code, err} }

// Code is the exit code that an error stands for.
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
	if strings.HasPrefix(err.Error(), "required flag(s) ") { // the library's, which has no type
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
