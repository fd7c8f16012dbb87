package demo

import (
	"context"
	"fmt"
	"strings"
	"time"

	"patchbay/demo/evidence"
	"patchbay/demo/lab"
	"patchbay/demo/report"
	"patchbay/internal/poll"
)

// answers calls url from h until want answers, and returns how long that took.
func (w *world) answers(ctx context.Context, h *lab.Host, url, want string) (time.Duration, error) {
	start := time.Now()
	err := poll.Until(ctx, patience, func() error {
		out, err := h.Output(ctx, "curl", "-sS", "--max-time", "2", url)
		if err == nil && out != want {
			err = fmt.Errorf("%s answers", out)
		}
		return err
	})
	return time.Since(start), err
}

func proveJoin(ctx context.Context, w *world) (report.Figure, error) {
	t, err := w.addTask(ctx, "backend-3", "backend", 23, backendServices)
	if err != nil {
		return report.Figure{}, err
	}
	if err := w.waitReady(ctx, t); err != nil {
		return report.Figure{}, err
	}
	took, err := w.answers(ctx, w.tasks["frontend"].Host, backendURL, "backend-3")
	return report.Figure{Value: report.MS(took), Unit: "ms", Detail: "from registered to the first request that it served"}, err
}

func proveNewService(ctx context.Context, w *world) (report.Figure, error) {
	later := []service{{"later", "http", 8090, true}}
	t, err := w.addTask(ctx, "later-1", "later", 31, later)
	if err != nil {
		return report.Figure{}, err
	}
	if err := w.waitReady(ctx, t); err != nil {
		return report.Figure{}, err
	}
	took, err := w.answers(ctx, w.tasks["frontend"].Host, "http://later.demo:8090/", "later-1")
	return report.Figure{Value: report.MS(took), Unit: "ms", Detail: "from registered to the first answer, by its alias"}, err
}

func proveTLSSwitch(ctx context.Context, w *world) (report.Figure, error) {
	plain := []service{{"plain", "http", 8095, false}}
	first, err := w.addTask(ctx, "plain-1", "plain", 32, plain)
	if err != nil {
		return report.Figure{}, err
	}
	if err := w.waitReady(ctx, first); err != nil {
		return report.Figure{}, err
	}
	front := w.tasks["frontend"]
	const url = "http://plain.demo:8095/"
	if _, err := w.answers(ctx, front.Host, url, "plain-1"); err != nil {
		return report.Figure{}, err
	}
	t, err := w.underLoad(ctx, front.Host, "load-tls-switch", url, loadRate, func() error {
		plain[0].tls = true
		second, err := w.addTask(ctx, "plain-2", "plain", 33, plain)
		if err != nil {
			return err
		}
		if err := w.waitReady(ctx, second); err != nil {
			return err
		}
		if err := evidence.Pause(ctx, time.Second); err != nil {
			return err
		}
		first.agent.Stop(20 * time.Second)
		return evidence.Pause(ctx, time.Second)
	})
	if err == nil && (t.By["plain-1"] == 0 || t.By["plain-2"] == 0) {
		err = fmt.Errorf("answers by server: %v", t.By)
	}
	if err == nil {
		var n int
		if n, err = front.counter(ctx, "cluster.plain.demo.ssl.versions.TLSv1.3"); n == 0 && err == nil {
			err = fmt.Errorf("no TLS connection was made")
		}
	}
	return report.Figure{Value: float64(t.Failed), Unit: "failed", Detail: fmt.Sprintf("of %d requests; plain-1 in plain text, plain-2 in TLS", t.Sent)}, err
}

// rotate asks for a new leaf, where there are two control planes the one that
// the sidecars go to second.
func (w *world) rotate(ctx context.Context, service string) (err error) {
	if w.cloud != nil {
		_, err = w.actOn(ctx, w.cloud.second, "data-2", "rotate?service="+service)
	} else {
		_, err = w.act(ctx, "rotate?service="+service)
	}
	return err
}

func proveRotation(ctx context.Context, w *world) (report.Figure, error) {
	backend := w.tasks["backend-1"]
	var took time.Duration
	t, err := w.underLoad(ctx, w.tasks["frontend"].Host, "load-rotation", backendURL, loadRate, func() error {
		before, err := w.leafOf(ctx, backend, "-serial")
		if err != nil {
			return err
		}
		start := time.Now()
		if err := w.rotate(ctx, "backend.demo"); err != nil {
			return err
		}
		err = poll.Until(ctx, patience, func() error {
			after, err := w.leafOf(ctx, backend, "-serial")
			if err == nil && after == before {
				err = fmt.Errorf("%s is still on the wire", after)
			}
			return err
		})
		took = time.Since(start)
		return err
	})
	return report.Figure{Value: report.MS(took), Unit: "ms", Detail: fmt.Sprintf("to the new serial on the wire; 0 of %d requests failed", t.Sent)}, err
}

func proveKilled(ctx context.Context, w *world) (report.Figure, error) {
	const away = 20 * time.Second
	front := w.tasks["frontend"]
	removed := func() (int, error) {
		a, err := front.counter(ctx, "cluster_manager.cluster_removed")
		if err != nil {
			return 0, err
		}
		b, err := front.counter(ctx, "listener_manager.listener_removed")
		return a + b, err
	}
	before, err := removed()
	if err != nil {
		return report.Figure{}, err
	}
	t, err := w.underLoad(ctx, front.Host, "load-killed", backendURL, loadRate, func() error {
		w.serve.Kill()
		if w.cloud != nil {
			w.cloud.replica.Kill()
		}
		if err := evidence.Pause(ctx, away); err != nil {
			return err
		}
		if err := w.startControl(ctx); err != nil {
			return err
		}
		return poll.Until(ctx, patience, func() error {
			n, err := front.counter(ctx, "control_plane.connected_state")
			if err == nil && n != 1 {
				err = fmt.Errorf("the frontend's Envoy is not connected again")
			}
			return err
		})
	})
	if err != nil {
		return report.Figure{}, err
	}
	if err := evidence.Pause(ctx, 2*time.Second); err != nil {
		return report.Figure{}, err
	}
	after, err := removed()
	if err == nil && after != before {
		err = fmt.Errorf("%d resources were removed", after-before)
	}
	return report.Figure{Value: float64(t.Failed), Unit: "failed", Detail: fmt.Sprintf("of %d requests, 20 s without it; 0 resources removed when it came back", t.Sent)}, err
}

func proveDrain(ctx context.Context, w *world) (report.Figure, error) {
	backend := w.tasks["backend-2"]
	var took time.Duration
	t, err := w.underLoad(ctx, w.tasks["frontend"].Host, "load-drain", backendURL, loadRate, func() error {
		start := time.Now()
		backend.agent.Stop(25 * time.Second)
		took = time.Since(start)
		// The application is stopped only now, as a task's runtime would.
		backend.app.Stop(5 * time.Second)
		return nil
	})
	if text := backend.agent.Tail(40); err == nil && !strings.Contains(text, "drain") {
		err = fmt.Errorf("the sidecar's log says nothing of the drain:\n%s", text)
	}
	return report.Figure{Value: took.Seconds(), Unit: "s", Detail: fmt.Sprintf("from SIGTERM to the sidecar's end; 0 of %d requests failed", t.Sent)}, err
}

func proveMemory(_ context.Context, w *world) (report.Figure, error) {
	return memory(w.serve, "with its registry")
}

func proveSidecarMemory(_ context.Context, w *world) (report.Figure, error) {
	return memory(w.tasks["frontend"].agent, "without Envoy")
}

// memory is what a process has resident, and how much of it is its own: the
// rest are pages of the program, which all processes of one image share.
func memory(p *lab.Process, what string) (report.Figure, error) {
	resident, own, err := p.Memory()
	return report.Figure{Value: resident / 1e6, Unit: "MB", Detail: fmt.Sprintf("resident, %s; %.1f MB of it its own, the rest pages of the program", what, own/1e6)}, err
}
