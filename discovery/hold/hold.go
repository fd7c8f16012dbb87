// Package hold decides what to believe of a registry: an answer that takes many
// endpoints away at once is doubted until it has been confirmed.
//
// It owns the rules of static stability. It is pure: it must not know how
// answers are fetched nor what the time is.
//
// Start reading at [Belief.Take].
package hold

import (
	"slices"
	"strings"
	"time"

	"patchbay/discovery/cloud"
)

// Rules are the limits of static stability: when an answer that takes
// endpoints away is believed.
type Rules struct {
	// HoldEmpty is how long every answer must be empty before a service that
	// had endpoints loses them. Default 30 s.
	HoldEmpty time.Duration
	// HoldDrop is the same for the loss of more than half, and at least three,
	// of them. Default 5 s.
	HoldDrop time.Duration
}

// The moments after the start of a hold at which the registry is asked again:
// close together, so that what comes back for a while is seen.
var rechecks = []time.Duration{
	2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 20 * time.Second, 25 * time.Second, 30 * time.Second,
}

// silence is how long the registry may say nothing while a drop is doubted. After
// a longer one nobody knows what was between the two answers, and the doubt
// begins anew: twice empty, with errors between, is not empty all the time. It is
// the longest pause between rechecks and a call's time.
const silence = 8 * time.Second

// A revision lower than the one known is believed after two more answers, one
// and three seconds later: a lagging replica catches up, a recreated service
// does not.
var regressChecks = []time.Duration{time.Second, 2 * time.Second}

// Belief is what is presented of one service, and what is doubted. The zero
// value with Rules believes the first answer. It is not safe for concurrent use.
type Belief struct {
	Rules    Rules
	Good     []cloud.Instance // presented; sorted by id
	Revision int64            // of the newest believed answer; zero: none yet
	Held     int              // instances in Good that the newest answer did not have

	lower     int       // answers with a lower revision in a row
	lowerDue  time.Time // when the next of them counts
	holdSince time.Time // zero: nothing is held
	doubted   int       // answers that confirm the drop, after the first
	heard     time.Time // the newest of them
}

// Take weighs one answer of the registry, sorted by id. announced tells which
// instances said themselves that they leave. It returns how long to wait
// before asking again; zero means no hurry. Additions and changes are never
// held; a removal is, while it is doubted.
func (s *Belief) Take(now time.Time, revision int64, next []cloud.Instance, announced func(id string) bool) time.Duration {
	if s.doubtsRevision(now, revision) {
		return s.lowerDue.Sub(now)
	}
	s.lower = 0
	s.Revision = revision
	missing := s.missing(next, announced)
	staying := count(s.Good, announced)
	empty := count(next, announced) == 0
	if len(missing) == 0 || !(empty || len(missing) >= 3 && 2*len(missing) > staying) {
		s.settle(next)
		return 0
	}
	if s.holdSince.IsZero() || now.Sub(s.heard) > silence {
		s.holdSince, s.doubted = now, 0
	} else {
		s.doubted++
	}
	s.heard = now
	enough := s.Rules.HoldDrop
	if empty {
		enough = s.Rules.HoldEmpty
	}
	elapsed := now.Sub(s.holdSince)
	if s.doubted >= 2 && elapsed >= enough {
		s.settle(next)
		return 0
	}
	s.Good, s.Held = Merge(next, missing), len(missing)
	for _, at := range rechecks {
		if at > elapsed {
			return at - elapsed
		}
	}
	return rechecks[0]
}

// Lagging reports whether the newest answer was older than one believed before;
// nothing in it counted.
func (s *Belief) Lagging() bool { return s.lower > 0 }

// doubtsRevision reports whether an answer is not to be looked at, since it is
// older than one that has been believed.
func (s *Belief) doubtsRevision(now time.Time, revision int64) bool {
	if revision >= s.Revision {
		return false
	}
	if s.lower > 0 && now.Before(s.lowerDue) {
		return true
	}
	if s.lower == len(regressChecks) {
		return false
	}
	s.lowerDue = now.Add(regressChecks[s.lower])
	s.lower++
	return true
}

// Forget drops what is known of revisions: the service is another one now.
func (s *Belief) Forget() { s.Revision, s.lower = 0, 0 }

func (s *Belief) settle(next []cloud.Instance) {
	s.Good, s.Held, s.doubted, s.holdSince = next, 0, 0, time.Time{}
}

// missing lists the presented instances that next lacks without having said so.
func (s *Belief) missing(next []cloud.Instance, announced func(string) bool) []cloud.Instance {
	var out []cloud.Instance
	for _, g := range s.Good {
		if _, there := Find(next, g.ID()); !there && !announced(g.ID()) {
			out = append(out, g)
		}
	}
	return out
}

func count(list []cloud.Instance, except func(string) bool) int {
	n := 0
	for _, i := range list {
		if !except(i.ID()) {
			n++
		}
	}
	return n
}

// Find looks an instance up by id in a sorted list.
func Find(list []cloud.Instance, id string) (cloud.Instance, bool) {
	i, ok := slices.BinarySearchFunc(list, id, func(i cloud.Instance, id string) int { return strings.Compare(i.ID(), id) })
	if !ok {
		return cloud.Instance{}, false
	}
	return list[i], true
}

// Merge is both lists in one, sorted.
func Merge(a, b []cloud.Instance) []cloud.Instance {
	out := slices.Concat(a, b)
	slices.SortFunc(out, cloud.Instance.Compare)
	return out
}
