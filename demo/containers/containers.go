// Package containers proves in containers what package demo proves in network
// namespaces.
//
// It owns a run of the repository's docker-compose.yml: it starts it as a user
// would, looks at it with ordinary clients and at Envoy's own counters, breaks
// it, and takes it down. It must not know how the mesh works inside. Start
// reading at [Run].
package containers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"patchbay/demo"
	"patchbay/demo/report"
)

// Options of a run.
type Options struct {
	// Dir has docker-compose.yml and docker-compose.plain.yml.
	Dir string
	// Compose is the command, of Compose v1 or v2; empty: the one that is there.
	Compose string
	JSON    bool // the report at the end, and nothing else
	Out     io.Writer
}

// project names all that a run makes.
const project = "patchbayproof"

// mesh is a running compose project. Not safe for concurrent use.
type mesh struct {
	compose []string
	dir     string
	files   []string // besides docker-compose.yml, the newest wins
	tmp     string
	started time.Time // of the up
	crashed container
}

// Run starts the mesh, runs every proof, and takes the mesh down. Its error
// matches report.ErrProofs if one did not hold, demo.ErrNotHere if this machine
// can't run it.
func Run(ctx context.Context, o Options) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: the proofs read Envoy's counters inside the containers, which needs root", demo.ErrNotHere)
	}
	m := &mesh{dir: o.Dir, files: []string{filepath.Join(o.Dir, "docker-compose.yml")}}
	if _, err := os.Stat(m.files[0]); err != nil {
		return fmt.Errorf("%w: run this in the directory of docker-compose.yml: %w", demo.ErrNotHere, err)
	}
	var err error
	if m.compose, err = command(ctx, o.Compose); err != nil {
		return err
	}
	if m.tmp, err = os.MkdirTemp("", "patchbay-containers-"); err != nil {
		return err
	}
	defer os.RemoveAll(m.tmp)
	r := report.New(o.Out, o.JSON)
	defer m.down(context.WithoutCancel(ctx)) //nolint:errcheck // the last proof has said it, or the run was cut short
	for _, p := range proofs {
		f, err := p.run(ctx, m)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.Add(p.id, p.title, f, err)
		if err != nil {
			r.Say("    the containers' logs are in " + m.keepLogs(ctx, p.id))
			if p.id == "up" {
				break
			}
		}
	}
	return r.End()
}

// command finds Compose.
func command(ctx context.Context, given string) ([]string, error) {
	tries := [][]string{{"docker", "compose"}, {"docker-compose"}}
	if given != "" {
		tries = [][]string{strings.Fields(given)}
	}
	var errs []error
	for _, c := range tries {
		out, err := exec.CommandContext(ctx, c[0], append(c[1:], "version")...).CombinedOutput() //nolint:gosec // the user's own choice
		if err == nil {
			return c, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w: %s", strings.Join(c, " "), err, strings.TrimSpace(string(out))))
	}
	return nil, fmt.Errorf("%w: Compose does not run: %w", demo.ErrNotHere, errors.Join(errs...))
}

// run runs Compose on the newest file.
func (m *mesh) run(ctx context.Context, args ...string) (string, error) {
	all := append([]string{}, m.compose[1:]...)
	all = append(all, "-p", project, "--project-directory", m.dir, "-f", m.files[len(m.files)-1])
	return output(ctx, m.compose[0], append(all, args...)...)
}

// output runs a program and returns what it prints on standard output, trimmed.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	out := strings.TrimSpace(stdout.String())
	if err != nil {
		return out, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// down takes everything away, volumes too.
func (m *mesh) down(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	_, err := m.run(ctx, "down", "--volumes", "--remove-orphans", "--timeout", "3")
	return err
}

// keepLogs writes what everyone has said into a file, for a proof that did not
// hold.
func (m *mesh) keepLogs(ctx context.Context, proof string) string {
	out, err := m.run(ctx, "logs", "--no-color", "--timestamps")
	file := filepath.Join(os.TempDir(), "patchbay-containers-"+proof+".log")
	if err = errors.Join(err, os.WriteFile(file, []byte(out), 0o600)); err != nil {
		return "no file: " + err.Error()
	}
	return file
}

// container is one container of a service.
type container struct {
	id   string
	pid  int    // of its first process, on this machine
	addr string // on the mesh's network; empty without one
	name string // its host name
}

// containers are those of a service, in the order of their start.
func (m *mesh) containers(ctx context.Context, service string) ([]container, error) {
	ids, err := m.run(ctx, "ps", "-q", service)
	if err != nil {
		return nil, err
	}
	var all []container
	for id := range strings.FieldsSeq(ids) {
		c, err := inspect(ctx, id)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

func inspect(ctx context.Context, id string) (container, error) {
	const format = `{{.State.Pid}} {{.Config.Hostname}} {{with index .NetworkSettings.Networks "` + project + `_patchbay"}}{{.IPAddress}}{{end}}`
	out, err := output(ctx, "docker", "inspect", "-f", format, id)
	if err != nil {
		return container{}, err
	}
	c := container{id: id}
	parts := strings.Split(out+" ", " ")
	c.pid, err = strconv.Atoi(parts[0])
	c.name, c.addr = parts[1], parts[2]
	return c, err
}

// one is the only container of a service.
func (m *mesh) one(ctx context.Context, service string) (container, error) {
	all, err := m.containers(ctx, service)
	if err == nil && len(all) != 1 {
		err = fmt.Errorf("%s has %d containers", service, len(all))
	}
	if err != nil {
		return container{}, err
	}
	return all[0], nil
}

// from runs the application's own program in the frontend's container: an
// ordinary client that knows names and ports.
func (m *mesh) from(ctx context.Context, args ...string) (string, error) {
	return m.run(ctx, append([]string{"exec", "-T", "frontend", "/demoapp"}, args...)...)
}

// get calls a URL from the frontend.
func (m *mesh) get(ctx context.Context, url string) (string, error) {
	return m.from(ctx, "get", url)
}
