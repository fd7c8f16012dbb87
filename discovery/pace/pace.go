// Package pace decides when a service of the registry is asked about next:
// often for a few seconds after something has stirred, seldom otherwise, and
// never all services at the same moment.
//
// It owns the moments. It is pure but for its dice: it must not know how a
// question is put, nor what the answer means.
//
// Start reading at [Timer.Next].
package pace

import (
	"math/rand/v2"
	"time"
)

// Rules are the periods of one registry. Every period is a bound: what is drawn
// from it lies between four fifths of it and the whole.
type Rules struct {
	// Hot are the moments after a hint or a change at which the registry is asked
	// again: what has been written may not be readable at once.
	Hot []time.Duration
	// Hinted is the period where somebody tells of changes, and polling only
	// finds what they missed; Unhinted where nobody does.
	Hinted, Unhinted time.Duration
	// Health is the period of full fetches where a service has a health check:
	// health does not change the revision. Sweep is the same elsewhere.
	Health, Sweep time.Duration
	// Relied is the period where another replica asks and tells.
	Relied time.Duration
	// First and Most bound the pause after an error, which doubles.
	First, Most time.Duration
}

// Default are the rules for AWS.
var Default = Rules{
	Hot:    []time.Duration{time.Second, 4 * time.Second, 9 * time.Second},
	Hinted: 30 * time.Second, Unhinted: 15 * time.Second,
	Health: 30 * time.Second, Sweep: 5 * time.Minute, Relied: 5 * time.Minute,
	First: time.Second, Most: 10 * time.Second,
}

// WithDefaults fills what is zero from [Default].
func (r Rules) WithDefaults() Rules {
	if r.Hot == nil {
		r.Hot = Default.Hot
	}
	for _, f := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&r.Hinted, Default.Hinted}, {&r.Unhinted, Default.Unhinted}, {&r.Health, Default.Health}, {&r.Sweep, Default.Sweep},
		{&r.Relied, Default.Relied}, {&r.First, Default.First}, {&r.Most, Default.Most},
	} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	return r
}

// Timer is the schedule of one service. It is not safe for concurrent use. The
// zero value is due at once.
type Timer struct {
	asked   time.Time // newest question of any kind
	fetched time.Time // newest full fetch
	stirred time.Time // newest hint or change; zero: never
	notYet  time.Time // where a service is taken over: not before
	share   float64   // of the period until the next question
	full    float64   // the same of full fetches
}

// Stir says that something has changed, or probably has.
func (t *Timer) Stir(now time.Time) { t.stirred = now }

// Asked says that the registry has been asked; full if for all instances. The
// first question draws its successor from the whole period, so that services
// that were found together part.
func (t *Timer) Asked(now time.Time, full bool) {
	if t.share = draw(); t.asked.IsZero() {
		t.share = rand.Float64() //nolint:gosec // not a secret
	}
	if t.asked = now; full {
		t.full = draw()
		if t.fetched.IsZero() {
			t.full = rand.Float64() //nolint:gosec // not a secret
		}
		t.fetched = now
	}
}

// Adopt says that the service is now asked for from here: what is overdue is
// spread over a sixth of the period.
func (t *Timer) Adopt(now time.Time, period time.Duration) {
	t.notYet = now.Add(time.Duration(rand.Float64() * float64(period) / 6)) //nolint:gosec // not a secret
}

// Next is the moment of the next question.
func (t *Timer) Next(r Rules, period, full time.Duration) time.Time {
	if t.asked.IsZero() {
		return time.Time{}
	}
	cold := t.asked.Add(scale(period, t.share))
	if at := t.fetched.Add(scale(full, t.full)); at.Before(cold) {
		cold = at
	}
	if cold.Before(t.notYet) {
		cold = t.notYet
	}
	for _, after := range r.Hot {
		if at := t.stirred.Add(after); !t.stirred.IsZero() && at.After(t.asked) {
			if at.Before(cold) {
				return at
			}
			break
		}
	}
	return cold
}

// Full reports whether a question that is put now should be for all instances:
// they are due, or nearly, and to ask twice would cost twice.
func (t *Timer) Full(now time.Time, full time.Duration) bool {
	return t.fetched.IsZero() || !now.Before(t.fetched.Add(scale(full, min(t.full, 0.75))))
}

func draw() float64 { return 0.8 + 0.2*rand.Float64() } //nolint:gosec // not a secret

func scale(d time.Duration, share float64) time.Duration { return time.Duration(share * float64(d)) }

// Jitter shortens a period by up to a fifth.
func Jitter(period time.Duration) time.Duration { return scale(period, draw()) }

// Backoff is the pause after so many errors in a row: it doubles from first to
// most, and the upper half of it is random.
func Backoff(first, most time.Duration, failures int) time.Duration {
	d := most
	if failures < 16 {
		d = min(most, first<<(failures-1))
	}
	return d/2 + rand.N(d/2+1) //nolint:gosec // not a secret
}
