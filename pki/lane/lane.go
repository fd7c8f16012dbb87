// Package lane is where the flights of one kind queue: it holds back what an
// issuer's rate does not allow, and slows down when the issuer says so.
//
// It owns the rate and its adaptation. It must not know what flies. Start
// reading at [Lane].
package lane

import (
	"math"
	"time"
)

// Lane is a token bucket that takes tokens back, and whose rate adapts. It is
// not safe for concurrent use.
type Lane struct {
	Parallel int     // flights at once, at most
	Most     float64 // flights a second, at most; +Inf: no limit
	flying   int
	burst    float64
	rate     float64
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

// New is a lane of so many flights a second (+Inf: no limit), and so many at
// once.
func New(limit float64, parallel int) Lane {
	burst := max(1, math.Floor(limit/4))
	return Lane{Parallel: parallel, Most: limit, rate: limit, burst: burst, tokens: burst}
}

// Rate is how many flights a second are let off now.
func (l *Lane) Rate() float64 { return l.rate }

// Slowed is when the lane was slowed last; zero: never.
func (l *Lane) Slowed() time.Time { return l.slowed }

// Full reports whether as many flights are under way as may be.
func (l *Lane) Full() bool { return l.flying >= l.Parallel }

// Delay is how long the next flight must wait.
func (l *Lane) Delay(now time.Time) time.Duration {
	if math.IsInf(l.rate, 1) {
		return 0
	}
	if d := now.Sub(l.counted); d > 0 {
		l.tokens, l.counted = min(l.burst, l.tokens+l.rate*d.Seconds()), now
	}
	wait := time.Duration(math.Ceil((1 - l.tokens) / l.rate * float64(time.Second)))
	return max(0, wait, l.slowed.Add(slowAgain/2).Sub(now))
}

// Start takes a flight off; its delay is over.
func (l *Lane) Start() { l.flying++; l.tokens-- }

// End lands a flight. One that had no need to ask gives its token back.
func (l *Lane) End(asked bool) {
	l.flying--
	if !asked {
		l.tokens++
	}
}

// Slow is told that the issuer refused a flight for its rate.
func (l *Lane) Slow(now time.Time) {
	if now.Sub(l.slowed) >= slowAgain {
		l.slowed, l.rate = now, max(min(slowest, l.Most), l.rate/2)
	}
}

// Gain is told that a flight succeeded.
func (l *Lane) Gain() { l.rate = min(l.Most, l.rate+l.Most/giveBack) }
