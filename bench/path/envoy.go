package path

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"patchbay/bench"
	"patchbay/internal/poll"
)

// workers of each Envoy: one for each core of a task with two.
const workers = 2

// envoy is a running Envoy.
type envoy struct {
	cmd   *exec.Cmd
	admin *http.Client
	log   string
	done  chan struct{}
}

// startEnvoy runs Envoy with a bootstrap and waits until it is ready. dir is for
// this Envoy alone; admin is the socket that the bootstrap names.
func (w *world) startEnvoy(ctx context.Context, dir, admin string, bootstrap []byte) (*envoy, error) {
	file := filepath.Join(dir, "bootstrap.json")
	if err := os.WriteFile(file, bootstrap, 0o600); err != nil {
		return nil, err
	}
	e := &envoy{log: filepath.Join(dir, "log"), done: make(chan struct{}), admin: &http.Client{Timeout: 60 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", admin)
		},
	}}}
	log, err := os.Create(e.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	line, limit := []string{}, 20*time.Second
	if w.under != nil {
		line, limit = w.under(dir), 3*time.Minute
	}
	line = append(line, w.Envoy, "-c", file, "--disable-hot-restart", "--concurrency", strconv.Itoa(w.concurrency), "-l", "warning")
	e.cmd = exec.Command(line[0], line[1:]...) //nolint:gosec,noctx // the Envoy under test; it ends by stop
	e.cmd.Stderr = log                         // access logs, on standard output, go to the null device
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		// Pdeathsig goes by thread: this one must last as long as Envoy.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := e.cmd.Start()
		started <- err
		if err == nil {
			e.cmd.Wait() //nolint:errcheck // its log says why it ended
		}
		close(e.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start Envoy: %w", err)
	}
	if err := poll.Until(ctx, limit, e.ready); err != nil {
		e.stop()
		return nil, fmt.Errorf("%w\n%s", err, e.tail())
	}
	return e, nil
}

func (e *envoy) ready() error {
	select {
	case <-e.done:
		return errors.New("Envoy has ended")
	default:
	}
	body, err := e.get(http.MethodGet, "/ready")
	if err == nil && strings.TrimSpace(body) != "LIVE" {
		err = fmt.Errorf("Envoy is %s", strings.TrimSpace(body))
	}
	return err
}

// get asks the admin interface.
func (e *envoy) get(method, path string) (string, error) {
	req, err := http.NewRequest(method, "http://envoy"+path, nil) //nolint:noctx // the client has a limit
	if err != nil {
		return "", err
	}
	resp, err := e.admin.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// stats are the counters and gauges whose name matches a regular expression.
func (e *envoy) stats(filter string) (map[string]float64, error) {
	body, err := e.get(http.MethodGet, "/stats?format=json&filter="+filter)
	if err != nil {
		return nil, err
	}
	var all struct {
		Stats []struct {
			Name  string
			Value any
		}
	}
	if err := json.Unmarshal([]byte(body), &all); err != nil {
		return nil, fmt.Errorf("Envoy's statistics: %w", err)
	}
	out := map[string]float64{}
	for _, s := range all.Stats {
		if v, ok := s.Value.(float64); ok {
			out[s.Name] = v
		}
	}
	return out, nil
}

func (e *envoy) stop() {
	e.cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
	select {
	case <-e.done:
	case <-time.After(10 * time.Second):
		e.cmd.Process.Kill() //nolint:errcheck // likewise
		<-e.done
	}
}

func (e *envoy) tail() string {
	b, _ := os.ReadFile(e.log)
	return string(b[max(0, len(b)-2000):])
}

// place makes a directory for one Envoy, and names its admin socket.
func place(o bench.Options) (dir, admin string, err error) {
	dir, err = os.MkdirTemp(o.Dir, "envoy-")
	return dir, filepath.Join(dir, "admin.sock"), err
}
