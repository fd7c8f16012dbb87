package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"patchbay/internal/poll"
)

// transcript is what a program has printed.
type transcript struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *transcript) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *transcript) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// step is a block of commands of the guide, and what it shows of their output.
type step struct{ commands, shows string }

var block = regexp.MustCompile("(?s)```sh\n(.*?)```(?:\\s*```text\n(.*?)```)?")

// TestFirstHour runs docs/guides/first-hour.md on a real demo, as its reader
// does, and then those of docs/guides/observe.md: each block of commands, until it prints what the guide shows. "…" stands
// for anything; the lines may have others between them.
func TestFirstHour(t *testing.T) {
	page, err := os.ReadFile("../docs/guides/first-hour.md")
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(t.TempDir(), "bin")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-tags", "nobadger,nobadgerv1,nobadgerv2,nomysql,nopgx", "-o", bin+"/", "../cmd/patchbay", "../cmd/devca", "../cmd/demoapp")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	shown := &transcript{}
	run := exec.CommandContext(t.Context(), filepath.Join(bin, "patchbay"), "demo")
	run.Stdout, run.Stderr, run.WaitDelay = shown, shown, 20*time.Second
	run.Cancel = func() error { return run.Process.Signal(syscall.SIGINT) }
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		run.Process.Signal(syscall.SIGINT)
		run.Wait()
	}()
	said := regexp.MustCompile(`export (PATCHBAY_ADMIN=unix:\S+)`)
	if err := poll.Until(t.Context(), 60*time.Second, func() error {
		if !said.MatchString(shown.String()) || !strings.Contains(shown.String(), "a third backend joined") {
			return fmt.Errorf("the demo says:\n%s", shown)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), said.FindStringSubmatch(shown.String())[1], "PATH="+bin+":"+os.Getenv("PATH"))
	steps := block.FindAllStringSubmatch(string(page), -1)
	if len(steps) < 10 {
		t.Fatalf("%d blocks", len(steps))
	}
	for _, m := range steps[1:] { // the first sets the environment
		follow(t, step{ownTask(m[1], run.Process.Pid), m[2]}, env)
	}
	look, err := os.ReadFile("../docs/guides/observe.md")
	if err != nil {
		t.Fatal(err)
	}
	taps := block.FindAllStringSubmatch(string(look), -1)
	if len(taps) < 3 {
		t.Fatalf("%d blocks in observe.md", len(taps))
	}
	for _, m := range taps {
		follow(t, step{m[1], m[2]}, env)
	}
	if strings.Contains(shown.String(), "✗") || !strings.Contains(shown.String(), "failed 0") {
		t.Errorf("the demo says:\n%s", shown)
	}
}

// ownTask makes a command of the guide mean this demo, where others run beside
// it: its namespaces and programs have the number of its process.
func ownTask(commands string, pid int) string {
	commands = strings.ReplaceAll(commands, "^pb[0-9]*-", fmt.Sprintf("^pb%d-", pid))
	return strings.ReplaceAll(commands, "pgrep -f", fmt.Sprintf("pgrep -P %d -f", pid))
}

// follow runs a step until it shows what it should; what changes something is
// run once.
func follow(t *testing.T, s step, env []string) {
	t.Helper()
	want := regexp.MustCompile(pattern(s.shows))
	once := s.shows == ""
	err := poll.Until(t.Context(), 60*time.Second, func() error {
		out, err := shell(t.Context(), s.commands, env)
		if ended, is := errors.AsType[*exec.ExitError](err); is && !once && ended.ExitCode() == 4 {
			err = nil // it has found something
		}
		if err == nil && !want.MatchString(out) {
			err = fmt.Errorf("it does not show\n%s", s.shows)
		}
		if err != nil {
			err = fmt.Errorf("%s%w\n%s", s.commands, err, out)
		}
		if once && err != nil {
			t.Fatal(err)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func shell(ctx context.Context, commands string, env []string) (string, error) {
	cmd := exec.CommandContext(ctx, "bash", "-c", commands)
	cmd.Env, cmd.WaitDelay = env, time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// pattern matches an output that has all lines of what is shown, in order.
func pattern(shows string) string {
	var lines []string
	for l := range strings.Lines(shows) {
		var words []string
		for w := range strings.FieldsSeq(l) {
			words = append(words, strings.ReplaceAll(regexp.QuoteMeta(w), "…", `.*?`))
		}
		lines = append(lines, strings.Join(words, `\s.*?`))
	}
	return `(?s)` + strings.Join(lines, `.*?`)
}
