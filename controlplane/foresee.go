package controlplane

import (
	"context"
	"slices"
	"sync"
	"time"

	"patchbay/admin/api"
	"patchbay/mesh"
	"patchbay/registrar"
)

// How often what workloads may offer is looked at, and how often the registry is
// asked whether something is in the way of it, if that has not changed.
const (
	offersEvery  = 5 * time.Second
	foreseeEvery = 5 * time.Minute
)

// foreseen is what is in the way of services that workloads may offer.
type foreseen struct {
	mu  sync.Mutex
	all []*registrar.Refusal
}

// foresee looks for conflicts before a task meets them, until ctx ends.
func (c *control) foresee(ctx context.Context) error {
	var before []mesh.ServiceName
	var asked time.Time
	tick := time.NewTicker(offersEvery)
	defer tick.Stop()
	for {
		if offers := c.workloads.Offers(); !slices.Equal(offers, before) || time.Since(asked) > foreseeEvery {
			refusals, err := c.registrar.Foresee(ctx, offers)
			if err == nil {
				before, asked = offers, time.Now()
			}
			c.foreseen.learn(c, refusals, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// learn takes in what was found, and logs what is new. Where the registry failed
// what was known stays.
func (f *foreseen) learn(c *control, refusals []*registrar.Refusal, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range refusals {
		if !slices.ContainsFunc(f.all, func(o *registrar.Refusal) bool { return o.Error() == r.Error() }) {
			c.log.Warn("a service that a workload may offer can't be registered", "service", r.Service.String(), "reason", r.Error())
		}
	}
	if err == nil || len(refusals) > 0 {
		f.all = refusals
	}
}

func (f *foreseen) conflicts() []api.Conflict {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []api.Conflict
	for _, r := range f.all {
		out = append(out, api.Conflict{Service: r.Service.String(), ARN: r.ARN, What: r.What, Remedy: r.Remedy})
	}
	return out
}
