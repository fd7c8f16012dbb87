package xds

import (
	"cmp"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"patchbay/mesh"
	"patchbay/mesh/policy"
	"patchbay/xds/valid"
	"patchbay/xds/views"
)

// Seen is a view, and the nodes that see it now.
type Seen struct {
	views.View
	Key   string
	Nodes []string // sorted
}

// Seen are the views that connected nodes see, sorted by key.
func (p *Pusher) Seen() []Seen {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := map[*view]int{}
	var out []Seen
	for _, n := range p.nodes {
		i, there := at[n.view]
		if !there {
			i = len(out)
			at[n.view] = i
			out = append(out, Seen{View: n.view.View, Key: n.view.key})
		}
		out[i].Nodes = append(out[i].Nodes, n.ID())
	}
	for i := range out {
		slices.Sort(out[i].Nodes)
		out[i].Nodes = slices.Compact(out[i].Nodes)
	}
	slices.SortFunc(out, func(a, b Seen) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// Words are what holds for calls of a connected node to a service that it is
// told of: see [views.View.Words]. False if it is not connected, or not told.
func (p *Pusher) Words(node string, service mesh.ServiceName) ([]policy.Word, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.nodes {
		if s := n.view.services[service].stored; s != nil && n.ID() == node {
			return n.view.Words(s), true
		}
	}
	return nil, false
}

// Withheld lists what is withheld now, sorted by resource.
func (p *Pusher) Withheld() []valid.Withheld {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := []valid.Withheld{}
	for _, v := range p.views {
		for _, w := range v.withheld {
			all = append(all, w)
		}
	}
	for _, n := range p.nodes {
		for _, w := range n.withheld {
			all = append(all, w)
		}
	}
	slices.SortFunc(all, func(a, b valid.Withheld) int {
		return cmp.Or(cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.SeenBy, b.SeenBy))
	})
	return all
}

// Register registers the pusher's metrics with reg.
func (p *Pusher) Register(reg prometheus.Registerer) {
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "patchbay_xds_withheld_resources", Help: "Resources that are not published because they are invalid.",
	}, func() float64 { return float64(len(p.Withheld())) }))
}
