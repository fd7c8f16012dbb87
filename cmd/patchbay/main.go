// Command patchbay is the control plane, the sidecar agent, the registry and
// the tools around them, in one binary. Each subcommand has a file of its own,
// with its flags, its help and a call: those that run a part of patchbay here,
// those of whoever operates a mesh in operate, those of tasks in tasks. What a
// command does is in the package of that idea, as controlplane is for serve.
// Start reading at root.go.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"patchbay/cmd/patchbay/cli"
)

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	root.SetIn(cli.Stdin(ctx, os.Stdin))
	root.SetErr(cli.Unblocked(os.Stderr))
	return perform(ctx, root, args)
}
