package operator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"patchbay/bench"
	"patchbay/identity"
	"patchbay/identity/join"
	"patchbay/internal/poll"
	"patchbay/mesh"
)

const (
	trustDomain = "bench.patchbay"
	namespace   = "bench"
	// patience bounds whatever the mesh is waited for.
	patience = 2 * time.Minute
)

// world is a control plane in a process of its own, with its tasks.
type world struct {
	program string
	socket  string
	client  *http.Client
	xds     string
	admin   string
	agent   string
	data    string
	dir     string
	tasks   []*task
	control *exec.Cmd
	cancel  context.CancelFunc
	running *errgroup.Group

	awaited atomic.Pointer[string] // the cluster whose change the models are to notice
	missing atomic.Int64           // models that have not
	told    chan struct{}          // closed when all have; replaced by each change
	mu      sync.Mutex
}

// start runs the control plane and has services of so many tasks join.
func start(ctx context.Context, o bench.Options, services, tasks int) (*world, error) {
	dir, err := os.MkdirTemp(o.Dir, "operator")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &world{program: filepath.Join(filepath.Dir(o.Self), "patchbay"), dir: dir, data: filepath.Join(dir, "data"), cancel: cancel}
	w.socket = filepath.Join(w.data, "admin.sock")
	w.client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", w.socket)
	}}}
	w.running, ctx = errgroup.WithContext(ctx)
	if err := errors.Join(w.serve(ctx), w.join(ctx, services, tasks)); err != nil {
		w.stop()
		return nil, err
	}
	return w, nil
}

func (w *world) stop() {
	w.cancel()
	w.running.Wait() //nolint:errcheck // what counted was reported
	if w.control != nil && w.control.Process != nil {
		w.control.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
		w.control.Wait()                          //nolint:errcheck // likewise
	}
}

// free are addresses of loopback that nobody listens on.
func free(n int) ([]string, error) {
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
		if err != nil {
			return nil, err
		}
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out, nil
}

func (w *world) serve(ctx context.Context) error {
	at, err := free(4)
	if err != nil {
		return err
	}
	w.xds, w.agent, w.admin = at[0], at[1], at[2]
	file := filepath.Join(w.dir, "patchbay.yaml")
	text := fmt.Sprintf("trustDomain: %s\nnamespaces: [%s]\ncreateNamespaces: true\ndata: %s\nxds: {listen: %q}\nagent: {listen: %q}\nadmin: {listen: %q}\nregistry: {listen: %q}\nlog: {level: warn}\n",
		trustDomain, namespace, w.data, at[0], at[1], at[2], at[3])
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(w.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	w.control = exec.Command(w.program, "serve", "--config", file) //nolint:gosec,noctx // the program under test; stop ends it
	w.control.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	w.control.Stdout, w.control.Stderr = log, log
	if err := w.control.Start(); err != nil {
		return fmt.Errorf("%w: run `make build`", err)
	}
	return w.until(ctx, func() error { return w.get(ctx, "/readyz") })
}

// until tries f until it succeeds; the error shows what the control plane said
// last.
func (w *world) until(ctx context.Context, f func() error) error {
	err := poll.Until(ctx, patience, f)
	if err != nil {
		text, _ := os.ReadFile(filepath.Join(w.dir, "log"))
		err = fmt.Errorf("%w\n%s", err, text[max(0, len(text)-2000):])
	}
	return err
}

// join has all tasks enrol, register and subscribe.
func (w *world) join(ctx context.Context, services, tasks int) error {
	for i := range services {
		name := fmt.Sprintf("service-%03d", i)
		out := filepath.Join(w.dir, name)
		if _, err := identity.MakeJoin(identity.JoinRequest{Data: w.data, TrustDomain: trustDomain, Out: out,
			Workload: mesh.Workload{Namespace: namespace, Name: name, DiscoveryNames: []string{name}}}); err != nil {
			return err
		}
		for k := range tasks {
			w.tasks = append(w.tasks, &task{world: w, service: name, number: k, local: net.IPv4(127, 1, byte(i), byte(k+1)), join: join.New(join.Config{
				Dir: out, Control: join.NewAddresses(w.agent), Task: fmt.Sprintf("t%d", k), State: filepath.Join(w.dir, fmt.Sprintf("%s-%d", name, k)), Log: slog.New(slog.DiscardHandler),
			})})
		}
	}
	g, joining := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, t := range w.tasks {
		g.Go(func() error { return t.connect(joining, ctx) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for part := range slices.Chunk(w.tasks, max(1, len(w.tasks)/4)) {
		w.running.Go(func() error { return step(ctx, part) })
	}
	return w.until(ctx, func() error {
		for _, t := range w.tasks {
			if n := t.sees.Load(); n != int64(services*tasks) {
				return fmt.Errorf("%s-%d sees %d endpoints of %d", t.service, t.number, n, services*tasks)
			}
		}
		return nil
	})
}
