package sidecar

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"patchbay/sidecar/traffic"
)

// countEvery is how often Envoy's counters are read.
const countEvery = 5 * time.Second

// count reads Envoy's counters until ctx ends.
func (a *Agent) count(ctx context.Context) error {
	tick := time.NewTicker(countEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		page, err := a.admin.Page(ctx, "stats", traffic.Counted)
		if err != nil {
			continue // Envoy is away: its counters stay as they were
		}
		stood, err := a.admin.Established(ctx)
		if err != nil {
			continue
		}
		t, err := traffic.Read(page, stood, time.Now())
		if err != nil {
			a.log.DebugContext(ctx, "Envoy's counters are not understood", "error", err)
			continue
		}
		a.set(func(s *state) {
			if s.traffic != nil && traffic.Within(s.traffic.GetEpoch(), t.GetEpoch()) {
				t.Epoch = s.traffic.GetEpoch() // the same start, rounded otherwise
			}
			if !proto.Equal(s.traffic, t) {
				s.traffic = t
				signal(a.report)
			}
		})
	}
}
