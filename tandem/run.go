// Package tandem puts a sidecar agent and an application into one container.
//
// Compose can't pair the replicas of two services, so a service that is to be
// scaled has its agent in the application's own container: the programs come
// from a volume ([Install]), and the agent starts the application as its image
// would have ([App.Run]). The package owns that order, signals, exit codes,
// and which user and capabilities the application gets. It must not know what
// the agent does. Start reading at [App.Run].
package tandem

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// App is an application and the agent beside it.
type App struct {
	Command []string // program and arguments
	Env     []string
	User    string // as in a Dockerfile: user[:group], by name or number; empty: as this process
	// KeepNetAdmin leaves NET_ADMIN, which is there for the agent, to the
	// application as well.
	KeepNetAdmin bool
	// Agent runs until its context ends, and has taken the task out of the
	// mesh when it returns. It is run again if it ends by itself.
	Agent func(context.Context) error
	// Ready reports what the application has to wait for; nil: nothing.
	Ready func(context.Context) error
	Log   *slog.Logger
}

const (
	readyPoll = 50 * time.Millisecond
	// farewell is how long the agent may take when the application is gone
	// and there is nothing to drain.
	farewell = 5 * time.Second
	// agentFirst and agentMost bound the wait before an agent that ended is
	// run again.
	agentFirst = time.Second
	agentMost  = 10 * time.Second
)

// Run starts the agent, then the application once the mesh is ready. When ctx
// ends, the agent leaves the mesh first, and the application gets its SIGTERM
// only then. Run returns the application's exit code, 128 and more for a
// signal; an error means that it could not be started.
func (a *App) Run(ctx context.Context) (int, error) {
	agentCtx, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	left := make(chan struct{})
	go func() {
		defer close(left)
		a.keepAgent(agentCtx)
	}()
	if err := a.wait(ctx); err != nil { // told to stop before there was anything to stop
		leave()
		<-left
		return 0, nil //nolint:nilerr // a clean stop
	}
	cmd, err := a.start()
	if err != nil {
		leave()
		<-left
		return 127, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH)
	defer signal.Stop(signals)
	stop := ctx.Done()
	for {
		select {
		case s := <-signals:
			_ = cmd.Process.Signal(s) // it has just ended otherwise
		case <-stop:
			stop = nil
			leave()
			<-left
			_ = cmd.Process.Signal(syscall.SIGTERM)
		case err := <-done:
			leave()
			select {
			case <-left:
			case <-time.After(farewell):
			}
			return exitCode(err), nil
		}
	}
}

// keepAgent runs the agent until ctx ends. The application lives on without
// one.
func (a *App) keepAgent(ctx context.Context) {
	wait := agentFirst
	for {
		began := time.Now()
		err := a.Agent(ctx)
		if ctx.Err() != nil {
			if err != nil {
				a.Log.Error("the agent ended", "error", err)
			}
			return
		}
		if time.Since(began) > time.Minute {
			wait = agentFirst
		}
		a.Log.Error("the agent ended; it is run again, and the application is left alone", "error", err, "retry_in", wait.String())
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, agentMost)
	}
}

// wait returns when the mesh is ready, or an error when ctx ends first.
func (a *App) wait(ctx context.Context) error {
	if a.Ready == nil {
		return ctx.Err()
	}
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	said := ""
	for began := time.Now(); ; {
		err := a.Ready(ctx)
		if err == nil {
			return ctx.Err()
		}
		if text := err.Error(); text != said && time.Since(began) > 2*time.Second {
			said = text
			a.Log.InfoContext(ctx, "the application is started when the mesh is ready", "reason", text)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// start runs the application under its own user, without what only the agent
// needs.
func (a *App) start() (*exec.Cmd, error) {
	cmd := exec.Command(a.Command[0], a.Command[1:]...) //nolint:gosec,noctx // it is the user's command, and ends by signals in order
	cmd.Env = a.Env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if a.User != "" {
		id, err := lookUp(a.User)
		if err != nil {
			return nil, err
		}
		cmd.Env = withHome(cmd.Env, id.home)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &id.credential}
	}
	started := make(chan error, 1)
	go func() {
		// Capabilities belong to a thread: this one ends with its goroutine.
		runtime.LockOSThread()
		if !a.KeepNetAdmin {
			if err := dropNetAdmin(); err != nil {
				started <- err
				return
			}
		}
		started <- cmd.Start()
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start the application: %w", err)
	}
	return cmd, nil
}

// withHome sets HOME, which Docker made that of root, unless the user has set
// it to something else.
func withHome(env []string, home string) []string {
	out := slices.Clone(env)
	for i, e := range out {
		if v, ok := strings.CutPrefix(e, "HOME="); ok {
			if v == "/root" || v == "/" {
				out[i] = "HOME=" + home
			}
			return out
		}
	}
	return append(out, "HOME="+home)
}

// dropNetAdmin takes the capability from what this thread will start, whatever
// its user.
func dropNetAdmin() error {
	if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_NET_ADMIN, 0, 0, 0); err != nil && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("drop NET_ADMIN: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("drop NET_ADMIN: %w", err)
	}
	data[0].Inheritable &^= 1 << unix.CAP_NET_ADMIN
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("drop NET_ADMIN: %w", err)
	}
	return nil
}

// exitCode is that of an ended process as shells and Docker write it.
func exitCode(err error) int {
	exit, ok := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return 0
	case !ok:
		return 1
	}
	if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		return 128 + int(s.Signal())
	}
	return exit.ExitCode()
}
