package xds

import (
	"log/slog"
	"maps"
	"slices"

	"patchbay/mesh"
	"patchbay/xds/bootstrap"
	"patchbay/xds/delta"
	"patchbay/xds/translate"
)

// A task that offers nothing is no endpoint of anything. How its like are spread
// over zones is known from their streams: a workload's crowd. A control plane
// counts its own streams only, which is as good as a sample.

// crowd counts the sidecars of a workload by zone.
type crowd map[string]int

// crowdParts bounds what is told of a crowd: its proportions, not its size, so
// that one task more or less is rarely news.
const crowdParts = 24

// parts are the proportions of a crowd.
func (c crowd) parts() map[string]int {
	total := 0
	for _, n := range c {
		total += n
	}
	out := map[string]int{}
	for zone, n := range c {
		if total > crowdParts {
			n = max((n*crowdParts+total/2)/total, 1)
		}
		out[zone] = n
	}
	return out
}

// count adds n sidecars of a zone to a workload's crowd, and has the views show
// it if that is news. p.mu is held.
func (p *Pusher) count(w mesh.Workload, zone string, n int) {
	if zone == "" {
		return
	}
	c := p.crowds[w.String()]
	if c == nil {
		c = crowd{}
		p.crowds[w.String()] = c
	}
	before := c.parts()
	if c[zone] += n; c[zone] == 0 {
		delete(c, zone)
	}
	if maps.Equal(before, c.parts()) {
		return
	}
	for _, v := range p.views {
		if _, shows := v.crowds[w.String()]; shows {
			v.asked = true
			select {
			case p.crowded <- struct{}{}:
			default:
			}
		}
	}
}

// crowdOwner is the owner of such a resource in the view's books.
func crowdOwner(workload string) string { return "sidecars of " + workload }

// staleCrowds are the workloads whose crowd is shown otherwise than it is,
// sorted.
func (v *view) staleCrowds() (out []string) {
	for w, shown := range v.crowds {
		if !maps.Equal(shown, v.counted[w].parts()) {
			out = append(out, w)
		}
	}
	slices.Sort(out)
	return out
}

func (v *view) showCrowds(workloads []string, gone map[delta.Ref]bool, log *slog.Logger) (entries []*delta.Entry) {
	for _, w := range workloads {
		v.crowds[w] = v.counted[w].parts()
		entries = append(entries, v.encode(crowdOwner(w), []translate.Resource{translate.Crowd(bootstrap.LocalCrowd(w), v.crowds[w])}, gone, log)...)
	}
	return entries
}
