package lease

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

const period = 10 * time.Second

// clock is a book and a time that the test moves.
type clock struct {
	*Book
	t   *testing.T
	now time.Time
}

func newClock(t *testing.T) *clock {
	return &clock{NewBook(), t, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
}

func (c *clock) grant(keys ...string) {
	for _, k := range keys {
		g, _, _ := strings.Cut(k, "/")
		c.Grant(k, g, period, false, c.now)
	}
}

func (c *clock) renew(keys ...string) {
	for _, k := range keys {
		if found, _ := c.Renew(k, c.now); !found {
			c.t.Errorf("%s is not there to be renewed", k)
		}
	}
}

// after moves the clock and carries out what is due. It returns what happened,
// such as "silent a/1", "gone a/1", "held a 4/5".
func (c *clock) after(d time.Duration) string {
	c.now = c.now.Add(d)
	due, held := c.Due(c.now)
	var out []string
	for _, d := range due {
		if !c.Valid(d) {
			c.t.Errorf("%+v is not valid", d)
		}
		out = append(out, map[Step]string{Silent: "silent ", Gone: "gone "}[d.Step]+d.Key)
		if d.Step == Gone {
			c.Drop(d.Key)
		}
	}
	for _, h := range held {
		out = append(out, fmt.Sprintf("held %s %d/%d", h.Group, h.Count, h.Of))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func (c *clock) expect(d time.Duration, want string) {
	c.t.Helper()
	if got := c.after(d); got != want {
		c.t.Fatalf("after %s: %q, want %q", d, got, want)
	}
}

// names are g/0 to g/n-1.
func names(g string, n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("%s/%d", g, i))
	}
	return out
}

func TestTwoSteps(t *testing.T) {
	c := newClock(t)
	c.grant("a/1", "b/1")
	c.expect(period-1, "")
	c.renew("b/1")
	c.expect(1, "silent a/1")
	c.renew("b/1")
	c.expect(period-1, "")
	c.renew("b/1")
	c.expect(1, "gone a/1")
	if all, silent := c.Len(); all != 1 || silent != 0 {
		t.Errorf("%d leases, %d silent", all, silent)
	}
	if found, _ := c.Renew("a/1", c.now); found {
		t.Error("what is gone was renewed")
	}
}

func TestARenewalInBetween(t *testing.T) {
	c := newClock(t)
	c.grant("a/1", "b/1")
	c.expect(period/2, "")
	c.renew("b/1")
	c.expect(period/2, "silent a/1")
	if found, silent := c.Renew("a/1", c.now); !found || !silent {
		t.Errorf("renewed: found %t, silent %t", found, silent)
	}
	c.renew("b/1")
	c.expect(period-1, "")
	if found, silent := c.Renew("a/1", c.now); !found || silent {
		t.Errorf("renewed: found %t, silent %t", found, silent)
	}
}

// A single lease is no crowd: it ends.
func TestTheOnlyLease(t *testing.T) {
	c := newClock(t)
	c.grant("a/1")
	c.expect(period, "silent a/1")
	c.expect(period, "gone a/1")
}

// The second step comes a whole period after the first, even if that was late.
func TestALateStep(t *testing.T) {
	c := newClock(t)
	c.grant("a/1")
	c.expect(5*period, "silent a/1")
	c.expect(period-1, "")
	c.expect(1, "gone a/1")
}

func TestNobodyRenews(t *testing.T) {
	c := newClock(t)
	c.grant("a/1", "b/1", "c/1")
	c.expect(period, "silent a/1, silent b/1, silent c/1")
	c.expect(period, "held  3/3")
	c.expect(period, "") // it lasts, and is not said again
	c.expect(period/2, "")
	c.renew("a/1")
	c.expect(period-1, "")
	c.renew("a/1")
	c.expect(1, "gone b/1, gone c/1") // a full period after the first renewal that came back
}

// More than three and over half of a service.
func TestOverHalfOfAService(t *testing.T) {
	for _, v := range []struct {
		of, silent int
		held       bool
	}{{4, 3, false}, {5, 4, true}, {4, 4, true}, {8, 4, false}, {7, 4, true}, {3, 3, false}, {100, 51, true}, {100, 50, false}} {
		c := newClock(t)
		all := names("a", v.of)
		c.grant(all...)
		c.grant("b/1")
		alive := append(all[v.silent:], "b/1")
		c.after(period / 2)
		c.renew(alive...)
		c.after(period / 2)
		c.renew(alive...)
		c.after(period / 2)
		c.renew(alive...)
		got := c.after(period / 2)
		if held := strings.HasPrefix(got, "held a"); held != v.held || !held && strings.Count(got, "gone") != v.silent {
			t.Errorf("%d silent of %d: %q", v.silent, v.of, got)
		}
	}
}

func TestAHeldServiceComesBack(t *testing.T) {
	c := newClock(t)
	all := names("a", 5)
	c.grant(all...)
	c.grant("b/1")
	pass := func(want string, alive ...string) { // one period in which these renew
		t.Helper()
		c.expect(period/2, "")
		c.renew(alive...)
		c.expect(period/2, want)
		c.renew(alive...)
	}
	pass("silent a/0, silent a/1, silent a/2, silent a/3", "a/4", "b/1")
	pass("held a 4/5", "a/4", "b/1")
	pass("", "a/4", "b/1")
	c.expect(period/4, "")
	c.renew("a/0", "a/4", "b/1")
	c.expect(period-1, "")
	c.renew("a/0", "a/4", "b/1")
	c.expect(1, "gone a/1, gone a/2, gone a/3")
}

// New tasks in place of lost ones end the hold too.
func TestReplacementsEndAHold(t *testing.T) {
	c := newClock(t)
	c.grant(names("a", 4)...)
	c.expect(period/2, "")
	c.grant("b/1")
	c.expect(period/2, "silent a/0, silent a/1, silent a/2, silent a/3")
	c.renew("b/1")
	c.expect(period-1, "")
	c.renew("b/1")
	c.expect(1, "held a 4/4")
	fresh := []string{"a/x0", "a/x1", "a/x2", "a/x3", "b/1"}
	c.grant(fresh...)
	c.expect(period-1, "")
	c.renew(fresh...)
	c.expect(1, "gone a/0, gone a/1, gone a/2, gone a/3")
}

func TestWhatIsRenewedIsNotRemoved(t *testing.T) {
	c := newClock(t)
	c.grant("a/1")
	c.expect(period, "silent a/1")
	c.now = c.now.Add(period)
	due, _ := c.Due(c.now)
	if len(due) != 1 || due[0].Step != Gone {
		t.Fatalf("due: %+v", due)
	}
	if found, _ := c.Renew("a/1", c.now); found {
		t.Error("renewed while it is being removed")
	}
	if !c.Valid(due[0]) {
		t.Error("the removal was taken back")
	}
	c.Touch("a/1", c.now) // it registers anew meanwhile
	if c.Valid(due[0]) {
		t.Error("the removal of what has registered anew is valid")
	}
	if found, silent := c.Renew("a/1", c.now); !found || silent {
		t.Errorf("found %t, silent %t", found, silent)
	}
}

func TestUndoneStepsComeAgain(t *testing.T) {
	c := newClock(t)
	c.grant("a/1")
	for _, step := range []Step{Silent, Gone} {
		c.now = c.now.Add(period)
		due, _ := c.Due(c.now)
		if len(due) != 1 || due[0].Step != step {
			t.Fatalf("due: %+v", due)
		}
		c.Undo(due[0], c.now, time.Second)
		if c.Valid(due[0]) || !c.Next().Equal(c.now.Add(time.Second)) {
			t.Errorf("next is %s, valid %t", c.Next(), c.Valid(due[0]))
		}
		c.expect(time.Second, map[Step]string{Silent: "silent a/1", Gone: "gone a/1"}[step])
	}
	if !c.Next().IsZero() {
		t.Errorf("next is %s", c.Next())
	}
}

// After a restart what was silent stays so, for a whole period.
func TestAfterARestart(t *testing.T) {
	c := newClock(t)
	c.Grant("a/1", "a", period, true, c.now)
	c.Grant("a/2", "a", period, false, c.now)
	c.expect(period-1, "")
	c.renew("a/2")
	c.expect(1, "gone a/1")
	c.Grant("a/1", "a", period, true, c.now)
	c.expect(period, "held  2/2, silent a/2")
}
