package operator

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"patchbay/bench"
)

// watchers are who looks while something changes.
var watchers = []struct {
	name  string
	pause time.Duration // between two statuses; below 0: nobody looks
}{{"nobody looks", -1}, {"a page, and a status each second", time.Second}, {"statuses without a pause", 0}}

const (
	// burst is how many changes are measured together: an application that goes
	// and comes back is two.
	burst = 10
	// calm is how long the control plane is watched while nothing changes.
	calm = time.Second
	// answered is the control plane's own measure, from a change to the answer
	// of the last sidecar.
	answered = "patchbay_xds_change_last_ack_seconds"
)

// figures of changes, each per change.
var figures = []struct{ name, unit string }{
	{"change → every sidecar has it", "ms"},
	{"change → last ACK", "ms"},
	{"CPU of a change", "ms"},
}

// pushes measures changes, with and without somebody who looks. The watchers
// take turns.
func (w *world) pushes(ctx context.Context, o bench.Options) ([]bench.Row, error) {
	rows := make([]bench.Row, 0, len(watchers)*len(figures))
	for _, who := range watchers {
		for _, f := range figures {
			rows = append(rows, bench.Row{Scenario: "one change", Variant: who.name, Metric: f.name, Unit: f.unit})
		}
	}
	for n := range o.Rounds(5, 2) {
		for i, who := range watchers {
			stop := w.look(ctx, who.pause)
			got, err := w.changes(ctx, (n*len(watchers)+i)*burst/2)
			stop()
			if err != nil {
				return rows, err
			}
			for k, v := range got {
				rows[i*len(figures)+k].Values = append(rows[i*len(figures)+k].Values, v)
			}
		}
	}
	for k, f := range figures {
		quiet, looked := bench.Median(rows[k].Values), bench.Median(rows[len(figures)+k].Values)
		o.Say("  %s: %.1f ms; looked at: %.1f ms; without a pause: %.1f ms", f.name, quiet, looked, bench.Median(rows[2*len(figures)+k].Values))
		rows = append(rows, bench.Row{
			Scenario: "one change", Variant: watchers[1].name, Metric: f.name + ", × nobody looks", Unit: "×", Values: []float64{looked / quiet},
			Goal: f.name + ", with a page open and a status each second, against nobody looking", Limit: 1.1,
		})
	}
	last := len(watchers)*len(figures) - 1 // while a core is busy with statuses, a change's share can't be told
	return append(rows[:last:last], rows[last+1:]...), nil
}

// changes makes a burst of changes of tasks from the first on, and returns the
// figures of one.
func (w *world) changes(ctx context.Context, first int) (out [3]float64, err error) {
	idle, err := w.spent()
	if err != nil {
		return out, err
	}
	time.Sleep(calm)
	before, err := w.spent()
	if err != nil {
		return out, err
	}
	rate := float64(before-idle) / float64(calm) // of a core
	sum, count, err := w.histogram(ctx)
	if err != nil {
		return out, err
	}
	began := time.Now()
	var took time.Duration
	for i := range burst / 2 {
		d, err := w.change(ctx, (first+i)%len(w.tasks))
		if err != nil {
			return out, err
		}
		took += d
	}
	time.Sleep(calm - time.Since(began)) // what follows a change counts
	whole := time.Since(began)
	after, err := w.spent()
	if err != nil {
		return out, err
	}
	sumNow, countNow, err := w.histogram(ctx)
	if err == nil && countNow == count {
		err = fmt.Errorf("%s has counted no change", answered)
	}
	return [3]float64{ms(took) / (burst / 2), (sumNow - sum) / (countNow - count) * 1000, (ms(after-before) - rate*ms(whole)) / burst}, err
}

// spent is the CPU time of the control plane so far.
func (w *world) spent() (sum time.Duration, err error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", w.control.Process.Pid))
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if os.IsNotExist(err) {
			continue // a thread has ended
		}
		if err != nil {
			return 0, err
		}
		ran, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(ran, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", f, err)
		}
		sum += time.Duration(n)
	}
	return sum, nil
}

// histogram is the control plane's own measure so far.
func (w *world) histogram(ctx context.Context) (sum, count float64, err error) {
	resp, err := w.ask(ctx, "/metrics")
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		switch name {
		case answered + "_sum":
			sum, err = strconv.ParseFloat(value, 64)
		case answered + "_count":
			count, err = strconv.ParseFloat(value, 64)
		}
		if err != nil {
			return 0, 0, fmt.Errorf("%s: %w", name, err)
		}
	}
	return sum, count, nil
}

// look looks until stop is called, from half a second before it returns.
func (w *world) look(ctx context.Context, pause time.Duration) (stop func()) {
	if pause < 0 {
		time.Sleep(500 * time.Millisecond)
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() {
		if resp, err := w.ask(ctx, "/events"); err == nil {
			io.Copy(io.Discard, resp.Body) //nolint:errcheck // until it is stopped
			resp.Body.Close()
		}
	})
	all.Go(func() {
		for ctx.Err() == nil {
			w.get(ctx, "/api/v1/status") //nolint:errcheck // it may be stopped
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
	})
	time.Sleep(500 * time.Millisecond)
	return func() { cancel(); all.Wait() }
}
