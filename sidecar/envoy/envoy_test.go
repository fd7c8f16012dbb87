package envoy

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"patchbay/internal/envoytest"
)

type obj = map[string]any

// freePort is a port that nothing listens on now.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func listener(name, addr string, port int, direction, bind string) obj {
	l := obj{
		"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": name, "traffic_direction": direction,
		"address": obj{"socket_address": obj{"address": addr, "port_value": port}},
		"filter_chains": []obj{{"filters": []obj{{"name": "envoy.filters.network.tcp_proxy", "typed_config": obj{
			"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "ingress", "cluster": "app-web",
		}}}}},
	}
	if bind == "unbound" {
		l["bind_to_port"] = false
	}
	return l
}

// world is a working directory with a bootstrap whose listeners come from a
// file, as they come from a control plane in earnest.
func world(t *testing.T, app int, listeners ...obj) {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	bootstrap := obj{
		"node":              obj{"id": "a", "cluster": "b"},
		"admin":             obj{"address": obj{"pipe": obj{"path": "./admin.sock", "mode": 0o600}}},
		"dynamic_resources": obj{"lds_config": obj{"path_config_source": obj{"path": "./lds.json"}, "resource_api_version": "V3"}},
		"static_resources": obj{"clusters": []obj{{"name": "app-web", "connect_timeout": "1s", "load_assignment": obj{"cluster_name": "app-web", "endpoints": []obj{{
			"lb_endpoints": []obj{{"endpoint": obj{"address": obj{"socket_address": obj{"address": "127.0.0.1", "port_value": app}}}}},
		}}}}}},
	}
	for name, v := range map[string]any{"bootstrap.json": bootstrap, "lds.json": obj{"version_info": "1", "resources": listeners}} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// syncBuffer is a log that a test may read meanwhile.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func command(t *testing.T, log io.Writer) Command {
	return Command{
		Binary: envoytest.Binary(t), Bootstrap: "bootstrap.json", UID: 101, Concurrency: 1, DrainTime: 2 * time.Second,
		Log: slog.New(slog.NewTextHandler(log, nil)), LogLevel: "warning",
	}
}

// run supervises until the test ends, and returns how to stop it earlier.
func run(t *testing.T, s *Supervisor) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { stop() })
	return stop
}

func live(t *testing.T, a *Admin) {
	t.Helper()
	envoytest.Eventually(t, 10*time.Second, func() error {
		s, err := a.State(t.Context())
		if err == nil && s != "LIVE" {
			err = errors.New("Envoy is " + s)
		}
		return err
	})
}

func TestRunsAsItsOwnUserFromABinaryThatItCannotReach(t *testing.T) {
	world(t, 1)
	log := &syncBuffer{}
	c := command(t, log)
	hidden := filepath.Join(t.TempDir(), "envoy")
	if err := os.Chmod(filepath.Dir(filepath.Dir(hidden)), 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(hidden, 0o700); err != nil {
		t.Fatal(err)
	}
	real, err := filepath.EvalSymlinks(c.Binary)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Link(real, filepath.Join(hidden, "envoy")); err != nil {
		t.Fatal(err)
	}
	c.Binary = filepath.Join(hidden, "envoy")
	s := NewSupervisor(c)
	stop := run(t, s)
	a := NewAdmin("./admin.sock")
	live(t, a)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID()))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(status), "Uid:\t101\t101\t101\t101") || !strings.Contains(string(status), "Gid:\t101\t101\t101\t101") {
		t.Errorf("%s", status)
	}
	pid := s.PID()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("Envoy is still there: %v", err)
	}
	if !strings.Contains(log.String(), "msg=envoy component=main line=") {
		t.Errorf("no line of Envoy's: %s", log)
	}
}

func TestListenersAndRefusals(t *testing.T) {
	p, busy := freePort(t), freePort(t)
	l, err := net.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", busy))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	world(t, 1,
		listener("egress-127.128.1.1-8080", "127.128.1.1", 8080, "OUTBOUND", "unbound"),
		listener("ingress-web", "0.0.0.0", p, "INBOUND", ""),
		listener("ingress-busy", "0.0.0.0", busy, "INBOUND", ""))
	run(t, NewSupervisor(command(t, io.Discard)))
	a := NewAdmin("./admin.sock")
	live(t, a)
	got, err := a.Listeners(t.Context())
	if err != nil || len(got) != 2 || !got["egress-127.128.1.1-8080"] || !got["ingress-web"] {
		t.Errorf("listeners: %v, %v", got, err)
	}
	refused, err := a.Refused(t.Context())
	if want := fmt.Sprintf("ingress-busy: cannot bind '0.0.0.0:%d': Address already in use", busy); err != nil || !slices.Equal(refused, []string{want}) {
		t.Errorf("refused: %q, %v; want %q", refused, err, want)
	}
}

func TestDrainKeepsAcceptingAndCountsWhatIsActive(t *testing.T) {
	app, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	go func() {
		for {
			c, err := app.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	p := freePort(t)
	world(t, app.Addr().(*net.TCPAddr).Port, listener("ingress-web", "0.0.0.0", p, "INBOUND", ""))
	run(t, NewSupervisor(command(t, io.Discard)))
	a := NewAdmin("./admin.sock")
	live(t, a)
	dial := func() net.Conn {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	active := func(want uint64) {
		t.Helper()
		envoytest.Eventually(t, 5*time.Second, func() error {
			n, err := a.active(t.Context(), []string{"app-web"})
			if err == nil && n != want {
				err = fmt.Errorf("%d active, want %d", n, want)
			}
			return err
		})
	}
	first := dial()
	active(1)
	if err := a.drainInbound(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := dial()
	active(2)
	first.Close()
	second.Close()
	active(0)
}

func TestKilledEnvoyIsRestarted(t *testing.T) {
	world(t, 1)
	s := NewSupervisor(command(t, io.Discard))
	run(t, s)
	a := NewAdmin("./admin.sock")
	live(t, a)
	began := time.Now()
	if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	envoytest.Eventually(t, 10*time.Second, func() error {
		if s.Starts() < 2 {
			return errors.New("not restarted")
		}
		_, err := a.State(t.Context())
		return err
	})
	live(t, a)
	t.Logf("serving again %v after kill -9", time.Since(began))
}

// A terminal sends Ctrl-C to the whole process group: an Envoy in it would be
// gone before the drain begins.
func TestCtrlCOfTheTerminalReachesTheAgentAlone(t *testing.T) {
	world(t, 1)
	s := NewSupervisor(command(t, io.Discard))
	run(t, s)
	live(t, NewAdmin("./admin.sock"))
	group, err := syscall.Getpgid(s.PID())
	if err != nil || group != s.PID() {
		t.Errorf("Envoy %d is in the process group %d, %v", s.PID(), group, err)
	}
}

func TestGivesUpAfterThreeRestarts(t *testing.T) {
	t.Chdir(t.TempDir())
	log := &syncBuffer{}
	c := command(t, log)
	c.Bootstrap = "missing.json"
	s := NewSupervisor(c)
	err := s.Run(t.Context())
	if !errors.Is(err, ErrGaveUp) || s.Starts() != 4 {
		t.Fatalf("%d starts, %v", s.Starts(), err)
	}
	if !strings.Contains(log.String(), "missing.json") {
		t.Errorf("Envoy's own words are missing: %s", log)
	}
}

func TestEnvoyDiesWithItsParent(t *testing.T) {
	if os.Getenv("PATCHBAY_TEST_CHILD") != "" {
		s := NewSupervisor(command(t, io.Discard))
		run(t, s)
		live(t, NewAdmin("./admin.sock"))
		fmt.Println("pid", s.PID())
		<-t.Context().Done()
		return
	}
	world(t, 1)
	cmd := exec.Command(os.Args[0], "-test.run=^TestEnvoyDiesWithItsParent$")
	cmd.Env = append(os.Environ(), "PATCHBAY_TEST_CHILD=1", "PATCHBAY_ENVOY="+abs(t, envoytest.Binary(t)))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for s := bufio.NewScanner(out); pid == 0 && s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), "pid "); ok {
			pid, _ = strconv.Atoi(rest)
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	if pid == 0 {
		t.Fatal("the child said nothing")
	}
	envoytest.Eventually(t, 5*time.Second, func() error {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err == nil && !strings.Contains(string(b), ") Z ") {
			return fmt.Errorf("Envoy lives: %s", b)
		}
		return nil
	})
}

func abs(t *testing.T, p string) string {
	t.Helper()
	p, err := filepath.Abs(p)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLogLines(t *testing.T) {
	log := &syncBuffer{}
	l := &lines{log: slog.New(slog.NewTextHandler(log, nil))}
	io.WriteString(l, "warning|config|half of ")
	io.WriteString(l, "a line\nAssertion failed: x|y\ninfo|main|")
	io.WriteString(l, strings.Repeat("z", 3*maxLine)+"\n")
	io.WriteString(l, "the end")
	l.flush()
	got := strings.Split(log.String(), "\n")
	for i, want := range []string{`level=WARN msg=envoy component=config line="half of a line"`, `level=WARN msg=envoy line="Assertion failed: x|y"`, `level=INFO msg=envoy component=main line=zzz`, `level=WARN msg=envoy line="the end"`} {
		if len(got) <= i || !strings.Contains(got[i], want) || len(got[i]) > maxLine+200 {
			t.Fatalf("line %d: got %.200q, want %s", i, got[i], want)
		}
	}
}
