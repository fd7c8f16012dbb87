package pace

import (
	"testing"
	"time"
)

var t0 = time.Unix(1_700_000_000, 0)

// A hundred services that are found at the same moment are asked for at
// different ones, and no period is ever longer than its bound.
func TestServicesPart(t *testing.T) {
	r := Default
	seconds := map[int64]int{}
	for range 100 {
		var tm Timer
		if !tm.Next(r, r.Hinted, r.Sweep).IsZero() {
			t.Fatal("a new service is not due at once")
		}
		now := t0
		tm.Asked(now, true)
		for range 20 {
			next := tm.Next(r, r.Hinted, r.Sweep)
			if d := next.Sub(now); d > r.Hinted || d < 0 {
				t.Fatalf("the next question is %s later", d)
			}
			now = next
			seconds[now.Unix()]++
			tm.Asked(now, tm.Full(now, r.Sweep))
		}
	}
	for s, n := range seconds {
		if n > 20 { // 3.7 on average
			t.Errorf("%d of 100 services in second %d", n, s-t0.Unix())
		}
	}
}

func TestHotThenCold(t *testing.T) {
	r := Default
	var tm Timer
	tm.Asked(t0.Add(-time.Minute), true)
	tm.Asked(t0, true)
	tm.Stir(t0)
	now := t0
	for _, want := range []time.Duration{time.Second, 4 * time.Second, 9 * time.Second} {
		now = tm.Next(r, r.Hinted, r.Sweep)
		if now.Sub(t0) != want {
			t.Errorf("a hot question after %s, not %s", now.Sub(t0), want)
		}
		tm.Asked(now, false)
	}
	if d := tm.Next(r, r.Hinted, r.Sweep).Sub(now); d < 24*time.Second || d > 30*time.Second {
		t.Errorf("cold after %s", d)
	}
}

// Where there is a health check, the poll is the full fetch: it costs no more.
func TestOneQuestionWhereTwoAreDue(t *testing.T) {
	r := Default
	var tm Timer
	tm.Asked(t0, true)
	full, all := 0, 0
	for now := t0; now.Sub(t0) < time.Hour; all++ {
		now = tm.Next(r, r.Hinted, r.Health)
		f := tm.Full(now, r.Health)
		tm.Asked(now, f)
		if f {
			full++
		}
	}
	if all > 155 || full < all-2 { // 3600 s of 24 to 30 s each
		t.Errorf("%d questions, %d of them full", all, full)
	}
}

func TestTakenOverOneByOne(t *testing.T) {
	r := Default
	distinct := map[time.Time]bool{}
	for range 50 {
		var tm Timer
		tm.Asked(t0.Add(-4*time.Minute), true)
		tm.Adopt(t0, r.Hinted)
		at := tm.Next(r, r.Hinted, r.Sweep)
		if at.Before(t0) || at.Sub(t0) > 5*time.Second {
			t.Fatalf("taken over %s later", at.Sub(t0))
		}
		distinct[at] = true
	}
	if len(distinct) < 40 {
		t.Errorf("50 services at %d moments", len(distinct))
	}
}

func TestBackoff(t *testing.T) {
	for failures := 1; failures < 100; failures++ {
		if d := Backoff(time.Second, 10*time.Second, failures); d < 500*time.Millisecond || d > 10*time.Second {
			t.Fatalf("after %d errors %s", failures, d)
		}
	}
	if d := Jitter(time.Minute); d < 48*time.Second || d > time.Minute {
		t.Errorf("%s", d)
	}
}
