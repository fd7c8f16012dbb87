package sidecar

import (
	"context"
	"fmt"
	"time"

	"patchbay/mesh"
)

const (
	// drainAnswer is longer than the control plane waits for its subscribers
	// (10 s, agent.proto).
	drainAnswer = 12 * time.Second
	// drainAlone is how long a lost control plane is waited for.
	drainAlone = 2 * time.Second
	drainCheck = 50 * time.Millisecond
	// stopReserve is what is kept of the stop timeout for the end of Envoy and
	// of this process.
	stopReserve = 2 * time.Second
)

// drain takes the task out of the mesh: out of the registry, then out of every
// caller's endpoints, then what is under way may end. Calls of the task's own
// application go on working meanwhile.
func (a *Agent) drain(ctx context.Context) {
	a.log.InfoContext(ctx, "stopping: drain begins", "ports", len(a.cfg.Declaration.Ports))
	if a.cfg.StopTimeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, a.cfg.StopTimeout-stopReserve, fmt.Errorf("the stop timeout of %s is nearly over", a.cfg.StopTimeout))
		defer stop()
	}
	a.set(func(s *state) { s.draining = true })
	signal(a.report)
	if err := a.await(ctx); err != nil {
		a.log.WarnContext(ctx, "drain goes on without the control plane", "error", err)
	}
	if len(a.cfg.Declaration.Ports) > 0 {
		var tcp []string
		for _, p := range a.cfg.Declaration.Ports {
			if p.Protocol == mesh.TCP {
				tcp = append(tcp, "app-"+p.PortName)
			}
		}
		a.admin.Finish(ctx, tcp, a.cfg.DrainTime, a.log)
	}
	a.log.InfoContext(ctx, "drained")
}

// await waits for the control plane to say that every caller knows. The error
// says why it is not worth waiting any longer.
func (a *Agent) await(ctx context.Context) error {
	tick := time.NewTicker(drainCheck)
	defer tick.Stop()
	began, seen := time.Now(), time.Now()
	for {
		select {
		case <-a.drained:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case now := <-tick.C:
			a.mu.Lock()
			connected, lost := a.st.connected, a.st.lost
			a.mu.Unlock()
			if connected {
				seen = now
			}
			if now.Sub(began) >= drainAnswer {
				return fmt.Errorf("no answer within %s", drainAnswer)
			}
			if now.Sub(seen) >= drainAlone {
				return fmt.Errorf("not connected for %s: %s", drainAlone, lost)
			}
		}
	}
}
