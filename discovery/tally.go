package discovery

import (
	"sync"
	"time"

	"patchbay/discovery/cloud"
	"patchbay/discovery/cost"
)

// Tally is how the calls of the registry have fared since the start.
type Tally struct {
	Total, Failed, Throttled uint64
	LastThrottled            time.Time
	Dollars                  float64            // by AWS's price list
	Rates                    map[string]float64 // operation → share of its budget that it keeps to
}

// tally counts.
type tally struct {
	mu      sync.Mutex
	all     Tally
	failing time.Time // since when no call was answered; zero: the newest was
}

// unfitAfter is how long the registry must have failed to answer until others had
// better ask in our place.
const unfitAfter = 10 * time.Second

func (t *tally) called(operation, result string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all.Total++
	t.all.Dollars += cost.Of(operation)
	switch {
	case result == cloud.OK:
		t.failing = time.Time{}
	case t.failing.IsZero():
		t.failing = time.Now()
		fallthrough
	default:
		t.all.Failed++
	}
	if cloud.ThrottleCode(result) {
		t.all.Throttled++
		t.all.LastThrottled = time.Now()
	}
}

// Tally is a copy of the present counts.
func (c *CloudMap) Tally() Tally {
	c.tally.mu.Lock()
	all := c.tally.all
	c.tally.mu.Unlock()
	all.Rates = c.reg.Rates()
	return all
}

// Fit reports whether the registry answers: not so if every call of the last ten
// seconds has failed.
func (c *CloudMap) Fit() bool {
	c.tally.mu.Lock()
	defer c.tally.mu.Unlock()
	return c.tally.failing.IsZero() || time.Since(c.tally.failing) < unfitAfter
}
