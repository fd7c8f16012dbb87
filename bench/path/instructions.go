package path

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"patchbay/bench"
	"patchbay/bench/load"
)

// Instructions counts what Envoy executes for a request.
var Instructions = bench.Job{
	Name: "instructions", Title: "Instructions per request", Limit: 3 * time.Minute,
	About: strings.Join([]string{
		"Both Envoys run under callgrind with one worker; counting is switched on when connections are open, for 2,000 requests on 8 connections (h2load, fortio).",
		"It counts what Envoy executes in user space: neither the kernel nor caches are in it, but it repeats to about one percent where times differ by",
		"tens of percent between two starts. That makes it the figure for small differences between two configurations.",
	}, "\n"),
	Run: countAll, Goals: countGoals,
}

const (
	mInstr    = "instructions per request, both Envoys"
	mInstrOut = "instructions per request, the caller's"
	mInstrIn  = "instructions per request, the called one's"
)

func countAll(ctx context.Context, o bench.Options, part *bench.Part) error {
	if _, err := exec.LookPath("valgrind"); err != nil {
		return errors.New("valgrind is missing: `make bench-needs` installs it")
	}
	w, err := newWorld(ctx, o)
	if err != nil {
		return err
	}
	defer w.close()
	part.Versions["envoy"] = w.envoyVersion
	counted := load.Protocols
	if o.Quick {
		counted = load.Protocols[:1]
	}
	for range o.Rounds(3, 1) {
		for _, v := range []variant{staticTLS, oursTLS} {
			if err := w.count(ctx, part, v, counted); err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
		}
	}
	return nil
}

func countGoals(part *bench.Part) {
	for _, p := range load.Protocols {
		v, ok := part.Ratio(p, oursTLS.name, staticTLS.name, mInstr)
		part.AtMost(1.02, "×", p+": instructions per request, "+oursTLS.name+" against "+staticTLS.name, v, ok)
	}
}

// count opens a variant under callgrind and counts each protocol.
func (w *world) count(ctx context.Context, part *bench.Part, v variant, counted []string) error {
	w.under = func(dir string) []string {
		return []string{"valgrind", "--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=" + filepath.Join(dir, "callgrind")}
	}
	w.concurrency = 1
	defer func() { w.under, w.concurrency = nil, workers }()
	r, err := w.open(ctx, v)
	if err != nil {
		return err
	}
	defer r.stop()
	const n = 2000
	for _, p := range counted {
		if err := load.Exactly(ctx, w.Options, p, r.addresses[p], 200); err != nil { // opens connections
			return err
		}
		for _, e := range r.envoys {
			if err := e.callgrind(ctx, "-i=on"); err != nil {
				return err
			}
		}
		err := load.Exactly(ctx, w.Options, p, r.addresses[p], n)
		var sum float64
		for i, e := range r.envoys {
			executed, e2 := e.instructions(ctx)
			if err = errors.Join(err, e2); err != nil {
				return err
			}
			sum += executed
			part.Add(p, v.name, []string{mInstrIn, mInstrOut}[i], "thousand", executed/n/1000)
		}
		part.Add(p, v.name, mInstr, "thousand", sum/n/1000)
		w.Say("  %-26s %-6s %.1f thousand instructions", v.name, p, sum/n/1000)
	}
	return nil
}

func (e *envoy) callgrind(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "callgrind_control", append(args, strconv.Itoa(e.cmd.Process.Pid))...).CombinedOutput() //nolint:gosec // valgrind's
	if err != nil {
		return fmt.Errorf("callgrind_control: %w: %s", err, out)
	}
	return nil
}

var totals = regexp.MustCompile(`(?m)^totals: (\d+)`)

// instructions stops counting, and returns and forgets what was counted.
func (e *envoy) instructions(ctx context.Context) (float64, error) {
	if err := e.callgrind(ctx, "-i=off"); err != nil {
		return 0, err
	}
	if err := e.callgrind(ctx, "--dump"); err != nil {
		return 0, err
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(e.log), "callgrind.*"))
	if err != nil || len(files) == 0 {
		return 0, errors.Join(err, errors.New("callgrind wrote nothing"))
	}
	var sum float64
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return 0, err
		}
		if m := totals.FindSubmatch(b); m != nil {
			n, _ := strconv.ParseFloat(string(m[1]), 64)
			sum += n
		}
		os.Remove(f)
	}
	if sum == 0 {
		return 0, errors.New("callgrind counted nothing")
	}
	return sum, nil
}
