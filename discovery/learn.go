package discovery

import (
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"

	"patchbay/discovery/assemble"
	"patchbay/discovery/cloud"
	"patchbay/discovery/hold"
	"patchbay/discovery/pace"
	"patchbay/mesh"
	"patchbay/mesh/record"
)

// learn takes in what a step heard and publishes it if it changes anything.
func (s *service) learn(now time.Time, t task) time.Duration {
	s.ns.mu.Lock()
	defer s.ns.mu.Unlock()
	before := s.resolved()
	if t.attributes {
		s.learnSettings(now, t)
	}
	var gone *types.ServiceNotFound
	var nsGone *types.NamespaceNotFound
	switch {
	case errors.As(t.err, &gone), errors.As(t.err, &nsGone):
		s.failed(t.err)
		if poke(s.ns.wake); s.notFound(now) {
			return time.Hour // removed
		}
	case t.err != nil:
		s.failed(t.err)
	case t.asked:
		s.timer.Asked(now, t.full)
		if s.failures > 0 {
			s.ns.log.Info("the registry answers for a service again", "service", s.name.String())
		}
		s.missing, s.failures, s.err = 0, 0, nil
		s.answered = now
		if t.full {
			s.told = 0
			s.learnInstances(now, t)
		}
	}
	s.saw()
	if s.rebuild(t.noticed) || before != s.resolved() || !s.ns.synced {
		if before {
			s.timer.Stir(now)
		}
		s.ns.publish()
	}
	return s.pause(now)
}

func (s *service) failed(err error) {
	if s.failures == 0 {
		s.ns.log.Warn("can't ask for a service; what is known of it stays", "service", s.name.String(), "error", err)
	}
	s.err = err
	s.failures++
	s.retry = time.Now().Add(pace.Backoff(s.ns.cfg.Pace.First, s.ns.cfg.Pace.Most, s.failures))
}

// learnSettings takes in the service's attributes. Whatever is wrong with
// them, what was understood before stays.
func (s *service) learnSettings(now time.Time, t task) {
	if t.serviceID != s.info.ID {
		s.wantAttrs = true // recreated while the call was under way
		return
	}
	if t.attrsErr != nil {
		if s.attrFailures == 0 {
			s.ns.log.Warn("can't read the settings of a service; what is known stays", "service", s.name.String(), "error", t.attrsErr)
		}
		s.attrsErr = t.attrsErr
		s.attrFailures++
		s.nextSetting = now.Add(pace.Backoff(s.ns.cfg.Pace.First, s.ns.cfg.Pace.Most, s.attrFailures))
		return
	}
	s.attrFailures = 0
	parsed, err := record.ParseService(t.attrs)
	defer func() { s.nextSetting = now.Add(s.settingsPeriod()) }()
	switch {
	case err == nil:
		s.attrs, s.settings, s.broken = t.attrs, &parsed, false
	case s.settings != nil:
		err = errors.Join(errors.New("its settings can no longer be read; the last good ones stay"), err)
	case errors.Is(err, record.ErrNoSettings):
		s.attrs, s.broken, err = t.attrs, false, nil
	default:
		s.attrs, s.broken = t.attrs, true
	}
	if err != nil && (s.attrsErr == nil || s.attrsErr.Error() != err.Error()) {
		s.ns.log.Warn("settings of a service", "service", s.name.String(), "arn", s.info.ARN, "error", err)
	}
	s.attrsErr = err
	for h := range s.unknown {
		if s.hasDocument(h) {
			delete(s.unknown, h)
		}
	}
}

// learnInstances weighs a full answer.
func (s *service) learnInstances(now time.Time, t task) {
	s.recheck = time.Time{}
	next := s.readable(now, t)
	wasHeld := s.belief.Held
	if wait := s.belief.Take(now, t.answer.Revision, next, s.announced); wait > 0 {
		s.recheckBy(now.Add(wait))
	}
	s.known = true
	s.content = t.answer.Mark()
	if s.belief.Lagging() {
		return // an older answer: nothing in it counts
	}
	for id, d := range s.leaving {
		i, there := hold.Find(next, id)
		switch {
		case !there, d.seen && !sameRegistration(i.Instance, d.was), now.Sub(d.at) > leavingAtMost:
			delete(s.leaving, id)
		case !d.seen:
			d.was, d.seen = i.Instance, true
			s.leaving[id] = d
		}
	}
	switch {
	case s.belief.Held > 0 && wasHeld == 0:
		s.ns.cfg.Metrics.RemovalHeld(s.name, s.belief.Held)
		s.ns.log.Warn("many endpoints disappeared at once; they stay until the registry confirms it",
			"service", s.name.String(), "held", s.belief.Held, "left", len(next))
	case s.belief.Held == 0 && wasHeld > 0:
		s.ns.log.Info("endpoints are no longer held", "service", s.name.String(), "left", len(next))
	}
}

// sameRegistration reports whether two readings are of one registration: its
// health may have changed.
func sameRegistration(a, b record.Instance) bool {
	a.Endpoint.Health = b.Endpoint.Health
	return a == b
}

// readable is the answer without what can't be understood: a malformed
// instance, or one whose settings could not be read just now, is as it was
// before, or not there yet.
func (s *service) readable(now time.Time, t task) []cloud.Instance {
	var next []cloud.Instance
	keep := func(id string) {
		if old, ok := hold.Find(s.belief.Good, id); ok {
			next = append(next, old)
		}
	}
	for _, i := range t.answer.Instances {
		h := i.Settings
		if h == "" || s.hasDocument(h) {
			next = append(next, i)
			continue
		}
		if t.attributes && t.attrsErr != nil {
			keep(i.ID())
			s.recheckBy(s.nextSetting)
			continue
		}
		if _, asked := s.unknown[h]; !asked {
			s.unknown[h] = now
		}
		if now.Sub(s.unknown[h]) < unknownHashFor {
			s.recheckBy(now.Add(time.Second))
		}
		next = append(next, i)
	}
	for id, reason := range t.answer.Malformed {
		if s.malformed[id] != reason {
			s.ns.cfg.Metrics.InstanceSkipped(s.name, reason)
			s.ns.log.Warn("a malformed instance is skipped", "service", s.name.String(), "instance", id, "reason", reason)
		}
		keep(id)
	}
	s.malformed = t.answer.Malformed
	return hold.Merge(next, nil)
}

func (s *service) recheckBy(at time.Time) {
	if s.recheck.IsZero() || at.Before(s.recheck) {
		s.recheck = at
	}
}

func (s *service) announced(id string) bool { _, ok := s.leaving[id]; return ok }

func (s *service) leave(now time.Time, id string) {
	was, seen := hold.Find(s.belief.Good, id)
	s.leaving[id] = departure{at: now, was: was.Instance, seen: seen}
	s.wantFull = true
	s.timer.Stir(now)
	s.rebuild(mesh.Detection{At: now, By: "departure"})
}

// notFound counts an answer that the service does not exist, and removes it
// when that is beyond doubt.
func (s *service) notFound(now time.Time) bool {
	if s.missing == 0 {
		s.missingSince = now
	}
	s.missing++
	if s.listed || s.missing < goneAnswers || now.Sub(s.missingSince) < goneAfter {
		return false
	}
	s.ns.remove(s)
	return true
}

// listedAs takes in what a complete listing says.
func (s *service) listedAs(now time.Time, sum cloud.Summary) {
	if s.info.ID != "" && s.info.ID != sum.ID {
		// Another service of the same name: its revisions and settings are
		// its own, its endpoints are weighed against those of the old one.
		s.belief.Forget()
		s.settings, s.attrs, s.broken, s.wantAttrs, s.wantFull = nil, nil, false, true, true
		poke(s.wake)
	}
	if s.info != sum && (s.info.ID != "" || s.ns.synced) {
		s.timer.Stir(now)
	}
	s.info, s.listed = sum, true
}

// resolved reports whether enough is known to say what the service is.
func (s *service) resolved() bool { return s.known && s.attrs != nil }

// shown are the instances that callers may see, in the order of their ids:
// all but those that leave. Where nothing usable is left without them, they
// stay a little: their end is announced as soon as those that replace them are
// registered, which is before the registry has told us so.
func (s *service) shown(now time.Time) []cloud.Instance {
	var all, staying []cloud.Instance
	usable, end := false, time.Time{} // when the first that lingers is out
	for _, i := range s.belief.Good {
		i.Endpoint = s.avoided(i.Endpoint)
		d, leaves := s.leaving[i.ID()]
		until := d.at.Add(lingerAtMost)
		switch {
		case !leaves:
			staying = append(staying, i)
			usable = usable || i.Endpoint.Health != mesh.Unhealthy
		case d.out || !now.Before(until):
			continue
		case end.IsZero() || until.Before(end):
			end = until
		}
		all = append(all, i)
	}
	if !usable && !end.IsZero() {
		s.recheckBy(end)
		return all
	}
	for id, d := range s.leaving {
		d.out = true
		s.leaving[id] = d
	}
	return staying
}

// rebuild makes what is presented anew and reports whether it differs. While
// the settings are not known, what was presented stays. noticed is by what it
// may have changed.
func (s *service) rebuild(noticed mesh.Detection) bool {
	if !s.resolved() {
		return false
	}
	p := assemble.Parts{
		Name: s.name, Info: s.info, Settings: s.settings, Instances: s.shown(time.Now()),
		Override: s.ns.cfg.Overrides[s.name], Before: s.built,
	}
	p.Info.Managed = p.Info.Managed || s.broken
	built, skipped := assemble.Service(p)
	for reason, n := range skipped {
		if n > s.skipped[reason] {
			s.ns.cfg.Metrics.InstanceSkipped(s.name, reason)
		}
	}
	s.skipped = skipped
	if built.Equal(s.built) || built == nil {
		return false // unfinished: what was presented stays
	}
	built.Detected = noticed
	s.built = built
	return true
}
