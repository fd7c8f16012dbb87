package bench

import (
	"context"
	"testing"
	"time"
)

func TestAPartOfRows(t *testing.T) {
	j := FromRows("status", "Status", "About.", time.Minute, func(context.Context, Options) ([]Row, error) {
		return []Row{
			{Scenario: "1,000 sidecars", Variant: "patchbay", Metric: "time", Unit: "ms", Values: []float64{3, 1, 2}, Goal: "time of an answer", Limit: 1.5},
			{Scenario: "1,000 sidecars", Variant: "patchbay", Metric: "size", Unit: "kB", Values: []float64{7}},
		}, nil
	})
	p := &Part{}
	if err := j.Run(t.Context(), Options{}, p); err != nil {
		t.Fatal(err)
	}
	j.Goals(p)
	if f := p.Find("1,000 sidecars", "patchbay", "time"); len(p.Figures) != 2 || f == nil || f.Median != 2 || len(f.Runs) != 3 {
		t.Errorf("figures: %+v", p.Figures)
	}
	if len(p.Goals) != 1 || p.Goals[0].Met || p.Goals[0].Value != 2 || !p.Goals[0].Known {
		t.Errorf("goals: %+v", p.Goals)
	}
}
