// Package envoytest runs the real Envoy in tests.
//
// It owns the process: where the binary is, its start, its admin interface and
// its end. It must not know what the configuration means. Start reading at
// [Start].
package envoytest

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Binary finds Envoy: $PATCHBAY_ENVOY, .tools/bin/envoy beside go.mod, PATH.
// A machine without one fails the test and says how to get it.
func Binary(t testing.TB) string {
	t.Helper()
	if p := os.Getenv("PATCHBAY_ENVOY"); p != "" {
		return p
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		p := filepath.Join(dir, ".tools/bin/envoy")
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	p, err := exec.LookPath("envoy")
	if err != nil {
		t.Fatal("no Envoy: run scripts/envoy.sh, or set PATCHBAY_ENVOY")
	}
	return p
}

// Validate has Envoy judge a bootstrap without running it.
func Validate(t testing.TB, bootstrap []byte) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), Binary(t), "--mode", "validate", "-l", "warn", "-c", write(t, bootstrap)).CombinedOutput()
	if err != nil {
		t.Fatalf("Envoy refuses the bootstrap: %v\n%s\n%s", err, out, bootstrap)
	}
}

func write(t testing.TB, bootstrap []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bootstrap.json")
	if err := os.WriteFile(file, bootstrap, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Envoy is a running process. It is stopped at the end of the test.
type Envoy struct {
	cmd    *exec.Cmd
	log    *buffer
	client *http.Client
	done   chan struct{} // closed when the process has ended
}

// Start runs Envoy with a bootstrap whose admin interface is the Unix socket
// admin, inside the network namespace netns unless that is empty. It has one
// worker; args come last on its command line. When the test fails, the end of
// Envoy's log is printed.
func Start(t testing.TB, bootstrap []byte, admin, netns string, args ...string) *Envoy {
	t.Helper()
	return start(t, nil, bootstrap, admin, netns, args)
}

// start is Start with more environment.
func start(t testing.TB, env []string, bootstrap []byte, admin, netns string, args []string) *Envoy {
	t.Helper()
	line := append([]string{Binary(t), "-c", write(t, bootstrap), "--disable-hot-restart", "--concurrency", "1", "-l", "info", "--file-flush-interval-msec", "100"}, args...)
	if netns != "" {
		line = append([]string{"ip", "netns", "exec", netns}, line...)
	}
	e := &Envoy{cmd: exec.Command(line[0], line[1:]...), log: &buffer{}, client: adminClient(admin), done: make(chan struct{})}
	e.cmd.Stdout, e.cmd.Stderr = e.log, e.log
	if len(env) > 0 {
		e.cmd.Env = append(os.Environ(), env...)
	}
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		// Pdeathsig goes by thread: this one must last as long as Envoy.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := e.cmd.Start()
		started <- err
		if err == nil {
			e.cmd.Wait()
		}
		close(e.done)
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.Stop()
		if t.Failed() {
			t.Logf("Envoy's log, the end:\n%s", e.Log(40))
		}
	})
	return e
}

// Stop ends Envoy and waits until it is gone. It may be called again.
func (e *Envoy) Stop() {
	e.cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
	select {
	case <-e.done:
	case <-time.After(5 * time.Second):
		e.cmd.Process.Kill() //nolint:errcheck // likewise
		<-e.done
	}
}

// Log is the last lines of what Envoy has printed, without the long lists of
// its extensions.
func (e *Envoy) Log(lines int) string {
	all := slices.DeleteFunc(strings.Split(e.log.String(), "\n"), func(l string) bool {
		return l == "" || strings.Contains(l, "][info][main]")
	})
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Ready waits until Envoy has its configuration.
func (e *Envoy) Ready(t testing.TB) {
	t.Helper()
	Eventually(t, 20*time.Second, func() error {
		select {
		case <-e.done:
			t.Fatal("Envoy has ended")
		default:
		}
		body, err := e.Get("/ready")
		if err == nil && strings.TrimSpace(body) != "LIVE" {
			err = fmt.Errorf("Envoy is %s", strings.TrimSpace(body))
		}
		return err
	})
}

// busy is how much longer than at rest a machine may take that does something
// else as well.
const busy = 4

// Eventually tries f every 10 ms until it succeeds. limit is what a machine at
// rest may need at most; after busy times that the test fails with the last error.
func Eventually(t testing.TB, limit time.Duration, f func() error) {
	t.Helper()
	limit *= busy
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %v", limit, err)
		}
		<-tick.C
	}
}

// buffer takes a process's output while a test reads it.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
