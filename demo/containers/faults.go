package containers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"patchbay/demo/evidence"
	"patchbay/demo/report"
	"patchbay/internal/poll"
)

func proveKilled(ctx context.Context, m *mesh) (report.Figure, error) {
	front, err := m.one(ctx, "frontend-sidecar")
	if err != nil {
		return report.Figure{}, err
	}
	removed := func() (int, error) {
		a, err1 := front.counter(ctx, "cluster_manager.cluster_removed")
		b, err2 := front.counter(ctx, "listener_manager.listener_removed")
		return a + b, errors.Join(err1, err2)
	}
	before, err := removed()
	if err != nil {
		return report.Figure{}, err
	}
	t, err := m.underLoad(ctx, backendURL, 200, func(load) error {
		if _, err := m.run(ctx, "kill", "-s", "SIGKILL", "patchbay"); err != nil {
			return err
		}
		if err := evidence.Pause(ctx, 20*time.Second); err != nil {
			return err
		}
		if _, err := m.run(ctx, "start", "patchbay"); err != nil {
			return err
		}
		return poll.Until(ctx, patience, func() error {
			n, err := front.counter(ctx, "control_plane.connected_state")
			if err == nil && n != 1 {
				err = errors.New("the frontend's Envoy is not connected again")
			}
			return err
		})
	})
	if err == nil {
		err = evidence.Pause(ctx, 2*time.Second)
	}
	if err != nil {
		return report.Figure{}, err
	}
	after, err := removed()
	if err == nil && after != before {
		err = fmt.Errorf("%d resources were removed", after-before)
	}
	return report.Figure{Value: float64(t.Failed), Unit: "failed", Detail: fmt.Sprintf("of %d requests, 20 s without it; 0 resources removed when it came back", t.Sent)}, err
}

func proveCrash(ctx context.Context, m *mesh) (report.Figure, error) {
	backends, err := m.containers(ctx, "backend")
	if err != nil {
		return report.Figure{}, err
	}
	victim := backends[0]
	front, err := m.one(ctx, "frontend-sidecar")
	if err != nil {
		return report.Figure{}, err
	}
	const retriesOf = "cluster.backend.demo.upstream_rq_retry"
	before, err := front.counter(ctx, retriesOf)
	if err != nil {
		return report.Figure{}, err
	}
	t, err := m.load(ctx, backendURL, 200, func(load) error {
		// The whole container at once, as when a machine kills it for memory.
		if err := syscall.Kill(victim.pid, syscall.SIGKILL); err != nil {
			return err
		}
		return errors.Join(m.registered(ctx, victim.id, programInApp), evidence.Pause(ctx, 2*time.Second))
	})
	after, aerr := front.counter(ctx, retriesOf)
	retries := after - before
	m.crashed = victim
	// What was under way inside the backend dies with it: Envoy may not repeat
	// what an application may have acted on.
	cut := 0
	for text, n := range t.Errors {
		if strings.Contains(text, "reset reason: connection termination") {
			cut += n
		}
	}
	restarts, rerr := output(ctx, "docker", "inspect", "-f", "{{.RestartCount}}", victim.id)
	switch err = errors.Join(err, rerr, aerr); {
	case err != nil:
	case restarts != "1":
		err = fmt.Errorf("Docker restarted it %s times", restarts)
	case t.Failed > cut:
		err = fmt.Errorf("%d of %d requests failed that were not under way in the backend: %v", t.Failed-cut, t.Sent, t.Errors)
	case cut > t.Sent/100:
		err = fmt.Errorf("%d of %d requests were cut", cut, t.Sent)
	}
	return report.Figure{Value: float64(t.Failed - cut), Unit: "failed", Detail: fmt.Sprintf("of %d requests, besides %d that were under way in it; Envoy made %d retries", t.Sent, cut, retries)}, err
}

// proveBack waits for the callers' Envoy, which has put the backend aside for a
// while.
func proveBack(ctx context.Context, m *mesh) (report.Figure, error) {
	var took time.Duration
	t, err := m.underLoad(ctx, backendURL, 50, func(l load) error {
		start := time.Now()
		return poll.Until(ctx, 90*time.Second, func() error {
			now, err := l.now(ctx)
			if took = time.Since(start); err == nil && now.By[m.crashed.name] == 0 {
				err = fmt.Errorf("answers by %v", now.By)
			}
			return err
		})
	})
	return report.Figure{Value: took.Seconds(), Unit: "s", Detail: fmt.Sprintf("more; 0 of %d requests failed", t.Sent)}, err
}

// restart restarts a container of the frontend's task.
func (m *mesh) restart(ctx context.Context, service string) (time.Duration, error) {
	if _, err := m.run(ctx, "restart", "-t", "20", service); err != nil {
		return 0, err
	}
	took, err := m.answers(ctx, backendURL, "")
	front, ferr := m.one(ctx, "frontend")
	if err = errors.Join(err, ferr); err != nil {
		return took, err
	}
	text, err := front.hosts()
	if err == nil && strings.Count(text, "backend.demo ") != 1 {
		err = fmt.Errorf("the hosts file:\n%s", text)
	}
	return took, err
}

func proveRestartApp(ctx context.Context, m *mesh) (report.Figure, error) {
	took, err := m.restart(ctx, "frontend")
	return report.Figure{Value: report.MS(took), Unit: "ms", Detail: "from its restart to its first answer, names and Envoy untouched"}, err
}

func proveRestartEnvoy(ctx context.Context, m *mesh) (report.Figure, error) {
	took, err := m.restart(ctx, "frontend-sidecar")
	return report.Figure{Value: report.MS(took), Unit: "ms", Detail: "from its restart to the app's next answer"}, err
}

func proveDrain(ctx context.Context, m *mesh) (report.Figure, error) {
	var took time.Duration
	t, err := m.underLoad(ctx, backendURL, 500, func(load) error {
		start := time.Now()
		_, err := m.run(ctx, "up", "-d", "--no-recreate", "--scale", "backend=2", "backend")
		took = time.Since(start)
		return err
	})
	backends, berr := m.containers(ctx, "backend")
	if err = errors.Join(err, berr); err == nil && len(backends) != 2 {
		err = fmt.Errorf("there are %d backends", len(backends))
	}
	return report.Figure{Value: took.Seconds(), Unit: "s", Detail: fmt.Sprintf("until one is gone; 0 of %d requests failed", t.Sent)}, err
}
