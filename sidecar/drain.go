package sidecar

import (
	"context"
	"time"

	"patchbay/mesh"
)

const (
	// drainAnswer is longer than the control plane waits for its subscribers
	// (10 s, agent.proto).
	drainAnswer = 12 * time.Second
	// drainAlone is how long a lost control plane is waited for.
	drainAlone = 2 * time.Second
	// quiet is how long nothing must be under way before Envoy is stopped:
	// a caller that has just acknowledged may have a request on the wire.
	quiet      = 300 * time.Millisecond
	drainCheck = 50 * time.Millisecond
)

// drain takes the task out of the mesh: out of the registry, then out of every
// caller's endpoints, then what is under way may end. Calls of the task's own
// application go on working meanwhile.
func (a *Agent) drain(ctx context.Context) {
	a.log.InfoContext(ctx, "stopping: drain begins", "ports", len(a.cfg.Declaration.Ports))
	a.set(func(s *state) { s.draining = true })
	signal(a.report)
	patience := a.patience()
	select {
	case <-a.drained:
	case <-time.After(patience):
		a.log.WarnContext(ctx, "drain goes on without the control plane: its answer has not come", "waited", patience.String())
	case <-ctx.Done():
		return
	}
	if len(a.cfg.Declaration.Ports) > 0 {
		a.finish(ctx)
	}
	a.log.InfoContext(ctx, "drained")
}

// patience is how long the control plane's answer is worth waiting for.
func (a *Agent) patience() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.st.connected {
		return drainAlone
	}
	return drainAnswer
}

// finish lets requests and connections end, for at most the drain time.
func (a *Agent) finish(ctx context.Context) {
	if err := a.admin.DrainInbound(ctx); err != nil {
		a.log.WarnContext(ctx, "Envoy's clients are not asked to leave", "error", err)
		return
	}
	var tcp []string
	for _, p := range a.cfg.Declaration.Ports {
		if p.Protocol == mesh.TCP {
			tcp = append(tcp, "app-"+p.PortName)
		}
	}
	tick := time.NewTicker(drainCheck)
	defer tick.Stop()
	end := time.After(a.cfg.DrainTime)
	idleSince := time.Now()
	for {
		n, err := a.admin.Active(ctx, tcp)
		if err != nil {
			a.log.WarnContext(ctx, "what is under way is not known", "error", err)
			return
		}
		if n > 0 {
			idleSince = time.Now()
		}
		if time.Since(idleSince) >= quiet {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-end:
			if n > 0 {
				a.log.WarnContext(ctx, "the drain time is over; what is under way is cut", "active", n, "drain_time", a.cfg.DrainTime.String())
			}
			return
		case <-tick.C:
		}
	}
}
