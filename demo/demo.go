// Package demo runs the whole mesh on one machine and proves what it promises.
//
// It owns a lab of network namespaces, in which each task is a machine of its
// own with the real Envoy, a real step-ca and the programs that users run. It
// must not know how these work inside: it sees command lines, ports, Envoy's
// counters and what ordinary clients see. Start reading at [Run].
package demo

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"patchbay/demo/evidence"
	"patchbay/demo/lab"
	"patchbay/demo/report"
)

// Options of a run.
type Options struct {
	// Programs is the directory of patchbay, devca and demoapp.
	Programs string
	// Cloud is FakeAWS, or empty for a mesh of step-ca and the embedded
	// registry.
	Cloud string
	// Once runs every proof and ends; otherwise the mesh runs until ctx ends.
	Once bool
	// JSON prints the report of [Check]s at the end, and nothing else.
	JSON bool
	// Keep leaves the directory with logs and state behind.
	Keep bool
	Out  io.Writer
}

// ErrNotHere is wrapped when this machine can't run the demo.
var ErrNotHere = lab.ErrNotHere

// Run starts the mesh, shows it or proves it, and stops all that it started,
// also when ctx ends early.
func Run(ctx context.Context, o Options) error {
	if os.Geteuid() != 0 {
		return becomeRoot()
	}
	programs := []string{"patchbay", "devca", "demoapp"}
	if o.Cloud == FakeAWS {
		programs = append(programs, "awsfake")
	}
	for _, name := range programs {
		if _, err := os.Stat(filepath.Join(o.Programs, name)); err != nil {
			return fmt.Errorf("%w: %s is not beside patchbay: run `make build`", ErrNotHere, name)
		}
	}
	dir, err := os.MkdirTemp("", "patchbay-demo-")
	if err != nil {
		return err
	}
	// Envoy runs under a user of its own and must reach the sockets below.
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // what is secret inside is 0600
		return err
	}
	w, err := newWorld(ctx, o.Programs, dir, o.Cloud == FakeAWS)
	defer func() {
		if w.Lab != nil {
			w.Close()
		}
		if o.Keep {
			fmt.Fprintln(o.Out, "logs and state are in", dir)
		} else {
			os.RemoveAll(dir)
		}
	}()
	if err != nil {
		return err
	}
	if err := w.firstTasks(ctx); err != nil {
		return err
	}
	if !o.Once {
		return w.show(ctx, o.Out)
	}
	return w.prove(ctx, o)
}

// prove runs every proof, and reports.
func (w *world) prove(ctx context.Context, o Options) error {
	r := report.New(o.Out, o.JSON)
	all := proofs
	if o.Cloud == FakeAWS {
		all = onCloud()
	}
	for _, p := range all {
		f, err := p.run(ctx, w)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.Add(p.id, p.title, f, err)
	}
	return r.End()
}

// firstTasks starts what is there from the beginning: a client-only frontend,
// two backends, and a machine outside of the mesh.
func (w *world) firstTasks(ctx context.Context) error {
	outside, err := w.Add(ctx, "outside", 40)
	if err != nil {
		return err
	}
	if _, err := outside.Start("outside", nil, w.program("demoapp"), "serve", "--name", "database", "--tcp", "0.0.0.0:5432"); err != nil {
		return err
	}
	for _, t := range []struct {
		name, workload string
		last           uint8
		services       []service
	}{{"backend-1", "backend", 21, backendServices}, {"backend-2", "backend", 22, backendServices}, {"frontend", "frontend", 10, nil}} {
		if _, err := w.addTask(ctx, t.name, t.workload, t.last, t.services); err != nil {
			return err
		}
	}
	for _, name := range []string{"backend-1", "backend-2", "frontend"} {
		if err := w.waitReady(ctx, w.tasks[name]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// show calls the backends from the frontend for as long as ctx lasts, and
// tells each second what happens. A backend joins and a leaf rotates on the
// way.
func (w *world) show(ctx context.Context, out io.Writer) error {
	fmt.Fprintf(out, "control plane ready after %.2f s; the frontend calls %s 50 times a second (Ctrl-C stops everything)\n", w.ready.Seconds(), backendURL)
	fmt.Fprintf(out, "in another terminal:  export PATCHBAY_ADMIN=unix:%s\n                      %[2]s status; %[2]s page\n", filepath.Join(w.path("data"), "admin.sock"), w.program("patchbay"))
	l, err := w.startLoad(w.tasks["frontend"].Host, "load", backendURL, 50, 0)
	if err != nil {
		return err
	}
	events := map[int]func() string{
		5: func() string { f, err := proveJoin(ctx, w); return event("a third backend joined", f, err) },
		10: func() string {
			start := time.Now()
			_, err := w.act(ctx, "rotate?service=backend.demo")
			return event("the leaf of backend.demo was renewed: mind the serial", report.Figure{Value: report.MS(time.Since(start)), Unit: "ms"}, err)
		},
	}
	before := evidence.Tally{}
	for second := 1; ; second++ {
		if err := evidence.Pause(ctx, time.Second); err != nil {
			fmt.Fprintln(out, "stopping everything")
			return err
		}
		if do := events[second]; do != nil {
			fmt.Fprintln(out, do())
		}
		now := l.now()
		serial, err := w.leafOf(ctx, w.tasks["backend-1"], "-serial")
		if err != nil {
			serial = "serial unknown"
		}
		fmt.Fprintf(out, "%4d s  %4d requests/s  p50 %.1f ms  failed %d  by %s  TLS 1.3, %s\n", second, now.Sent-before.Sent, now.P50MS, now.Failed, answers(now.By), serial)
		before = now
	}
}

// answers are how many each backend gave.
func answers(by map[string]int) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(by)) {
		out = append(out, fmt.Sprintf("%s: %d", name, by[name]))
	}
	return strings.Join(out, ", ")
}

func event(what string, f report.Figure, err error) string {
	if err != nil {
		return "✗ " + what + ": " + err.Error()
	}
	return strings.TrimSuffix(fmt.Sprintf("● %s (%.0f %s %s", what, f.Value, f.Unit, f.Detail), " ") + ")"
}
