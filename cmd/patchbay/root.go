package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes, part of the command line's contract (docs/reference/cli.md).
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotPossible = 3
	exitProblems    = 4
)

// exitError carries an exit code through cobra.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "patchbay",
		Short: "ECS Service Connect for the Envoys that you run yourself",
		Long: `patchbay gives each task a sidecar Envoy, resolves services from AWS Cloud Map
(or its own registry), issues short-lived TLS 1.3 certificates, and keeps every
sidecar current over incremental xDS.

Let a workload join:    patchbay token join --help`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &exitError{exitUsage, fmt.Errorf("%w\nsee '%s --help'", err, c.CommandPath())}
	})
	root.AddCommand(commands()...)
	return root
}

// commands lists every subcommand, in the order of `patchbay --help`.
func commands() []*cobra.Command {
	return []*cobra.Command{newServeCmd(), newSidecarCmd(), newTokenCmd(), newDemoCmd(), newVersionCmd()}
}

// exitCode prints err, if any, the way every subcommand does, and maps it to
// the exit code. A command that ends because ctx was cancelled by a signal has
// stopped cleanly.
func exitCode(ctx context.Context, root *cobra.Command, err error) int {
	if err == nil || ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx))) {
		return exitDone
	}
	fmt.Fprintln(root.ErrOrStderr(), "patchbay:", err)
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	if strings.HasPrefix(err.Error(), "unknown command") {
		return exitUsage
	}
	return exitFailed
}
