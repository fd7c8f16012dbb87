// Package shift moves the calls of a service from one revision to another: at
// an operator's order, step by step, and back where too many of them fail.
//
// It owns what may be ordered, when a step is due and when a shift is called
// off. Where a shift stands is in the registry alone: every replica may carry it
// out, at the same time as others and after a restart. It must not know Envoy
// nor how the registry is written.
//
// Start reading at [Orders.Do], then [Shifter.Run].
package shift

import (
	"context"
	"log/slog"
	"time"

	"patchbay/mesh"
	"patchbay/mesh/record"
)

// Registry writes attributes of a service: see registrar.Amend.
type Registry interface {
	Amend(ctx context.Context, name mesh.ServiceName, change func(attrs map[string]string) (record.Change, error)) error
}

// Traffic is what sidecars have counted of requests to a revision since this
// process started, and how many of them failed.
type Traffic func(service mesh.ServiceName, revision string) (requests, failed uint64)

const (
	// look is how often failed requests are looked at; sidecars report every 5 s.
	look = time.Second
	// again is how long to wait after a registry that failed.
	again = 5 * time.Second
	// sample is the least number of requests from which a shift is judged: of
	// fewer, one failure is already 5 %.
	sample = 20
	// writeTime bounds one write, well below the least time of a step: a write
	// that comes late must not meet the step after the next.
	writeTime = 900 * time.Millisecond
)

// Shifter carries shifts out.
type Shifter struct {
	store    *mesh.Store
	registry Registry
	traffic  Traffic
	log      *slog.Logger

	judged map[mesh.ServiceName]baseline
	failed map[mesh.ServiceName]time.Time // the registry, when last
	back   map[mesh.ServiceName]time.Time // when the revision that gets calls could be called again; zero: it can't
}

// baseline is what had been counted when a step began, or was first seen.
type baseline struct {
	id               string
	step             int
	requests, failed uint64
}

// New makes a Shifter; nothing happens before Run.
func New(store *mesh.Store, registry Registry, traffic Traffic, log *slog.Logger) *Shifter {
	return &Shifter{store: store, registry: registry, traffic: traffic, log: log, judged: map[mesh.ServiceName]baseline{}, failed: map[mesh.ServiceName]time.Time{}, back: map[mesh.ServiceName]time.Time{}}
}

// Run carries out every shift of the mesh until ctx ends, and returns its cause.
func (s *Shifter) Run(ctx context.Context) error {
	for {
		snap := s.store.Snapshot()
		wait := s.all(ctx, snap)
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-s.store.Changed(snap.Generation):
			t.Stop()
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
	}
}

// idle is how long Run sleeps if nothing changes.
const idle = time.Hour

// all looks at every service and returns when to look again.
func (s *Shifter) all(ctx context.Context, snap *mesh.Snapshot) time.Duration {
	wait := idle
	for _, v := range snap.Services {
		if s.registry != nil {
			wait = min(wait, s.begin(ctx, v))
		}
		if v.Deployment == nil {
			delete(s.judged, v.Name)
			delete(s.back, v.Name)
			continue
		}
		if s.registry != nil && v.Deployment.Shift.Ended == "" {
			wait = min(wait, s.one(ctx, v))
		}
	}
	return wait
}

// one does what is due for the shift of a service, and returns when to look
// again. No calls move to a revision that has no endpoint to serve them: a step
// waits for one, and lasts as long as others once it is there.
func (s *Shifter) one(ctx context.Context, v *mesh.Service) time.Duration {
	name, sh, now := v.Name, v.Deployment.Shift, time.Now()
	able := s.able(v, now)
	if since := now.Sub(s.failed[name]); since < again {
		return again - since
	}
	since := sh.Since
	if back := s.back[name]; back.After(since) {
		since = back
	}
	due := since.Add(sh.Every)
	watched := watched(sh, now) && serving(v, sh.From) > 0
	if watched {
		if reason := s.judge(name, sh); reason != "" {
			return s.write(ctx, name, "the shift is called off", reason, func(attrs map[string]string) (record.Change, error) {
				return record.EndShift(attrs, sh.ID, reason, time.Now())
			})
		}
	}
	if able && !sh.Done() && !now.Before(due) {
		return s.write(ctx, name, "calls move to the next step", "", func(attrs map[string]string) (record.Change, error) {
			return record.StepShift(attrs, sh, time.Now())
		})
	}
	wait := idle
	if able && !sh.Done() {
		wait = due.Sub(now)
	}
	if watched {
		wait = min(wait, look)
	}
	return wait
}

// able reports whether the revision that a shift leads to can be called, and
// keeps since when.
func (s *Shifter) able(v *mesh.Service, now time.Time) bool {
	if serving(v, v.Deployment.Shift.To) == 0 {
		s.back[v.Name] = time.Time{}
		return false
	}
	if at, was := s.back[v.Name]; was && at.IsZero() {
		s.back[v.Name] = now
	}
	return true
}

// watched reports whether failed requests count: until the last step has lasted
// as long as the others, and always where there is but one.
func watched(sh mesh.Shift, now time.Time) bool {
	return sh.Rollback > 0 && sh.From != "" && (!sh.Done() || len(sh.Weights) == 1 || now.Before(sh.Since.Add(sh.Every)))
}

// judge says why a shift must be called off, or nothing. Each step is judged by
// itself.
func (s *Shifter) judge(name mesh.ServiceName, sh mesh.Shift) string {
	requests, failed := s.traffic(name, sh.To)
	b := s.judged[name]
	if b.id != sh.ID || b.step != sh.Step || requests < b.requests {
		s.judged[name] = baseline{sh.ID, sh.Step, requests, failed}
		return ""
	}
	requests, failed = requests-b.requests, failed-b.failed
	if requests < sample || failed*mesh.Whole <= requests*uint64(sh.Rollback) {
		return ""
	}
	return "rolled back: " + Of(failed, requests) + " requests to " + sh.To + " failed; allowed " + Percent(sh.Rollback)
}

// write has the registry changed, and returns when to look again.
func (s *Shifter) write(ctx context.Context, name mesh.ServiceName, what, reason string, change func(map[string]string) (record.Change, error)) time.Duration {
	ctx, stop := context.WithTimeout(ctx, writeTime)
	defer stop()
	if err := s.registry.Amend(ctx, name, change); err != nil {
		s.failed[name] = time.Now()
		s.log.Warn("a shift can't be carried on; it is tried again", "service", name.String(), "error", err)
		return again
	}
	delete(s.failed, name)
	s.log.Info(what, "service", name.String(), "reason", reason)
	return look // by then the store has it
}
