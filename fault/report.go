package fault

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"time"

	"patchbay/admin/api"
)

// The statistics of an Envoy that a report needs.
const (
	requests = "http.egress.downstream_rq_total"
	failures = "http.egress.downstream_rq_5xx"
	aborted  = "http.egress.fault.aborts_injected"
	delayed  = "http.egress.fault.delays_injected"
)

// distrusted are connections that a caller made and gave up because of the
// certificate that it was shown.
var distrusted = regexp.MustCompile(`^cluster\..*\.ssl\.fail_verify_`)

// Report compares counters by node from before and after, sorted by node.
// Sidecars that made no requests are left out.
func Report(before, after map[string]map[string]uint64) []api.Suffered {
	out := []api.Suffered{}
	for node, was := range before {
		now, there := after[node]
		since := func(stat string) uint64 {
			if now[stat] < was[stat] { // Envoy has started anew
				return now[stat]
			}
			return now[stat] - was[stat]
		}
		r := api.Suffered{Node: node, Requests: since(requests), Failed: since(failures), Aborted: since(aborted), Delayed: since(delayed), Lost: !there}
		for stat := range now {
			if distrusted.MatchString(stat) {
				r.Distrusted += since(stat)
			}
		}
		if r.Lost {
			r = api.Suffered{Node: node, Lost: true}
		}
		if r.Requests > 0 || r.Distrusted > 0 || r.Lost {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b api.Suffered) int { return cmp.Compare(a.Node, b.Node) })
	return out
}

// Outcome asks until every sidecar that was asked before answers again, or ctx
// ends, and compares.
func Outcome(ctx context.Context, client *api.Client, before map[string]map[string]uint64) ([]api.Suffered, error) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		after, err := Counted(ctx, client)
		if err == nil && len(after) >= len(before) {
			return Report(before, after), nil
		}
		select {
		case <-ctx.Done():
			if err != nil && after == nil {
				return nil, errors.Join(errors.New("the sidecars could not be asked for a report"), err)
			}
			return Report(before, after), nil
		case <-tick.C:
		}
	}
}

// Counted are the counters of every sidecar with an agent, by its node.
func Counted(ctx context.Context, client *api.Client) (map[string]map[string]uint64, error) {
	st := &api.Status{}
	if err := client.Get(ctx, "status", nil, st); err != nil {
		return nil, err
	}
	out := map[string]map[string]uint64{}
	for _, s := range st.Sidecars {
		t := &api.Task{}
		if s.Agent != nil && client.Get(ctx, "task", url.Values{"node": {s.Node}, "stats": {"only"}}, t) == nil {
			out[s.Node] = t.Stats
		}
	}
	return out, nil
}
