package pki

import (
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"patchbay/mesh"
)

// service is what the rotator knows of one service with TLS.
type service struct {
	name mesh.ServiceName
	want want
	gone bool // not in the snapshot, or without TLS; waits for its flight to land

	loaded     bool // the secret store has been asked
	leaf       *mesh.Leaf
	covers     want   // what leaf was made for
	generation uint64 // of the stored secret

	flying  *lane // nil: on the ground
	forced  bool
	due     time.Time // when to try next; zero: now
	retry   interface{ NextBackOff() time.Duration }
	alarmed bool
	waiters []chan<- rotateReply

	tries   int // failures in a row
	err     error
	errAt   time.Time
	unsaved error // the leaf is not in the secret store, and why
}

// want is what a leaf must be made for.
type want struct {
	issuer string
	names  []string // DNS names, sorted
	uri    string
}

func (w want) equal(o want) bool {
	return w.issuer == o.issuer && w.uri == o.uri && slices.Equal(w.names, o.names)
}

func (s *service) notAfter() time.Time {
	if s.leaf == nil {
		return time.Time{}
	}
	return s.leaf.NotAfter
}

// wake is when s needs a flight.
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
	s.due = time.Time{}
	t := r.trusts[s.want.issuer]
	if t != nil && s.leaf != nil && s.covers.equal(s.want) {
		s.due = partOfLife(s.leaf, t.renew[0]+rand.Float64()*(t.renew[1]-t.renew[0]))
	}
}

// reconcile makes r.services those of all that have TLS. r.mu is held.
func (r *Rotator) reconcile(all []*mesh.Service) {
	seen := map[mesh.ServiceName]bool{}
	for _, v := range all {
		if v.TLS == nil {
			continue
		}
		seen[v.Name] = true
		req := NewRequest(r.o.TrustDomain, v)
		w := want{v.TLS.Issuer, req.Names, req.URI}
		s := r.services[v.Name]
		switch {
		case s == nil:
			s = &service{name: v.Name, want: w}
			r.services[v.Name] = s
		case s.want.equal(w):
			s.gone = false
			continue
		default:
			s.gone, s.want = false, w
			if s.loaded && s.flying == nil {
				r.settle(s)
			}
		}
		if r.trusts[w.issuer] == nil {
			s.err, s.errAt = r.unknownIssuer(w.issuer), time.Now()
			r.log.Warn("certificate can't be issued", "service", v.Name.String(), "error", s.err)
		}
	}
	for name, s := range r.services {
		if seen[name] {
			continue
		}
		s.gone = true
		if s.flying == nil {
			r.remove(s)
		}
	}
}

// remove forgets a service that is gone. Its leaf stays where it is. r.mu is
// held.
func (r *Rotator) remove(s *service) {
	s.answer(rotateReply{err: errNotInMesh})
	delete(r.services, s.name)
}

var errNotInMesh = errors.New("there is no such service with TLS in the mesh")

// watchFloor raises the alarm, once for a leaf, when too little of its life
// is left, and then wants it renewed at once. r.mu is held.
func (r *Rotator) watchFloor(s *service, now time.Time) {
	if s.leaf == nil || s.gone || s.alarmed || now.Before(partOfLife(s.leaf, alarmAbove)) {
		return
	}
	s.alarmed, s.due = true, time.Time{}
	r.log.Error("certificate is about to expire", "service", s.name.String(), "serial", s.leaf.Serial,
		"not_after", s.leaf.NotAfter, "left", s.leaf.NotAfter.Sub(now), "error", s.err)
}

// land takes in, and publishes, what a flight brought. A Rotate that comes
// before gets it, one that comes after gets another.
func (r *Rotator) land(l landing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.services[l.name]
	first, flown := !s.loaded, s.flying
	flown.flying--
	s.flying, s.loaded = nil, l.loaded
	if l.leaf != nil {
		r.store.SetLeaf(l.leaf)
		s.leaf, s.covers, s.generation, s.unsaved = l.leaf, l.covers, l.generation, l.unsaved
	}
	if s.gone {
		r.remove(s)
		return
	}
	switch {
	case errors.Is(l.err, ErrThrottled):
		r.throttled(s, flown, l.err)
		return
	case l.err != nil:
		r.failed(s, l.err)
		return
	case !first:
		flown.gain(time.Now())
	}
	r.settle(s)
	if r.trusts[s.want.issuer] == nil {
		s.err, s.errAt = r.unknownIssuer(s.want.issuer), time.Now()
	}
	if first {
		if s.forced {
			s.due = time.Time{}
		}
		return
	}
	s.forced = false
	s.answer(rotateReply{leaf: s.leaf})
}

// throttled slows the lane down; s keeps its place in it. r.mu is held.
func (r *Rotator) throttled(s *service, l *lane, err error) {
	now := time.Now()
	quiet := now.Sub(l.slowed) > time.Minute
	if l.slow(now); quiet {
		r.log.Info("issuer throttles; asking less", "issuer", s.want.issuer, "rate", float64(l.limiter.Limit()), "error", err)
	}
	s.due = time.Time{}
}

// failed plans the next attempt. r.mu is held.
func (r *Rotator) failed(s *service, err error) {
	now := time.Now()
	if s.tries++; s.tries == 1 {
		r.log.Warn("certificate not renewed", "service", s.name.String(), "issuer", s.want.issuer, "kept_until", s.notAfter(), "error", err)
	}
	s.err, s.errAt = err, now
	if s.loaded {
		s.answer(rotateReply{err: err})
		if s.forced && s.leaf != nil && s.covers.equal(s.want) && now.Before(partOfLife(s.leaf, r.trusts[s.want.issuer].renew[0])) {
			r.settle(s) // it had time, and has
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
