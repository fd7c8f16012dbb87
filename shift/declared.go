package shift

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math"
	"time"

	"patchbay/mesh"
	"patchbay/mesh/policy"
	"patchbay/mesh/record"
)

// Declared are the steps by which a service wants its calls to move; none if
// it says nothing, or rolls.
func Declared(v *mesh.Service) (weights []uint32, every time.Duration) {
	if v.Foreign || v.Policy == nil || v.Policy.Deployment == nil {
		return nil, 0
	}
	// A bake time of 0 is as short as a step can be.
	minutes := func(n *int64, otherwise int64) time.Duration {
		if n != nil {
			otherwise = *n
		}
		return max(time.Duration(otherwise)*time.Minute, time.Second)
	}
	switch d := v.Policy.Deployment; d.Strategy {
	case policy.BlueGreen:
		return []uint32{mesh.Whole}, 0
	case policy.CanaryShift:
		c := cmp.Or(d.Canary, &policy.Canary{})
		if weights, every = []uint32{tenths(c.Percent, canaryPercent), mesh.Whole}, minutes(c.BakeMinutes, canaryBake); weights[0] == mesh.Whole {
			return weights[1:], 0
		}
		return weights, every
	case policy.LinearShift:
		l := cmp.Or(d.Linear, &policy.Linear{})
		return linear(tenths(l.StepPercent, linearStep)), minutes(l.BakeMinutes, linearBake)
	}
	return nil, 0
}

// ECS's defaults.
const (
	canaryPercent = 5
	canaryBake    = 10 // minutes
	linearStep    = 10 // percent
	linearBake    = 6  // minutes
)

func tenths(percent *float64, otherwise float64) uint32 {
	if percent != nil {
		otherwise = *percent
	}
	return uint32(math.Round(otherwise * 10))
}

// Waiting is a revision that gets no calls yet, of a service that declares how
// calls move to it.
type Waiting struct {
	Revision   string
	Have, Need int  // endpoints that can be called: of it, and of the one in production
	Busy       bool // another shift is under way
}

// Waits is the revision that has come since the last order of a service with a
// declared strategy; nil if there is none. Its calls move when as many of its
// endpoints can be called as of the revision in production.
func Waits(v *mesh.Service) *Waiting {
	d := v.Deployment
	if weights, _ := Declared(v); weights == nil || d == nil || v.Newest.Revision == d.Shift.To || !v.Newest.At.After(d.Shift.At) {
		return nil
	}
	w := &Waiting{Revision: v.Newest.Revision, Busy: !d.Shift.Done()}
	production, _ := production(v, w.Revision, nil) //nolint:errcheck // then there is none
	for _, e := range v.Endpoints {
		switch {
		case e.Health == mesh.Unhealthy:
		case e.Revision == w.Revision:
			w.Have++
		case e.Revision == production:
			w.Need++
		}
	}
	return w
}

// begin gives the orders that the declared strategy of a service amounts to:
// the only revision holds production, so that the next one gets no calls by
// itself; and the next one gets them step by step when it is complete. Every
// replica gives the same order. It returns when to look again.
func (s *Shifter) begin(ctx context.Context, v *mesh.Service) time.Duration {
	sh := mesh.Shift{At: time.Now().UTC().Truncate(time.Millisecond), To: v.Newest.Revision}
	before := ""
	switch w := Waits(v); {
	case w != nil && !w.Busy && w.Have > 0 && w.Have >= w.Need:
		before = v.Deployment.Shift.ID
		sh.Weights, sh.Every = Declared(v)
		sh.From, _ = production(v, sh.To, nil) //nolint:errcheck // then there is none
	case v.Deployment == nil && alone(v):
		sh.Weights = []uint32{mesh.Whole}
	default:
		return idle
	}
	sum := sha256.Sum256([]byte(sh.From + "\n" + sh.To + "\n" + v.Newest.At.UTC().Format(time.RFC3339Nano)))
	sh.ID = hex.EncodeToString(sum[:5])
	if since := time.Since(s.failed[v.Name]); since < again {
		return again - since
	}
	return s.write(ctx, v.Name, "calls move as the service declares", "to "+sh.To, func(attrs map[string]string) (record.Change, error) {
		now := ""
		if is := record.ParseShift(attrs); is != nil {
			now = is.ID
		}
		if now != before {
			return record.Change{}, nil // another replica, or an operator, was faster
		}
		return record.StartShift(attrs, sh)
	})
}

// alone reports whether all endpoints of a service with a declared strategy are
// of one revision.
func alone(v *mesh.Service) bool {
	if weights, _ := Declared(v); weights == nil || v.Newest.Revision == "" {
		return false
	}
	for _, e := range v.Endpoints {
		if e.Revision != v.Newest.Revision {
			return false
		}
	}
	return len(v.Endpoints) > 0
}
