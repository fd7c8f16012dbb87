package path

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"patchbay/bench"
	"patchbay/bench/load"
	"patchbay/internal/envoybin"
	"patchbay/internal/poll"
)

// world is what all variants share: the application, a CA, and our control
// plane.
type world struct {
	bench.Options
	app          *exec.Cmd
	ports        load.Ports // of the application
	ca           *bench.CA
	control      *control
	envoyVersion string
	concurrency  int                       // of each Envoy
	under        func(dir string) []string // what to run each Envoy under, if anything
}

func newWorld(ctx context.Context, o bench.Options) (*world, error) {
	w := &world{Options: o, concurrency: workers}
	found, err := envoybin.Find(ctx, o.Envoy)
	if err != nil {
		return nil, err
	}
	w.Envoy, w.envoyVersion = found.Path, found.Version.String()
	if w.ca, err = bench.NewCA(); err != nil {
		return nil, err
	}
	if w.control, err = startControl(ctx, w.ca); err != nil {
		return nil, err
	}
	w.app = exec.CommandContext(ctx, o.Self, "app") //nolint:gosec // this program
	w.app.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	w.app.Stderr = os.Stderr
	pipe, err := w.app.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := w.app.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(pipe).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &w.ports)
	}
	if err != nil {
		w.close()
		return nil, fmt.Errorf("start the application: %w", err)
	}
	return w, nil
}

func (w *world) close() {
	w.app.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
	w.app.Wait()                          //nolint:errcheck // it was told to end
	w.control.stop()
}

// open starts a variant and waits until it answers.
func (w *world) open(ctx context.Context, v variant) (*route, error) {
	switch {
	case v.none:
		r := &route{addresses: map[string]string{}, stop: func() {}}
		for p, port := range w.ports {
			r.addresses[p] = local(port)
		}
		return r, nil
	case v.ours:
		return w.openOurs(ctx, v, 1)
	}
	return w.openStatic(ctx, v)
}

// load runs the open loop in a process of its own.
func (w *world) load(ctx context.Context, c call, address string, d time.Duration) (load.Result, error) {
	var l load.Result
	cmd := exec.CommandContext(ctx, w.Self, "load", "--protocol", c.protocol, "--address", address, //nolint:gosec // this program
		"--rate", strconv.Itoa(c.rate), "--duration", d.String(), "--fresh="+strconv.FormatBool(c.fresh))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return l, fmt.Errorf("load: %w", err)
	}
	return l, json.Unmarshal(out, &l)
}

func local(port uint16) string { return "127.0.0.1:" + strconv.Itoa(int(port)) }

// freePort is a port that was free a moment ago, on ip.
func freePort(ip string) (uint16, error) {
	lis, err := net.Listen("tcp", ip+":0") //nolint:noctx // closed at once
	if err != nil {
		return 0, err
	}
	defer lis.Close()
	return uint16(lis.Addr().(*net.TCPAddr).Port), nil //nolint:gosec // a port
}

// reached waits until every address of r takes connections.
func (r *route) reached(ctx context.Context) error {
	return poll.Until(ctx, 10*time.Second, func() error {
		for _, a := range r.addresses {
			conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", a)
			if err != nil {
				return err
			}
			conn.Close()
		}
		return nil
	})
}
