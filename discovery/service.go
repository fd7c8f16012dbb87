package discovery

import (
	"context"
	"time"

	"patchbay/discovery/cloud"
	"patchbay/discovery/hold"
	"patchbay/discovery/pace"
	"patchbay/internal/namespaces"
	"patchbay/mesh"
	"patchbay/mesh/record"
)

// leavingAtMost bounds how long an announced removal hides an instance that
// the registry still shows: by then the deregistration has failed for good.
const leavingAtMost = 15 * time.Minute

// lingerAtMost bounds how long the last usable instance of a service is shown
// after it has announced its end, for what takes its place may be registered
// and not read yet. It is less than an agent waits for its callers to know.
const lingerAtMost = 5 * time.Second

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
	avoid     map[string]time.Time // instances of tasks that are to stop, by an event, since when
	built     *mesh.Service

	err          error
	failures     int       // of instance calls, in a row
	retry        time.Time // after the last of them
	attrFailures int       // of GetServiceAttributes, in a row
	missing      int       // answers in a row that the service does not exist
	missingSince time.Time

	wantFull, wantAttrs  bool
	noticed              mesh.Detection // what the next step is for, if somebody told of it
	timer                pace.Timer
	recheck, nextSetting time.Time
	told                 uint64 // the mark that another replica told of, and that is not known here; 0: none
	content, mark        uint64 // of the newest answer, and of that with the settings; replicas compare the mark
}

// departure is an announced removal: when, and of which registration.
type departure struct {
	at   time.Time
	was  record.Instance
	seen bool // was is known
	out  bool // it was taken out, and does not come back
}

func newService(n *namespace, discoveryName string) *service {
	return &service{
		ns: n, name: mesh.ServiceName{Namespace: n.want.Name, DiscoveryName: discoveryName},
		wake: make(chan struct{}, 1), belief: hold.Belief{Rules: n.cfg.Rules},
		unknown: map[string]time.Time{}, leaving: map[string]departure{}, avoid: map[string]time.Time{},
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
	t, idle := s.take(time.Now())
	if idle > 0 {
		return idle
	}
	if !t.full && t.instances {
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
	namespace                   namespaces.Namespace
	cloudName, serviceID        string
	revision                    int64
	instances, full, attributes bool
	noticed                     mesh.Detection

	asked    bool
	answer   cloud.Answer
	err      error
	attrs    map[string]string
	attrsErr error
}

// take says what is due, or how long nothing will be.
func (s *service) take(now time.Time) (task, time.Duration) {
	s.ns.mu.Lock()
	defer s.ns.mu.Unlock()
	t := task{
		namespace: s.ns.cloud, cloudName: s.info.Name, serviceID: s.info.ID, revision: s.belief.Revision,
		full:       s.wantFull || s.answered.IsZero() && s.failures == 0 || s.failures == 0 && due(now, s.recheck),
		attributes: s.wantAttrs || s.nextSetting.IsZero() || due(now, s.nextSetting),
	}
	next := s.next()
	t.instances = t.full || !now.Before(next)
	t.full = t.full || t.instances && (s.answered.IsZero() || s.timer.Full(now, s.fullPeriod()))
	if !t.instances && !t.attributes {
		return t, s.pause(now)
	}
	if t.namespace.HTTPName == "" {
		t.namespace.HTTPName = s.name.Namespace
	}
	t.noticed = s.noticed
	if t.noticed.By == "" {
		t.noticed = mesh.Detection{At: now, By: "poll"}
	}
	s.wantFull, s.wantAttrs, s.noticed = false, false, mesh.Detection{}
	return t, 0
}

// notice remembers by what a change was noticed first.
func (s *service) notice(by string) {
	if s.noticed.By == "" {
		s.noticed = mesh.Detection{At: time.Now(), By: by}
	}
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

// next is when the instances are asked for again, if nothing happens.
func (s *service) next() time.Time {
	r := s.ns.cfg.Pace
	switch {
	case s.failures > 0:
		return s.retry
	case s.belief.Lagging():
		return s.recheck
	}
	period, full := r.Unhinted, s.fullPeriod()
	if s.hinted() {
		period = r.Hinted
	}
	if s.relied() {
		period, full = r.Relied, max(full, r.Relied)
	}
	return s.timer.Next(r, period, full)
}

func (s *service) fullPeriod() time.Duration {
	if s.info.Checked {
		return s.ns.cfg.Pace.Health
	}
	return s.ns.cfg.Pace.Sweep
}

// pause is how long to sleep before the next step.
func (s *service) pause(now time.Time) time.Duration {
	d := s.next().Sub(now)
	d = min(d, s.nextSetting.Sub(now))
	if s.failures == 0 && !s.recheck.IsZero() {
		d = min(d, s.recheck.Sub(now))
	}
	return max(d, time.Millisecond)
}

// poke wakes whoever waits for c, without waiting for it.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
