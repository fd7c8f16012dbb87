package bench

import (
	"context"
	"time"
)

// Row is one figure of a part that is a plain function.
type Row struct {
	Scenario, Variant, Metric, Unit string
	Values                          []float64 // one for each run, at least one
	// Goal says in words what Limit is for: the median should be at most that.
	// Empty: nothing was aimed at.
	Goal  string
	Limit float64
}

// FromRows makes a part of a function that measures and returns rows, in the
// order of the page: a package need not know more of this one.
func FromRows(name, title, about string, limit time.Duration, measure func(context.Context, Options) ([]Row, error)) Job {
	var rows []Row
	return Job{
		Name: name, Title: title, About: about, Limit: limit,
		Run: func(ctx context.Context, o Options, p *Part) (err error) {
			rows, err = measure(ctx, o)
			for _, r := range rows {
				for _, v := range r.Values {
					p.Add(r.Scenario, r.Variant, r.Metric, r.Unit, v)
				}
			}
			return err
		},
		Goals: func(p *Part) {
			for _, r := range rows {
				if r.Goal != "" {
					p.AtMost(r.Limit, r.Unit, r.Goal, Median(r.Values), len(r.Values) > 0)
				}
			}
		},
	}
}
