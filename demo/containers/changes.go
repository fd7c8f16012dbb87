package containers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"patchbay/inject"
)

// answers calls url from the frontend until want answers.
func (m *mesh) answers(ctx context.Context, url, want string, limit time.Duration) (time.Duration, error) {
	start := time.Now()
	err := eventually(ctx, limit, func() error {
		out, err := m.get(ctx, url)
		if err == nil && want != "" && out != want {
			err = fmt.Errorf("%s answers", out)
		}
		return err
	})
	return time.Since(start), err
}

// registered waits until every port of the task is registered. program is
// where patchbay is in that container.
func (m *mesh) registered(ctx context.Context, id, program string) error {
	return eventually(ctx, 30*time.Second, func() error {
		_, err := output(ctx, "docker", "exec", id, program, "sidecar", "health", "--registered")
		return err
	})
}

// programInApp is patchbay in the container of a scalable service.
const programInApp = "/patchbay/patchbay"

func proveScale(ctx context.Context, m *mesh) (figure, error) {
	var took time.Duration
	t, err := m.underLoad(ctx, backendURL, 100, func(l load) error {
		if _, err := m.run(ctx, "up", "-d", "--no-recreate", "--scale", "backend=3", "backend"); err != nil {
			return err
		}
		backends, err := m.containers(ctx, "backend")
		if err == nil && len(backends) != 3 {
			err = fmt.Errorf("there are %d backends", len(backends))
		}
		if err != nil {
			return err
		}
		for _, b := range backends {
			if err := m.registered(ctx, b.id, programInApp); err != nil {
				return err
			}
		}
		start := time.Now()
		return eventually(ctx, 20*time.Second, func() error {
			now, err := l.now(ctx)
			if took = time.Since(start); err == nil && len(now.By) < 3 {
				err = fmt.Errorf("answers by %v", now.By)
			}
			return err
		})
	})
	return figure{took.Seconds(), "s", fmt.Sprintf("from registered until the load's line of that second names all three; 0 of %d requests failed", t.Sent)}, err
}

// later adds a service to the user's own file, injects it, and starts it.
func (m *mesh) later(ctx context.Context, name, service string, up ...string) error {
	plain, err := os.ReadFile(filepath.Join(m.dir, "docker-compose.plain.yml"))
	if err != nil {
		return err
	}
	made, err := inject.Compose("docker-compose.plain.yml", append(plain, service...))
	if err != nil {
		return err
	}
	file := filepath.Join(m.tmp, "with-"+strconv.Itoa(len(m.files))+".yml")
	if err := os.WriteFile(file, made, 0o600); err != nil {
		return err
	}
	m.files = append(m.files, file)
	_, err = m.run(ctx, append(append([]string{"up", "-d", "--no-recreate"}, up...), name)...)
	return err
}

const laterService = `
  later:
    image: patchbay-demoapp:dev
    command: [serve, --name, later-1, --http, "0.0.0.0:8090"]
    x-service-connect:
      services: [{portName: later, tls: {issuerCertificateAuthority: {awsPcaAuthorityArn: default}}}]
      portMappings: [{name: later, containerPort: 8090, appProtocol: http}]
`

func proveNewService(ctx context.Context, m *mesh) (figure, error) {
	front, err := m.one(ctx, "frontend")
	if err != nil {
		return figure{}, err
	}
	if text, err := front.hosts(); err != nil || strings.Contains(text, "later.demo") {
		return figure{}, errors.Join(fmt.Errorf("the hosts file before:\n%s", text), err)
	}
	if err := m.later(ctx, "later", laterService); err != nil {
		return figure{}, err
	}
	side, err := m.one(ctx, "later-sidecar")
	if err == nil {
		err = m.registered(ctx, side.id, "patchbay")
	}
	if err != nil {
		return figure{}, err
	}
	took, err := m.answers(ctx, "http://later.demo:8090/", "later-1", 10*time.Second)
	text, herr := front.hosts()
	again, ferr := m.one(ctx, "frontend")
	if err = errors.Join(err, herr, ferr); err == nil && (!strings.Contains(text, "later.demo") || again.pid != front.pid) {
		err = fmt.Errorf("the app's process is %d, was %d; its hosts file:\n%s", again.pid, front.pid, text)
	}
	return figure{ms(took), "ms", "from registered to its first answer, the exec included; the app's process is the same"}, err
}

const plainService = `
  plain:
    image: patchbay-demoapp:dev
    entrypoint: ["/demoapp"]
    command: [serve, --http, "0.0.0.0:8095"]
    x-service-connect:
      scalable: true
      services: [{portName: plain%s}]
      portMappings: [{name: plain, containerPort: 8095, appProtocol: http}]
`

func proveTLSSwitch(ctx context.Context, m *mesh) (figure, error) {
	const url = "http://plain.demo:8095/"
	if err := m.later(ctx, "plain", laterService+fmt.Sprintf(plainService, "")); err != nil {
		return figure{}, err
	}
	first, err := m.one(ctx, "plain")
	if err != nil {
		return figure{}, err
	}
	if _, err := m.answers(ctx, url, first.name, 20*time.Second); err != nil {
		return figure{}, err
	}
	var second container
	t, err := m.underLoad(ctx, url, 200, func(load) error {
		withTLS := fmt.Sprintf(plainService, ", tls: {issuerCertificateAuthority: {awsPcaAuthorityArn: default}}")
		if err := m.later(ctx, "plain", laterService+withTLS, "--scale", "plain=2"); err != nil {
			return err
		}
		all, err := m.containers(ctx, "plain")
		if err != nil {
			return err
		}
		for _, c := range all {
			if c.id != first.id {
				second = c
			}
		}
		if err := m.registered(ctx, second.id, programInApp); err != nil {
			return err
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
		_, err = output(ctx, "docker", "stop", "-t", "40", first.id)
		return errors.Join(err, pause(ctx, time.Second))
	})
	if err == nil && (t.By[first.name] == 0 || t.By[second.name] == 0) {
		err = fmt.Errorf("answers by server: %v", t.By)
	}
	if err == nil {
		var n int
		front, ferr := m.one(ctx, "frontend-sidecar")
		if ferr == nil {
			n, ferr = front.counter(ctx, "cluster.plain.demo.ssl.versions.TLSv1.3")
		}
		if err = ferr; err == nil && n == 0 {
			err = errors.New("no TLS connection was made")
		}
	}
	return figure{float64(t.Failed), "failed", fmt.Sprintf("of %d requests, some in plain text, then all in TLS", t.Sent)}, err
}

func proveRotation(ctx context.Context, m *mesh) (figure, error) {
	backends, err := m.containers(ctx, "backend")
	if err != nil {
		return figure{}, err
	}
	token, err := m.token(ctx)
	if err != nil {
		return figure{}, err
	}
	var took time.Duration
	t, err := m.underLoad(ctx, backendURL, 500, func(load) error {
		before, err := m.leaf(ctx, backends[0])
		if err != nil {
			return err
		}
		start := time.Now()
		if _, err := call(ctx, http.MethodPost, "/api/v1/rotate?service=backend.demo", token); err != nil {
			return err
		}
		err = eventually(ctx, 5*time.Second, func() error {
			after, err := m.leaf(ctx, backends[0])
			if err == nil && after.SerialNumber.Cmp(before.SerialNumber) == 0 {
				err = fmt.Errorf("%x is still on the wire", after.SerialNumber)
			}
			return err
		})
		took = time.Since(start)
		return err
	})
	return figure{ms(took), "ms", fmt.Sprintf("to the new serial on the wire; 0 of %d requests failed", t.Sent)}, err
}

func proveKilled(ctx context.Context, m *mesh) (figure, error) {
	front, err := m.one(ctx, "frontend-sidecar")
	if err != nil {
		return figure{}, err
	}
	removed := func() (int, error) {
		a, err1 := front.counter(ctx, "cluster_manager.cluster_removed")
		b, err2 := front.counter(ctx, "listener_manager.listener_removed")
		return a + b, errors.Join(err1, err2)
	}
	before, err := removed()
	if err != nil {
		return figure{}, err
	}
	t, err := m.underLoad(ctx, backendURL, 200, func(load) error {
		if _, err := m.run(ctx, "kill", "-s", "SIGKILL", "patchbay"); err != nil {
			return err
		}
		if err := pause(ctx, 20*time.Second); err != nil {
			return err
		}
		if _, err := m.run(ctx, "start", "patchbay"); err != nil {
			return err
		}
		return eventually(ctx, 20*time.Second, func() error {
			n, err := front.counter(ctx, "control_plane.connected_state")
			if err == nil && n != 1 {
				err = errors.New("the frontend's Envoy is not connected again")
			}
			return err
		})
	})
	if err == nil {
		err = pause(ctx, 2*time.Second)
	}
	if err != nil {
		return figure{}, err
	}
	after, err := removed()
	if err == nil && after != before {
		err = fmt.Errorf("%d resources were removed", after-before)
	}
	return figure{float64(t.Failed), "failed", fmt.Sprintf("of %d requests, 20 s without it; 0 resources removed when it came back", t.Sent)}, err
}

func proveCrash(ctx context.Context, m *mesh) (figure, error) {
	backends, err := m.containers(ctx, "backend")
	if err != nil {
		return figure{}, err
	}
	victim := backends[0]
	front, err := m.one(ctx, "frontend-sidecar")
	if err != nil {
		return figure{}, err
	}
	const retriesOf = "cluster.backend.demo.upstream_rq_retry"
	before, err := front.counter(ctx, retriesOf)
	if err != nil {
		return figure{}, err
	}
	t, err := m.load(ctx, backendURL, 200, func(load) error {
		// The whole container at once, as when a machine kills it for memory.
		if err := syscall.Kill(victim.pid, syscall.SIGKILL); err != nil {
			return err
		}
		return errors.Join(m.registered(ctx, victim.id, programInApp), pause(ctx, 2*time.Second))
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
	return figure{float64(t.Failed - cut), "failed", fmt.Sprintf("of %d requests, besides %d that were under way in it; Envoy made %d retries", t.Sent, cut, retries)}, err
}

// proveBack waits for the callers' Envoy, which has put the backend aside for a
// while.
func proveBack(ctx context.Context, m *mesh) (figure, error) {
	var took time.Duration
	t, err := m.underLoad(ctx, backendURL, 50, func(l load) error {
		start := time.Now()
		return eventually(ctx, 90*time.Second, func() error {
			now, err := l.now(ctx)
			if took = time.Since(start); err == nil && now.By[m.crashed.name] == 0 {
				err = fmt.Errorf("answers by %v", now.By)
			}
			return err
		})
	})
	return figure{took.Seconds(), "s", fmt.Sprintf("more; 0 of %d requests failed", t.Sent)}, err
}

// restart restarts a container of the frontend's task.
func (m *mesh) restart(ctx context.Context, service string) (time.Duration, error) {
	if _, err := m.run(ctx, "restart", "-t", "20", service); err != nil {
		return 0, err
	}
	took, err := m.answers(ctx, backendURL, "", 20*time.Second)
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

func proveRestartApp(ctx context.Context, m *mesh) (figure, error) {
	took, err := m.restart(ctx, "frontend")
	return figure{ms(took), "ms", "from its restart to its first answer, names and Envoy untouched"}, err
}

func proveRestartEnvoy(ctx context.Context, m *mesh) (figure, error) {
	took, err := m.restart(ctx, "frontend-sidecar")
	return figure{ms(took), "ms", "from its restart to the app's next answer"}, err
}

func proveDrain(ctx context.Context, m *mesh) (figure, error) {
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
	return figure{took.Seconds(), "s", fmt.Sprintf("until one is gone; 0 of %d requests failed", t.Sent)}, err
}
