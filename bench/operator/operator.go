// Package operator measures what an operator waits for: `patchbay status` and
// the answers of the admin interface in a mesh of a thousand sidecars, and what
// it costs the sidecars that somebody looks.
//
// It uses the product from outside: the program as it is shipped, with tasks
// that enrol, register and subscribe as agents and Envoys do. It must not know
// how an answer is made. Start reading at [Job], then world.
package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"time"

	"patchbay/bench"
)

// Job is the operator's part. Call it once per run.
func Job() bench.Job {
	return bench.FromRows("operator", "What an operator waits for", strings.Join([]string{
		"The program as it is shipped runs a mesh with its own registry: 100 services of 10 tasks each. Every task has enrolled, has an agent stream and a stream for its Envoy by mutual TLS,",
		"and is registered; the Envoys are models that keep the books of real ones. `patchbay status` is timed from its start to its end; answers of the interface",
		"from the request to their last byte; the page in Chromium, which the control plane looks at the mesh for once a second. Changes are measured ten at a time, with nobody looking,",
		"with a page open and a status each second, and with one status after the other without a pause (which takes a core of the two); the three take turns. *Change → every sidecar has it* is",
		"from an agent's word that its application is gone until the last of the models has the new endpoints; *change → last ACK* is the mean of the control plane's own histogram;",
		"*CPU of a change* is the control plane's in the time of the ten changes, less that of as long a time before in which nothing changed and the same people looked.",
	}, "\n"), 6*time.Minute, measure)
}

// parts are what is asked of the admin interface.
var parts = []string{"status", "traffic", "namespaces", "certificates", "agents"}

const waits = "1,000 sidecars"

func measure(ctx context.Context, o bench.Options) ([]bench.Row, error) {
	w, err := start(ctx, o, o.Rounds(100, 3), o.Rounds(10, 2))
	if err != nil {
		return nil, err
	}
	defer w.stop()
	o.Say("  %d sidecars are registered and told", len(w.tasks))
	rows, err := w.answers(ctx, o)
	if err != nil {
		return rows, err
	}
	for _, more := range []func(context.Context, bench.Options) ([]bench.Row, error){w.page, w.pushes} {
		next, err := more(ctx, o)
		if rows = append(rows, next...); err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// answers times the command and the interface.
func (w *world) answers(ctx context.Context, o bench.Options) ([]bench.Row, error) {
	var rows []bench.Row
	timed := func(name string, f func() error) error {
		r := bench.Row{Scenario: waits, Variant: "patchbay", Metric: name, Unit: "ms", Goal: name + ", 1,000 sidecars", Limit: 200}
		for range o.Rounds(20, 2) {
			began := time.Now()
			if err := f(); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			r.Values = append(r.Values, ms(time.Since(began)))
		}
		o.Say("  %-28s %.0f ms", name, bench.Median(r.Values))
		rows = append(rows, r)
		return nil
	}
	for _, args := range [][]string{{"status"}, {"status", "-o", "json"}} {
		err := timed("patchbay "+strings.Join(args, " "), func() error {
			out, err := exec.CommandContext(ctx, w.program, append(args, "--admin", "unix:"+w.socket)...).CombinedOutput() //nolint:gosec // the program under test
			var exit *exec.ExitError
			if errors.As(err, &exit) && exit.ExitCode() == 4 { // it has findings: the mesh has no TLS
				err = nil
			}
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
		if err != nil {
			return rows, err
		}
	}
	for _, part := range parts {
		if err := timed("GET /api/v1/"+part, func() error { return w.get(ctx, "/api/v1/"+part) }); err != nil {
			return rows, err
		}
	}
	return rows, timed("first view of the page's events", func() error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		resp, err := w.ask(ctx, "/events")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		for b, seen := make([]byte, 1<<16), ""; !strings.Contains(seen, "\n\n"); {
			n, err := resp.Body.Read(b)
			if err != nil {
				return err
			}
			seen = seen[max(0, len(seen)-1):] + string(b[:n])
		}
		return nil
	})
}

func (w *world) ask(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://patchbay"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := w.client.Do(req)
	if err == nil && resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		err = fmt.Errorf("%s: %s", path, resp.Status)
	}
	return resp, err
}

func (w *world) get(ctx context.Context, path string) error {
	resp, err := w.ask(ctx, path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
