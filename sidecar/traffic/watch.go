package traffic

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"patchbay/agentapi"
)

// every is how often Envoy's counters are read.
const every = 5 * time.Second

// Source is an Envoy that is asked for its statistics.
type Source interface {
	// Page is a page of the admin interface in JSON, of statistics those that
	// match the regular expression.
	Page(ctx context.Context, name, filter string) ([]byte, error)
	// Established is how many connections to each cluster have stood.
	Established(context.Context) (map[string]uint64, error)
}

// Watch reads an Envoy's counters until ctx ends, and tells what is new.
func Watch(ctx context.Context, envoy Source, log *slog.Logger, tell func(*agentapi.Traffic)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last *agentapi.Traffic
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		page, err := envoy.Page(ctx, "stats", counted)
		if err != nil {
			continue // Envoy is away: its counters stay as they were
		}
		stood, err := envoy.Established(ctx)
		if err != nil {
			continue
		}
		t, err := read(page, stood, time.Now())
		if err != nil {
			log.DebugContext(ctx, "Envoy's counters are not understood", "error", err)
			continue
		}
		if last != nil && within(last.GetEpoch(), t.GetEpoch()) {
			t.Epoch = last.GetEpoch() // the same start, rounded otherwise
		}
		if !proto.Equal(last, t) {
			last = t
			tell(t)
		}
	}
}

// within reports whether two starts are the same, given that the age of Envoy
// comes in seconds.
func within(a, b *timestamppb.Timestamp) bool {
	d := a.AsTime().Sub(b.AsTime())
	return d > -3*time.Second && d < 3*time.Second
}
