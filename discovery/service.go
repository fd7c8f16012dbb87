package discovery

import (
	"context"
	"math/rand/v2"
	"time"

	"patchbay/discovery/cloud"
	"patchbay/discovery/hold"
	"patchbay/mesh"
	"patchbay/mesh/record"
)

// leavingAtMost bounds how long an announced removal hides an instance that
// the registry still shows: by then the deregistration has failed for good.
const leavingAtMost = 15 * time.Minute

// unknownHashFor is how long the settings are read again and again because an
// instance names a document that is not there yet.
const unknownHashFor = 10 * time.Second

// service follows one service. Its fields are guarded by ns.mu; its goroutine
// makes the calls without holding it.
type service struct {
	ns     *namespace
	name   mesh.ServiceName
	wake   chan struct{}
	cancel context.CancelFunc // nil until its goroutine runs

	info   cloud.Summary
	listed bool // in the newest complete listing

	attrs     map[string]string // as read; nil: never read
	settings  *record.Service   // nil: none, or none that can be understood
	broken    bool              // there are settings, but they were never understood
	attrsErr  error
	unknown   map[string]time.Time // settings that instances name and nobody has, since when
	belief    hold.Belief
	known     bool // instances were read, now or before a restart
	answered  time.Time
	malformed map[string]string // id → reason
	skipped   map[string]int    // well-formed but unusable, by reason
	leaving   map[string]departure
	built     *mesh.Service

	err          error
	failures     int // of instance calls, in a row
	attrFailures int // of GetServiceAttributes, in a row
	missing      int // answers in a row that the service does not exist
	missingSince time.Time

	wantFull, wantAttrs            bool
	stirred                        time.Time // last change or hint
	recheck, nextFull, nextSetting time.Time
}

// departure is an announced removal: when, and of which registration.
type departure struct {
	at   time.Time
	was  record.Instance
	seen bool // was is known
}

func newService(n *namespace, discoveryName string) *service {
	return &service{
		ns: n, name: mesh.ServiceName{Namespace: n.want.Name, DiscoveryName: discoveryName},
		wake: make(chan struct{}, 1), belief: hold.Belief{Rules: n.cfg.Rules},
		unknown: map[string]time.Time{}, leaving: map[string]departure{},
	}
}

// run asks and sleeps until ctx ends. Hints cut the sleep short.
func (s *service) run(ctx context.Context) {
	for {
		timer := time.NewTimer(s.step(ctx))
		select {
		case <-timer.C:
		case <-s.wake:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// step asks the registry once for what is due, and returns how long to sleep.
func (s *service) step(ctx context.Context) time.Duration {
	t := s.take(time.Now())
	if !t.full {
		rev, err := s.ns.reg.Revision(ctx, t.namespace, t.cloudName)
		t.asked, t.err = true, err
		t.full = err == nil && rev != t.revision
	}
	if t.full {
		t.answer, t.err = s.ns.reg.Instances(ctx, t.namespace, t.cloudName)
		t.asked = true
	}
	if t.full && t.err == nil {
		t.attributes = t.attributes || s.namesUnknown(t.answer.Hashes)
	}
	if t.attributes {
		t.attrs, t.attrsErr = s.ns.reg.ServiceAttributes(ctx, t.serviceID)
	}
	if ctx.Err() != nil {
		return time.Hour // the loop ends now
	}
	return s.learn(time.Now(), t)
}

// task is what one step asks for, and what it hears.
type task struct {
	namespace, cloudName, serviceID string
	revision                        int64
	full, attributes                bool

	asked    bool
	answer   cloud.Answer
	err      error
	attrs    map[string]string
	attrsErr error
}

func (s *service) take(now time.Time) task {
	s.ns.mu.Lock()
	defer s.ns.mu.Unlock()
	t := task{
		namespace: s.ns.cloud.HTTPName, cloudName: s.info.Name, serviceID: s.info.ID, revision: s.belief.Revision,
		full:       s.wantFull || s.answered.IsZero() || due(now, s.nextFull) || due(now, s.recheck),
		attributes: s.wantAttrs || s.nextSetting.IsZero() || due(now, s.nextSetting),
	}
	if t.namespace == "" {
		t.namespace = s.name.Namespace
	}
	s.wantFull, s.wantAttrs = false, false
	return t
}

func due(now, at time.Time) bool { return !at.IsZero() && !now.Before(at) }

// namesUnknown reports whether an instance names a settings document that has
// not been read.
func (s *service) namesUnknown(hashes map[string]struct{}) bool {
	s.ns.mu.Lock()
	defer s.ns.mu.Unlock()
	for h := range hashes {
		if since, asked := s.unknown[h]; !s.hasDocument(h) && (!asked || time.Since(since) < unknownHashFor) {
			return true
		}
	}
	return false
}

func (s *service) hasDocument(h string) bool {
	if s.settings == nil {
		return false
	}
	_, ok := s.settings.Documents[h]
	return ok
}

// pause is how long to sleep before the next step.
func (s *service) pause(now time.Time) time.Duration {
	c := s.ns.cfg
	quiet := now.Sub(s.stirred)
	period := c.Cold
	switch {
	case s.failures > 0:
		return backoff(c.Hot, c.Backoff, s.failures)
	case s.ns.watched():
	case quiet < c.HotFor:
		period = c.Hot
	case quiet < c.WarmFor:
		period = c.Warm
	}
	d := jitter(period)
	if s.belief.Lagging() {
		d = c.Cold // only the recheck below
	}
	for _, at := range []time.Time{s.recheck, s.nextFull, s.nextSetting} {
		if !at.IsZero() {
			d = min(d, at.Sub(now))
		}
	}
	return max(d, time.Millisecond)
}

// jitter spreads a period by a tenth to both sides.
func jitter(d time.Duration) time.Duration {
	return d + time.Duration((rand.Float64()-0.5)*0.2*float64(d)) //nolint:gosec // not a secret
}

// backoff doubles from first to most; the upper half of it is random.
func backoff(first, most time.Duration, failures int) time.Duration {
	d := most
	if failures < 16 {
		d = min(most, first<<(failures-1))
	}
	return d/2 + rand.N(d/2+1) //nolint:gosec // not a secret
}
