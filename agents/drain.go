package agents

import (
	"context"
	"slices"
	"sync"
	"time"

	"patchbay/agentapi"
)

// Limits of a drain, as promised to agents: they wait a little longer.
const (
	deregisterTime = 10 * time.Second
	removedTime    = 10 * time.Second
)

// drain takes the task out of rotation: first the registry, then everyone who
// still might call it. It goes on if the stream breaks: the task said that it
// stops.
func (s *session) drain(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	start := time.Now()
	var (
		mu      sync.Mutex
		missing []string
		wg      sync.WaitGroup
	)
	for _, p := range s.ports {
		wg.Go(func() {
			m := p.drain(ctx)
			mu.Lock()
			defer mu.Unlock()
			missing = append(missing, m...)
		})
	}
	wg.Wait()
	slices.Sort(missing)
	missing = slices.Compact(missing)
	s.log.InfoContext(ctx, "drained", "took", time.Since(start).String(), "missing", missing)
	_ = s.send(&agentapi.Down{Message: &agentapi.Down_DrainComplete{DrainComplete: &agentapi.DrainComplete{Missing: missing}}}) // a failure ends the session
}

// drain returns the ids of the nodes that may still call the port.
func (p *port) drain(ctx context.Context) []string {
	if !p.s.node.Workload.Offers(p.Service) {
		return nil
	}
	if err := p.deregister(ctx); err != nil {
		p.report(ctx, err, 0)
		return nil
	}
	p.set(func(g *registration) { *g = registration{Instance: g.Instance} })
	ctx, cancel := context.WithTimeout(ctx, removedTime)
	defer cancel()
	missing, err := p.s.srv.o.Barrier.Removed(ctx, p.Service, p.addr())
	if err != nil && len(missing) == 0 {
		p.s.log.WarnContext(ctx, "can't tell who has acknowledged the removal", "service", p.Service.String(), "error", err)
	}
	return missing
}

// deregister tries until it succeeds or time is up. Also a port that we do not
// remember may be registered: by another replica, or before our restart.
func (p *port) deregister(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, deregisterTime)
	defer cancel()
	for delay := retryFirst; ; delay = min(2*delay, retryMost) {
		err := p.s.srv.o.Registrar.Deregister(ctx, p.s.node, p.Port)
		if err == nil || !pause(ctx, delay) {
			return err
		}
	}
}
