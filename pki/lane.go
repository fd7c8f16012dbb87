package pki

import (
	"math"
	"time"
)

// lane is where flights of one kind queue: loads, or the issues of one
// issuer, so that one that is stuck or refuses holds up no other. It is a
// token bucket that takes tokens back, and whose rate adapts.
type lane struct {
	flying   int
	parallel int // at most
	most     float64
	burst    float64
	rate     float64 // flights a second; +Inf: no limit
	tokens   float64
	counted  time.Time // when tokens was right
	slowed   time.Time // when it was slowed last
}

// A throttled lane halves its rate, at most once in slowAgain, and pauses
// for it; each success gives back a part. Replicas that share an issuer's
// quota so come to share it evenly, without a word between them.
const (
	slowest   = 1.0
	slowAgain = time.Second
	giveBack  = 100
)

func newLane(limit float64, parallel int) lane {
	burst := max(1, math.Floor(limit/4))
	return lane{parallel: parallel, most: limit, rate: limit, burst: burst, tokens: burst}
}

func (l *lane) full() bool { return l.flying >= l.parallel }

// delay is how long the next flight must wait.
func (l *lane) delay(now time.Time) time.Duration {
	if math.IsInf(l.rate, 1) {
		return 0
	}
	if d := now.Sub(l.counted); d > 0 {
		l.tokens, l.counted = min(l.burst, l.tokens+l.rate*d.Seconds()), now
	}
	wait := time.Duration(math.Ceil((1 - l.tokens) / l.rate * float64(time.Second)))
	return max(0, wait, l.slowed.Add(slowAgain/2).Sub(now))
}

// start takes a flight off; its delay is over.
func (l *lane) start() { l.flying++; l.tokens-- }

// end lands a flight. One that had no need to ask gives its token back.
func (l *lane) end(asked bool) {
	l.flying--
	if !asked {
		l.tokens++
	}
}

// slow is told that the issuer refused a flight for its rate.
func (l *lane) slow(now time.Time) {
	if now.Sub(l.slowed) >= slowAgain {
		l.slowed, l.rate = now, max(min(slowest, l.most), l.rate/2)
	}
}

// gain is told that a flight succeeded.
func (l *lane) gain() { l.rate = min(l.most, l.rate+l.most/giveBack) }

// lane is that of the flight which s needs next; nil: its issuer is unknown.
func (r *Rotator) lane(s *service, now time.Time) *lane {
	if s.looking(now) {
		return &r.loads
	}
	if t := r.trusts[s.want.issuer]; t != nil {
		return &t.issues
	}
	return nil
}
