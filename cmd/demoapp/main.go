// Command demoapp is an ordinary application for the demo and the tests: a
// server of the four protocols, and plain clients of them. It knows nothing of
// patchbay, proxies or certificates: it calls names and ports.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use: "demoapp", Short: "An application like any other: serves and calls http, http2, grpc and tcp",
		SilenceUsage: true, SilenceErrors: true,
	}
	root.AddCommand(newServe(), newGet(), newGRPC(), newTCP(), newLoad())
	root.SetArgs(args)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demoapp:", err)
		return 1
	}
	return 0
}
