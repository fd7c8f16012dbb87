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
	"time"

	"patchbay/demo/evidence"
	"patchbay/demo/report"
	"patchbay/inject"
	"patchbay/internal/poll"
)

// patience bounds every wait of a proof. What a proof shows is that it happens;
// how fast is its figure, and depends on the machine.
const patience = time.Minute

// answers calls url from the frontend until want answers.
func (m *mesh) answers(ctx context.Context, url, want string) (time.Duration, error) {
	start := time.Now()
	err := poll.Until(ctx, patience, func() error {
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
	return poll.Until(ctx, patience, func() error {
		_, err := output(ctx, "docker", "exec", id, program, "sidecar", "health", "--registered")
		return err
	})
}

// programInApp is patchbay in the container of a scalable service.
const programInApp = "/patchbay/patchbay"

func proveScale(ctx context.Context, m *mesh) (report.Figure, error) {
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
		return poll.Until(ctx, patience, func() error {
			now, err := l.now(ctx)
			if took = time.Since(start); err == nil && len(now.By) < 3 {
				err = fmt.Errorf("answers by %v", now.By)
			}
			return err
		})
	})
	return report.Figure{Value: took.Seconds(), Unit: "s", Detail: fmt.Sprintf("from registered until the load's line of that second names all three; 0 of %d requests failed", t.Sent)}, err
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

func proveNewService(ctx context.Context, m *mesh) (report.Figure, error) {
	front, err := m.one(ctx, "frontend")
	if err != nil {
		return report.Figure{}, err
	}
	if text, err := front.hosts(); err != nil || strings.Contains(text, "later.demo") {
		return report.Figure{}, errors.Join(fmt.Errorf("the hosts file before:\n%s", text), err)
	}
	if err := m.later(ctx, "later", laterService); err != nil {
		return report.Figure{}, err
	}
	side, err := m.one(ctx, "later-sidecar")
	if err == nil {
		err = m.registered(ctx, side.id, "patchbay")
	}
	if err != nil {
		return report.Figure{}, err
	}
	took, err := m.answers(ctx, "http://later.demo:8090/", "later-1")
	text, herr := front.hosts()
	again, ferr := m.one(ctx, "frontend")
	if err = errors.Join(err, herr, ferr); err == nil && (!strings.Contains(text, "later.demo") || again.pid != front.pid) {
		err = fmt.Errorf("the app's process is %d, was %d; its hosts file:\n%s", again.pid, front.pid, text)
	}
	return report.Figure{Value: report.MS(took), Unit: "ms", Detail: "from registered to its first answer, the exec included; the app's process is the same"}, err
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

func proveTLSSwitch(ctx context.Context, m *mesh) (report.Figure, error) {
	const url = "http://plain.demo:8095/"
	if err := m.later(ctx, "plain", laterService+fmt.Sprintf(plainService, "")); err != nil {
		return report.Figure{}, err
	}
	first, err := m.one(ctx, "plain")
	if err != nil {
		return report.Figure{}, err
	}
	if _, err := m.answers(ctx, url, first.name); err != nil {
		return report.Figure{}, err
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
		if err := evidence.Pause(ctx, time.Second); err != nil {
			return err
		}
		_, err = output(ctx, "docker", "stop", "-t", "40", first.id)
		return errors.Join(err, evidence.Pause(ctx, time.Second))
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
	return report.Figure{Value: float64(t.Failed), Unit: "failed", Detail: fmt.Sprintf("of %d requests, some in plain text, then all in TLS", t.Sent)}, err
}

func proveRotation(ctx context.Context, m *mesh) (report.Figure, error) {
	backends, err := m.containers(ctx, "backend")
	if err != nil {
		return report.Figure{}, err
	}
	token, err := m.token(ctx)
	if err != nil {
		return report.Figure{}, err
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
		err = poll.Until(ctx, patience, func() error {
			after, err := m.leaf(ctx, backends[0])
			if err == nil && after.SerialNumber.Cmp(before.SerialNumber) == 0 {
				err = fmt.Errorf("%x is still on the wire", after.SerialNumber)
			}
			return err
		})
		took = time.Since(start)
		return err
	})
	return report.Figure{Value: report.MS(took), Unit: "ms", Detail: fmt.Sprintf("to the new serial on the wire; 0 of %d requests failed", t.Sent)}, err
}
