package sidecar

import (
	"context"
	"slices"
)

// closeDead refuses new connections to ports whose application takes none, and
// opens them as soon as it does: before the port is reported healthy. What
// can't be done leaves them open, as Envoy has them.
func (a *Agent) closeDead(ctx context.Context) {
	if !a.cfg.CloseDead {
		return
	}
	dead := a.ports.Dead()
	if slices.Equal(dead, a.closed) {
		return
	}
	if err := a.shut(dead); err != nil {
		a.log.ErrorContext(ctx, "ports of dead applications can't be closed; they take connections", "closed", dead, "error", err)
		return
	}
	a.closed = dead
	a.log.InfoContext(ctx, "new connections are refused where the application takes none", "closed", dead)
}

// reopen leaves no port closed behind.
func (a *Agent) reopen() {
	if !a.cfg.CloseDead {
		return
	}
	if err := a.shut(nil); err != nil {
		a.log.Warn("closed ports stay closed", "error", err)
	}
}
