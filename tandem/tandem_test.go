package tandem

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// The test binary is the application, too.
func TestMain(m *testing.M) {
	switch os.Getenv("TANDEM_APP") {
	case "":
		os.Exit(m.Run())
	case "serve":
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		note("started")
		<-stop
		note("told to stop")
		os.Exit(7)
	case "status":
		b, _ := os.ReadFile("/proc/thread-self/status")
		note(string(b) + "HOME=" + os.Getenv("HOME"))
	case "killed":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
}

func note(text string) {
	f, err := os.OpenFile(os.Getenv("TANDEM_NOTES"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(f, text)
	f.Close()
}

// app is one whose notes are in the file that is returned.
func app(t *testing.T, kind string) (*App, func() string) {
	t.Helper()
	notes := filepath.Join(t.TempDir(), "notes")
	a := &App{
		Command: []string{os.Args[0]}, Env: append(os.Environ(), "TANDEM_APP="+kind, "TANDEM_NOTES="+notes),
		Agent: func(ctx context.Context) error { <-ctx.Done(); return nil },
		Log:   slog.New(slog.DiscardHandler),
	}
	return a, func() string {
		b, err := os.ReadFile(notes)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
		return string(b)
	}
}

// The application waits for the mesh, and is told to stop only when the agent
// has left it.
func TestOrder(t *testing.T) {
	a, notes := app(t, "serve")
	ctx, stop := context.WithCancel(t.Context())
	asked := 0
	a.Ready = func(context.Context) error {
		if notes() != "" {
			t.Error("the application runs before the mesh is ready")
		}
		if asked++; asked < 3 {
			return errors.New("names are not written")
		}
		return nil
	}
	a.Agent = func(ctx context.Context) error {
		<-ctx.Done()
		if got := notes(); got != "started\n" {
			t.Errorf("when the agent leaves, the application has said %q", got)
		}
		return nil
	}
	go func() {
		for tick := time.NewTicker(5 * time.Millisecond); notes() == "" && ctx.Err() == nil; {
			<-tick.C
		}
		stop()
	}()
	code, err := a.Run(ctx)
	if code != 7 || err != nil || notes() != "started\ntold to stop\n" || asked != 3 {
		t.Errorf("exit code %d, %v; asked %d times; notes %q", code, err, asked, notes())
	}
}

func TestStopBeforeReady(t *testing.T) {
	a, notes := app(t, "serve")
	ctx, stop := context.WithCancel(t.Context())
	a.Ready = func(context.Context) error { stop(); return errors.New("never") }
	if code, err := a.Run(ctx); code != 0 || err != nil || notes() != "" {
		t.Errorf("%d, %v, %q", code, err, notes())
	}
}

func TestEnds(t *testing.T) {
	a, _ := app(t, "killed")
	left := false
	a.Agent = func(ctx context.Context) error { <-ctx.Done(); left = true; return nil }
	if code, err := a.Run(t.Context()); code != 137 || err != nil || !left {
		t.Errorf("killed: %d, %v; the agent has left: %v", code, err, left)
	}
	a, _ = app(t, "serve")
	a.Command = []string{"/no/such/program"}
	if code, err := a.Run(t.Context()); code != 127 || err == nil || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("missing: %d, %v", code, err)
	}
	a, _ = app(t, "serve")
	a.User = "no-such-user"
	if code, err := a.Run(t.Context()); code != 127 || err == nil || !strings.Contains(err.Error(), "no-such-user") {
		t.Errorf("unknown user: %d, %v", code, err)
	}
}

// An agent that ends is run again, at growing distance.
func TestAgentComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		start := time.Now()
		var at []time.Duration
		a := &App{Log: slog.New(slog.DiscardHandler), Agent: func(context.Context) error {
			if at = append(at, time.Since(start)); len(at) == 6 {
				stop()
			}
			return errors.New("it has crashed")
		}}
		a.keepAgent(ctx)
		want := "[0s 1s 3s 7s 15s 25s]"
		if got := fmt.Sprint(at); got != want {
			t.Errorf("runs at %s, want %s", got, want)
		}
	})
}

// capability is a set of /proc/PID/status.
func capability(t *testing.T, status, set string) uint64 {
	t.Helper()
	_, rest, _ := strings.Cut(status, set+":\t")
	hex, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseUint(hex, 16, 64)
	if err != nil {
		t.Fatalf("%s: %v in\n%s", set, err, status)
	}
	return n
}

func TestNetAdmin(t *testing.T) {
	const netAdmin, setPCap = 1 << 12, 1 << 8
	self, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		t.Fatal(err)
	}
	had := capability(t, string(self), "CapBnd") & netAdmin
	mayDrop := capability(t, string(self), "CapEff")&setPCap != 0
	for _, keep := range []bool{false, true} {
		a, notes := app(t, "status")
		a.KeepNetAdmin = keep
		if code, err := a.Run(t.Context()); code != 0 || err != nil {
			t.Fatalf("%d, %v", code, err)
		}
		want := had
		if !keep && mayDrop {
			want = 0
		}
		for _, set := range []string{"CapBnd", "CapEff"} {
			if got := capability(t, notes(), set) & netAdmin; got != 0 && want == 0 {
				t.Errorf("keep %v: %s has NET_ADMIN", keep, set)
			}
		}
		if got := capability(t, notes(), "CapBnd") & netAdmin; got != want {
			t.Errorf("keep %v: bounding set %x, want %x", keep, got, want)
		}
	}
	if after, err := os.ReadFile("/proc/thread-self/status"); err != nil || capability(t, string(after), "CapBnd")&netAdmin != had {
		t.Errorf("the agent's own capability is gone: %v", err)
	}
}

func TestUser(t *testing.T) {
	for text, want := range map[string][2]uint32{"root": {0, 0}, "0:0": {0, 0}, "54321": {54321, 0}, "54321:54322": {54321, 54322}, "root:54322": {0, 54322}} {
		id, err := lookUp(text)
		if err != nil || id.credential.Uid != want[0] || id.credential.Gid != want[1] {
			t.Errorf("%s: %+v, %v", text, id.credential, err)
		}
	}
	for _, text := range []string{"no-such-user", "root:no-such-group", "-1", ""} {
		if id, err := lookUp(text); err == nil {
			t.Errorf("%q became %+v", text, id.credential)
		}
	}
	for env, want := range map[string]string{"HOME=/root": "HOME=/srv", "HOME=/": "HOME=/srv", "HOME=/mine": "HOME=/mine", "A=b": "A=b HOME=/srv"} {
		if got := strings.Join(withHome([]string{env}, "/srv"), " "); got != want {
			t.Errorf("%s became %s", env, got)
		}
	}
}

// A program with libraries runs out of the directory, by its own loader.
func TestInstall(t *testing.T) {
	echo, err := exec.LookPath("echo")
	if err != nil {
		t.Fatal(err)
	}
	if err := Install(filepath.Join(t.TempDir(), strings.Repeat("long", 10)), os.Args[0], echo); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("a long path: %v", err)
	}
	if err := Install("relative", os.Args[0], echo); err == nil {
		t.Error("a relative path is taken")
	}
	dir, err := os.MkdirTemp("/tmp", "t") //nolint:usetesting // the loader's path must be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	var first os.FileInfo
	for range 2 {
		if err := Install(dir, os.Args[0], echo); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dir, Envoy))
		if err != nil {
			t.Fatal(err)
		}
		if first != nil && !os.SameFile(first, info) {
			t.Error("a file that is the same was replaced")
		}
		first = info
	}
	interpreter, _, err := needs(filepath.Join(dir, Envoy))
	if err != nil || interpreter != filepath.Join(dir, loader) {
		t.Errorf("its loader is %q, %v", interpreter, err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, Envoy), "it", "runs")
	cmd.Env = []string{"LD_LIBRARY_PATH=" + filepath.Join(dir, Library)}
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "it runs\n" {
		t.Errorf("%s, %v", out, err)
	}
}
