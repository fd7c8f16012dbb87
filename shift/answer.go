package shift

import (
	"patchbay/admin/api"
	"patchbay/mesh"
)

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

// AnswerWaiting is w in the same words; nil for nil.
func AnswerWaiting(w *Waiting) *api.Incoming {
	if w == nil {
		return nil
	}
	return &api.Incoming{Revision: w.Revision, Endpoints: w.Have, Needed: w.Need, Busy: w.Busy}
}
