package pki

import (
	"time"

	"golang.org/x/time/rate"
)

// lane is where flights of one kind queue: loads, or the issues of one
// issuer, so that one that is stuck or refuses holds up no other.
type lane struct {
	flying   int
	parallel int // at most
	limiter  *rate.Limiter
	most     rate.Limit
	slowed   time.Time // when it was slowed last
}

// A throttled lane halves its rate, at most once in slowAgain, and pauses
// for it; each success gives back a part. Replicas that share an issuer's
// quota so come to share it evenly, without a word between them.
const (
	slowest   = rate.Limit(1)
	slowAgain = time.Second
	giveBack  = 100
)

func newLane(limit rate.Limit, burst, parallel int) lane {
	return lane{parallel: parallel, limiter: rate.NewLimiter(limit, burst), most: limit}
}

func (l *lane) full() bool { return l.flying >= l.parallel }

// delay is how long the rate limit makes the next flight wait.
func (l *lane) delay(now time.Time) time.Duration {
	pause := l.slowed.Add(slowAgain / 2).Sub(now)
	res := l.limiter.ReserveN(now, 1)
	defer res.CancelAt(now)
	return max(pause, res.DelayFrom(now))
}

// slow is told that the issuer refused a flight for its rate.
func (l *lane) slow(now time.Time) {
	if now.Sub(l.slowed) >= slowAgain {
		l.slowed = now
		l.limiter.SetLimitAt(now, max(min(slowest, l.most), l.limiter.Limit()/2))
	}
}

// gain is told that a flight succeeded.
func (l *lane) gain(now time.Time) {
	if limit := l.limiter.Limit(); limit < l.most {
		l.limiter.SetLimitAt(now, min(l.most, limit+l.most/giveBack))
	}
}

// lane is that of the flight which s needs next; nil: its issuer is unknown.
func (r *Rotator) lane(s *service) *lane {
	if !s.loaded {
		return &r.loads
	}
	if t := r.trusts[s.want.issuer]; t != nil {
		return &t.issues
	}
	return nil
}
