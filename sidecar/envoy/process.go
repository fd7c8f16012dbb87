// Package envoy runs one Envoy process and talks to it.
//
// It owns the process: its arguments, its user, restarts, its log and its end,
// and the questions to its admin interface. It must not know what Envoy is
// configured for. Start reading at [Supervisor.Run].
package envoy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// Restarts as ECS's agent makes them: at most three, then the task ends. Ours
// start anew after a run of stable.
const (
	restarts     = 3
	restartFirst = 100 * time.Millisecond
	restartGrow  = 4
	stable       = time.Minute
	// killAfter is how long a stopping Envoy may take; it takes milliseconds.
	killAfter = 5 * time.Second
)

// ErrGaveUp is the end of a supervision.
var ErrGaveUp = errors.New("Envoy does not stay up")

// Command says how Envoy is run.
type Command struct {
	Binary      string
	Bootstrap   string // path of the bootstrap file, which its user can read
	UID         int    // also its group; 0 or less: as this process
	Concurrency int    // workers; 0: Envoy's choice
	DrainTime   time.Duration
	Log         *slog.Logger // Envoy's own lines go there, and what happens to it
	Stdout      *os.File     // access logs go there as they are; nil: to Log
	LogLevel    string       // of Envoy: trace, debug, info, warning, error, critical, off
}

// Supervisor keeps an Envoy running.
type Supervisor struct {
	cmd    Command
	pid    atomic.Int64
	starts atomic.Int64
}

// NewSupervisor starts nothing.
func NewSupervisor(c Command) *Supervisor { return &Supervisor{cmd: c} }

// PID is that of the running Envoy, 0 while there is none.
func (s *Supervisor) PID() int { return int(s.pid.Load()) }

// Starts counts the processes that were started.
func (s *Supervisor) Starts() int { return int(s.starts.Load()) }

// Run keeps an Envoy running until ctx ends; then it stops it and returns nil.
// Its error matches ErrGaveUp.
func (s *Supervisor) Run(ctx context.Context) error {
	for quick := 0; ; {
		began := time.Now()
		err := s.once(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // a clean stop
		}
		if time.Since(began) > stable {
			quick = 0
		}
		if quick == restarts {
			return fmt.Errorf("%w: ended %d times within %s of its start, the last time: %w", ErrGaveUp, restarts+1, stable, err)
		}
		wait := restartFirst
		for range quick {
			wait *= restartGrow
		}
		quick++
		s.cmd.Log.ErrorContext(ctx, "Envoy ended; it is started again", "error", err, "restart", quick, "of", restarts, "retry_in", wait.String())
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// once runs one process to its end, on a thread of its own: Envoy gets a
// signal when the thread that started it is gone, however that came about.
func (s *Supervisor) once(ctx context.Context) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		done <- s.run(ctx)
	}()
	return <-done
}

func (s *Supervisor) run(ctx context.Context) error {
	cmd, binary, err := s.command()
	if err != nil {
		return err
	}
	defer binary.Close()
	out := &lines{log: s.cmd.Log}
	cmd.Stdout, cmd.Stderr = out, out
	if s.cmd.Stdout != nil {
		cmd.Stdout = s.cmd.Stdout
	}
	cmd.WaitDelay = time.Second
	if cmd.SysProcAttr.Credential != nil {
		if err := dropAmbient(); err != nil {
			return fmt.Errorf("start Envoy %s: %w", s.cmd.Binary, err)
		}
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start Envoy %s: %w", s.cmd.Binary, err)
	}
	s.pid.Store(int64(cmd.Process.Pid))
	s.starts.Add(1)
	s.cmd.Log.InfoContext(ctx, "Envoy started", "pid", cmd.Process.Pid, "binary", s.cmd.Binary)
	ended := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stopWith(ctx, cmd.Process, ended)
	}()
	err = cmd.Wait()
	s.pid.Store(0)
	close(ended)
	<-stopped
	out.flush()
	if err == nil {
		err = errors.New("exit status 0")
	}
	return err
}

// command names the binary by an open file: Envoy's user need not be able to
// reach the directory that it is in.
func (s *Supervisor) command() (*exec.Cmd, *os.File, error) {
	c := s.cmd
	binary, err := os.Open(c.Binary)
	if err != nil {
		return nil, nil, fmt.Errorf("start Envoy: %w", err)
	}
	args := []string{
		"envoy", "-c", c.Bootstrap, "--disable-hot-restart",
		"--drain-time-s", strconv.Itoa(int(c.DrainTime.Seconds())),
		// Whoever stops wants its clients gone at once, not bit by bit.
		"--drain-strategy", "immediate",
		// An access log is read by people who wait for it; Envoy's 10 s are long.
		"--file-flush-interval-msec", "1000",
		"--log-level", c.LogLevel, "--log-format", logFormat, "--log-format-escaped",
	}
	if c.Concurrency > 0 {
		args = append(args, "--concurrency", strconv.Itoa(c.Concurrency))
	}
	cmd := &exec.Cmd{Path: "/proc/self/fd/3", Args: args, ExtraFiles: []*os.File{binary}, Env: os.Environ()}
	// In a group of its own: Ctrl-C of the terminal must reach the agent alone,
	// which stops Envoy when the task's callers know that it leaves.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if c.UID > 0 && c.UID != os.Geteuid() {
		id := uint32(c.UID)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: id, Gid: id}
	}
	return cmd, binary, nil
}

// stopWith stops the process when ctx ends, unless it has ended before.
func stopWith(ctx context.Context, p *os.Process, ended <-chan struct{}) {
	select {
	case <-ended:
		return
	case <-ctx.Done():
	}
	_ = p.Signal(syscall.SIGTERM) // it has just ended otherwise
	select {
	case <-ended:
	case <-time.After(killAfter):
		_ = p.Kill()
		<-ended
	}
}
