package pki

import (
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"time"

	"patchbay/audit"
	"patchbay/mesh"
	"patchbay/pki/issue"
	"patchbay/pki/lane"
)

// service is what the rotator knows of one service with TLS, or of a workload
// that needs a certificate to call with.
type service struct {
	name mesh.ServiceName
	want want
	gone bool // not in the snapshot, or without TLS; waits for its flight to land

	loaded     bool // the secret store has been asked
	leaf       *mesh.Leaf
	covers     want   // what leaf was made for
	generation uint64 // of the stored secret

	flying  *lane.Lane // nil: on the ground
	forced  bool
	due     time.Time // when to try next; zero: now
	retry   interface{ NextBackOff() time.Duration }
	alarmed bool
	look    time.Time // when to see whether another replica has stored a newer leaf
	told    uint64    // the generation that another replica says it has stored
	toldAt  time.Time
	order   uint64 // among equals; each replica has another
	waiters []chan<- rotateReply

	anchor   *x509.Certificate // of leaf; nil: not known
	prepared *issue.Prepared   // made by this replica for the next generation
	issued   *mesh.Leaf        // made of prepared, and not trusted everywhere yet
	awaited  uint64            // the generation that another replica is making; 0: none
	awaits   time.Time         // since when
	// awaitedBy is the replica that makes it; empty: not known.
	awaitedBy string

	tries   int // failures in a row
	err     error
	errAt   time.Time
	unsaved error // the leaf is not in the secret store, and why
}

func (s *service) notAfter() time.Time {
	if s.leaf == nil {
		return time.Time{}
	}
	return s.leaf.NotAfter
}

// When another replica is making the generation that is needed, it is looked
// for each second or two; after patience this replica finishes the work.
const (
	awaitEvery = time.Second
	patience   = 15 * time.Second
)

func (s *service) impatient(now time.Time) bool {
	return s.awaited > 0 && now.Sub(s.awaits) >= patience
}

// looking reports whether the next flight of s only asks the secret store.
func (s *service) looking(now time.Time) bool {
	return !s.loaded || now.Before(s.wake()) || s.awaited > 0 && !s.impatient(now)
}

// next is when s needs a flight: to renew, or to look.
func (s *service) next() time.Time {
	if w := s.wake(); s.look.IsZero() || w.Before(s.look) {
		return w
	}
	return s.look
}

// wake is when s needs another leaf.
func (s *service) wake() time.Time {
	if s.leaf == nil || s.alarmed {
		return s.due
	}
	if floor := partOfLife(s.leaf, alarmAbove); floor.Before(s.due) {
		return floor
	}
	return s.due
}

func partOfLife(l *mesh.Leaf, part float64) time.Time {
	return l.IssuedAt.Add(time.Duration(part * float64(l.NotAfter.Sub(l.IssuedAt))))
}

// settle plans the renewal of the leaf that s has, and forgets failures. r.mu
// is held.
func (r *Rotator) settle(s *service) {
	s.err, s.tries, s.retry, s.alarmed = nil, 0, nil, false
	s.prepared, s.issued, s.awaited, s.awaits = nil, nil, 0, time.Time{}
	s.due, s.look = time.Time{}, time.Time{}
	t := r.trusts[s.want.issuer]
	if t != nil && s.leaf != nil && s.covers.equal(s.want) {
		s.due = partOfLife(s.leaf, t.renew[0]+rand.Float64()*(t.renew[1]-t.renew[0])) //nolint:gosec // not a secret
		s.lookLater(t)
	}
}

// heed plans a look for what other replicas say they have stored. One that is
// in flight is looked for when it has landed. r.mu is held.
func (r *Rotator) heed(now time.Time) {
	for name, generation := range r.told {
		s := r.services[name]
		if s != nil && s.flying != nil {
			continue
		}
		if delete(r.told, name); s == nil || !s.loaded || generation <= s.generation {
			continue
		}
		s.told, s.toldAt, s.look = generation, now, now
		if s.awaited > 0 {
			s.due = now // this is looking
		}
	}
}

// lookLater plans the next look at the secret store: five in the time that a
// leaf has left when it should have been renewed, not at the same time as
// other replicas. What another replica says is there is looked for each second:
// the store's reads lag behind its writes, and a new root must be trusted first.
func (s *service) lookLater(t *trust) {
	if now := time.Now(); s.told > s.generation && now.Sub(s.toldAt) < patience {
		s.look = now.Add(awaitEvery)
		return
	}
	if s.leaf == nil {
		s.look = time.Time{}
		return
	}
	margin := (1 - t.renew[1]) * float64(s.leaf.NotAfter.Sub(s.leaf.IssuedAt))
	s.look = time.Now().Add(max(10*time.Second, time.Duration(margin/5*(0.5+rand.Float64()/2)))) //nolint:gosec // not a secret
}

// watchFloor raises the alarm, once for a leaf, when too little of its life
// is left, and then wants it renewed at once. r.mu is held.
func (r *Rotator) watchFloor(s *service, now time.Time) {
	if s.leaf == nil || s.gone || s.alarmed || now.Before(partOfLife(s.leaf, alarmAbove)) {
		return
	}
	s.alarmed, s.due = true, time.Time{}
	r.log.Error("certificate is about to expire", "service", s.name.String(), "serial", s.leaf.Serial,
		"not_after", s.leaf.NotAfter, "certificate_left", s.leaf.NotAfter.Sub(now).String(), "error", s.err)
}

// land takes in, and publishes, what a flight brought. A Rotate that comes
// before gets it, one that comes after gets another.
func (r *Rotator) land(l landing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.services[l.name]
	flown := s.flying
	flown.End(l.asked)
	s.flying, s.loaded = nil, l.loaded
	if !l.load {
		s.prepared, s.issued = l.prepared, l.issued
	}
	if l.leaf != nil {
		r.store.SetLeaf(l.leaf)
		s.leaf, s.covers, s.generation, s.unsaved, s.anchor = l.leaf, l.covers, l.generation, l.unsaved, l.anchor
		if l.unsaved == nil {
			r.o.Stored(s.name, s.generation)
		}
	}
	switch {
	case s.gone:
		r.remove(s)
	case errors.Is(l.err, issue.ErrThrottled):
		r.throttled(s, flown, l.err)
	case l.err != nil:
		r.failed(s, l.err)
	case l.await > 0:
		s.await(l.await, l.awaitBy)
	case l.load:
		r.looked(s, l)
	default:
		flown.Gain()
		r.settle(s)
		r.follow(s)
		s.forced = false
		s.answer(rotateReply{leaf: s.leaf})
	}
}

// looked takes note of a look at the secret store. r.mu is held.
func (r *Rotator) looked(s *service, l landing) {
	t := r.trusts[s.want.issuer]
	switch {
	case l.leaf == nil && s.awaited > 0: // what came is for other names
		s.awaited, s.awaits, s.due = 0, time.Time{}, time.Time{}
	case l.leaf != nil && s.awaited > 0:
		r.settle(s)
		s.forced = false
		s.answer(rotateReply{leaf: s.leaf})
	case l.leaf != nil || s.look.IsZero():
		if r.settle(s); t == nil {
			s.err, s.errAt = r.unknownIssuer(s.want.issuer), time.Now()
		}
	case t != nil:
		s.lookLater(t)
	}
	if s.forced {
		s.due = time.Time{}
	}
}

// await lets another replica make a generation.
func (s *service) await(generation uint64, by string) {
	now := time.Now()
	if s.awaits.IsZero() {
		s.awaits = now
	}
	if by != "" || generation != s.awaited {
		s.awaitedBy = by
	}
	s.awaited, s.look = generation, time.Time{}                                 // this is looking
	s.due = now.Add(awaitEvery + time.Duration(rand.Int64N(int64(awaitEvery)))) //nolint:gosec // not a secret
}

// throttled slows the lane down; s keeps its place in it. r.mu is held.
func (r *Rotator) throttled(s *service, l *lane.Lane, err error) {
	now := time.Now()
	quiet := now.Sub(l.Slowed()) > time.Minute
	if l.Slow(now); quiet {
		r.log.Info("issuer throttles; asking less", "issuer", s.want.issuer, "rate", l.Rate(), "error", err)
	}
	s.due = time.Time{}
}

// failed plans the next attempt. r.mu is held.
func (r *Rotator) failed(s *service, err error) {
	now := time.Now()
	if s.tries++; s.tries == 1 {
		r.o.Audit(audit.Event{Kind: audit.CertificateRefused, Actor: "control plane", Subject: s.name.String(), Issuer: s.want.issuer, SANs: s.want.names, Decision: audit.Denied, Reason: err.Error()})
		r.log.Warn("certificate not renewed", "service", s.name.String(), "issuer", s.want.issuer, "kept_until", s.notAfter(), "error", err)
	}
	s.err, s.errAt = err, now
	if s.loaded {
		s.answer(rotateReply{err: err})
		if s.forced && s.leaf != nil && s.covers.equal(s.want) && now.Before(partOfLife(s.leaf, r.trusts[s.want.issuer].renew[0])) {
			prepared, issued := s.prepared, s.issued
			r.settle(s) // it had time, and has
			s.prepared, s.issued = prepared, issued
			s.err, s.errAt = err, now
		}
		s.forced = false
	}
	if now.Before(s.due) {
		return
	}
	if s.retry == nil {
		longest := 10 * time.Second // nothing to live on
		if s.leaf != nil {
			longest = min(30*time.Second, max(time.Second, s.leaf.NotAfter.Sub(s.leaf.IssuedAt)/20))
		}
		s.retry = newBackoff(longest)
	}
	s.due = now.Add(s.retry.NextBackOff())
}

// force takes up a Rotate.
func (r *Rotator) force(q rotateRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.services[q.name]
	switch {
	case s == nil || s.gone:
		q.reply <- rotateReply{err: errNotInMesh}
	case r.trusts[s.want.issuer] == nil:
		q.reply <- rotateReply{err: r.unknownIssuer(s.want.issuer)}
	default:
		s.waiters = append(s.waiters, q.reply)
		s.forced, s.due = true, time.Time{}
	}
}

func (s *service) answer(a rotateReply) {
	for _, w := range s.waiters {
		w <- a
	}
	s.waiters = nil
}

// lane is that of the flight which s needs next; nil: its issuer is unknown.
func (r *Rotator) lane(s *service, now time.Time) *lane.Lane {
	if s.looking(now) {
		return &r.loads
	}
	if t := r.trusts[s.want.issuer]; t != nil {
		return &t.issues
	}
	return nil
}
