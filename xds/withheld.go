package xds

import (
	"cmp"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"patchbay/xds/delta"
	"patchbay/xds/translate"
	"patchbay/xds/valid"
)

// Withheld is a resource that must not leave, because Envoy would reject it or
// worse. What sidecars have under its name, if anything, stays.
type Withheld struct {
	SeenBy   string    `json:"seenBy"`   // the view or the node that would have got it
	Resource string    `json:"resource"` // "type name"
	Source   string    `json:"source"`   // the service, or the node, that it was made from
	Problem  string    `json:"problem"`  // names the field
	Since    time.Time `json:"since"`
}

// withheld are those of one view or node.
type withheld map[delta.Ref]Withheld

// encode is nil for a resource that is withheld.
func (w withheld) encode(r translate.Resource, seenBy, source string, log *slog.Logger) *delta.Entry {
	e, err := encode(r, source)
	if !w.note(err, r, seenBy, source, log) {
		return nil
	}
	return e
}

// encode is the entry of a resource that Envoy would take.
func encode(r translate.Resource, source string) (*delta.Entry, error) {
	if err := valid.Check(r); err != nil {
		return nil, err
	}
	return delta.NewEntry(r.TypeURL, r.Name, source, r.Message)
}

// check is encode without the encoding. It is false for a resource that is
// withheld.
func (w withheld) check(r translate.Resource, seenBy, source string, log *slog.Logger) bool {
	return w.note(valid.Check(r), r, seenBy, source, log)
}

// note books what came of a resource. A problem is logged once.
func (w withheld) note(err error, r translate.Resource, seenBy, source string, log *slog.Logger) (good bool) {
	ref := delta.Ref{TypeURL: r.TypeURL, Name: r.Name}
	if err == nil {
		delete(w, ref)
		return true
	}
	if problem := err.Error(); w[ref].Problem != problem {
		w[ref] = Withheld{SeenBy: seenBy, Resource: ref.String(), Source: source, Problem: problem, Since: time.Now()}
		log.Error("a resource is withheld", "seen_by", seenBy, "source", source, "resource", ref.String(), "reason", problem)
	}
	return false
}

// Withheld lists what is withheld now, sorted by resource.
func (p *Pusher) Withheld() []Withheld {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := []Withheld{}
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
	slices.SortFunc(all, func(a, b Withheld) int {
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
