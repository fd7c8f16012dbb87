// Command bench measures patchbay and writes docs/benchmarks.json and
// docs/benchmarks.md. Run it by `make bench`, which installs what it needs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"patchbay/bench"
	"patchbay/bench/certificates"
	"patchbay/bench/day"
	"patchbay/bench/operator"
	"patchbay/bench/path"
	"patchbay/bench/push"
)

// jobs are all parts, in the order of running and of the page. A package that
// measures something of its own is put here by [bench.FromRows].
var jobs = []bench.Job{push.Job, push.Cost, operator.Job(), path.Job, path.Churn, path.Memory, path.Instructions, day.Job, certificates.Job, push.Endurance}

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	return 0
}

func names() []string {
	var out []string
	for _, j := range jobs {
		out = append(out, j.Name)
	}
	return out
}

func newRoot() *cobra.Command {
	var only []string
	var write, envoy, tools string
	var quick bool
	var long time.Duration
	c := &cobra.Command{
		Use: "bench", Short: "Measures the push path and the data path, and writes what it finds into the documentation",
		Example: "  bench\n  bench --only push --quick\n  bench --only push --write /tmp/results",
		Args:    cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) error {
			chosen, err := choose(only)
			if err != nil {
				return err
			}
			if quick && !c.Flags().Changed("write") {
				write = ""
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			o := bench.Options{Quick: quick, Out: c.ErrOrStderr(), Self: self, Envoy: envoy, Tools: tools, For: long}
			return all(c.Context(), o, chosen, c.OutOrStdout(), write)
		},
	}
	c.Flags().StringSliceVar(&only, "only", nil, "run these parts only: "+strings.Join(names(), ", "))
	c.Flags().DurationVar(&long, "for", 0, "how long the part endurance takes (default 10m)")
	c.Flags().BoolVar(&quick, "quick", false, "a smoke run: few and short rounds, nothing is written unless --write is given")
	c.Flags().StringVar(&write, "write", "docs", "directory of benchmarks.json and benchmarks.md to bring up to date")
	c.Flags().StringVar(&envoy, "envoy", os.Getenv("PATCHBAY_ENVOY"), "the Envoy binary")
	c.Flags().StringVar(&tools, "tools", ".tools/bin", "directory of load generators that are not on PATH")
	c.AddCommand(newPushServer(), newPushClients(), newApp(), newLoad(), newDay())
	return c
}

func choose(only []string) ([]bench.Job, error) {
	var out []bench.Job
	if len(only) == 0 {
		for _, j := range jobs {
			if !j.Apart {
				out = append(out, j)
			}
		}
		return out, nil
	}
	for _, name := range only {
		i := slices.Index(names(), name)
		if i < 0 {
			return nil, fmt.Errorf("--only %s: there are %s", name, strings.Join(names(), ", "))
		}
		out = append(out, jobs[i])
	}
	return out, nil
}

// all runs jobs one after the other, prints each and writes what was found. A
// job that fails does not take the others along; what it found is not written.
func all(ctx context.Context, o bench.Options, chosen []bench.Job, out io.Writer, write string) error {
	var parts []*bench.Part
	var errs []error
	for _, j := range chosen {
		p, err := one(ctx, o, j)
		if ctx.Err() != nil {
			return errors.New("stopped; nothing was written")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", j.Name, err))
		}
		if len(p.Figures) > 0 {
			p.Markdown(out)
		}
		if len(p.Figures) > 0 && err == nil {
			parts = append(parts, p)
		}
	}
	if write != "" && len(parts) > 0 {
		errs = append(errs, bench.Write(write, names(), parts))
	}
	return errors.Join(errs...)
}

func one(ctx context.Context, o bench.Options, j bench.Job) (*bench.Part, error) {
	p := &bench.Part{
		Name: j.Name, Title: j.Title, About: j.About, Ran: time.Now().UTC().Truncate(time.Second), Quick: o.Quick, Machine: bench.ThisMachine(),
		Versions: bench.Modules("github.com/envoyproxy/go-control-plane", "github.com/envoyproxy/go-control-plane/envoy", "google.golang.org/grpc", "google.golang.org/protobuf"),
	}
	dir, err := os.MkdirTemp("", "patchbay-bench-")
	if err != nil {
		return p, err
	}
	defer os.RemoveAll(dir)
	o.Dir = dir
	ctx, cancel := context.WithTimeout(ctx, j.Limit)
	defer cancel()
	start := time.Now()
	err = j.Run(ctx, o, p)
	p.Seconds = time.Since(start).Round(time.Second).Seconds()
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		p.Notes = append(p.Notes, fmt.Sprintf("**Cut off after %v**: what is missing was not measured, and the last runs may be few.", j.Limit))
		err = nil
	}
	j.Goals(p)
	return p, err
}
