package shift

import (
	"slices"
	"time"

	"patchbay/admin/api"
	"patchbay/mesh"
)

// Divided is how the calls of a service are divided, and what its next step waits
// for, in the words of the operator's interface; nil if they are not.
func Divided(v *mesh.Service) *api.Deployment {
	out := Answer(v.Deployment)
	if out == nil {
		return nil
	}
	if w := Waits(v); w != nil {
		out.Waiting = &api.Incoming{Revision: w.Revision, Endpoints: w.Have, Needed: w.Need, Busy: w.Busy}
	}
	if sh := v.Deployment.Shift; !sh.Done() && serving(v, sh.To) == 0 {
		out.Held, out.Next = sh.To+" has no endpoint that can be called", time.Time{}
	} else if sh.Rollback > 0 && sh.From != "" && sh.Ended == "" && serving(v, sh.From) == 0 {
		out.Stuck = sh.From + " has no endpoint that can be called"
	}
	out.Spared = spared(v)
	return out
}

// spared says why calls are divided otherwise than the shift says.
func spared(v *mesh.Service) string {
	sh := v.Deployment.Shift
	is := slices.IndexFunc(v.Deployment.Shares, func(x mesh.Share) bool { return x.Revision == sh.To && x.Weight == sh.Weight() })
	switch {
	case is >= 0 || sh.From == "":
		return ""
	case sh.Weight() > 0 && serving(v, sh.To) == 0 && serving(v, sh.From) > 0:
		return sh.To + " has no endpoint that can be called, and " + sh.From + " has its share"
	case sh.Weight() < mesh.Whole && serving(v, sh.From) == 0 && serving(v, sh.To) > 0:
		return sh.From + " has no endpoint that can be called, and " + sh.To + " has its share"
	}
	return ""
}

// Answer is a deployment in the words of the operator's interface; nil for nil.
func Answer(d *mesh.Deployment) *api.Deployment {
	if d == nil {
		return nil
	}
	s := d.Shift
	out := &api.Deployment{
		ID: s.ID, From: s.From, To: s.To, Percent: map[string]float64{}, Test: d.Test, Weights: []float64{},
		Step: s.Step, Since: s.Since, Rollback: float64(s.Rollback) / 10, Ended: s.Ended,
	}
	for _, x := range d.Shares {
		out.Percent[x.Revision] = float64(x.Weight) / 10
	}
	for _, w := range s.Weights {
		out.Weights = append(out.Weights, float64(w)/10)
	}
	if !s.Done() {
		out.Next = s.Since.Add(s.Every)
	}
	return out
}
