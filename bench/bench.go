// Package bench holds what a benchmark run finds: figures with their spread,
// goals with what was reached, and the machine that it was found on; and writes
// them to docs/benchmarks.json and docs/benchmarks.md.
//
// It must not know what is measured: bench/push measures the push path,
// bench/path the data path. Nothing here is linked into the product. Start
// reading at [Part].
package bench

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"time"
)

// Options of a run.
type Options struct {
	Quick bool      // fewer and shorter rounds: proves the harness, not the figures
	Out   io.Writer // progress, for whoever waits
	Self  string    // this program: processes under test are started from it
	Dir   string    // for files of the run; removed by the caller
	Envoy string    // the Envoy binary
	Tools string    // directory of programs that no package manager has
	// For is how long the parts take whose subject is time; 0: as they like.
	For time.Duration
}

// Say prints a line of progress.
func (o Options) Say(format string, args ...any) { fmt.Fprintf(o.Out, format+"\n", args...) }

// Rounds is full, or quick in a quick run.
func (o Options) Rounds(full, quick int) int {
	if o.Quick {
		return quick
	}
	return full
}

// Job is one part of the benchmarks.
type Job struct {
	Name  string // for --only
	Title string
	About string        // what is measured and how, in a few sentences of Markdown
	Limit time.Duration // it is cut off after this; what was measured by then stays
	Apart bool          // it runs only if it is asked for by name
	Run   func(context.Context, Options, *Part) error
	Goals func(*Part) // compares what was measured with what was aimed at
}

// Part is what a [Job] found. Not safe for concurrent use.
type Part struct {
	Name     string            `json:"name"`
	Title    string            `json:"title"`
	About    string            `json:"about"`
	Ran      time.Time         `json:"ran"`
	Seconds  float64           `json:"seconds"`
	Quick    bool              `json:"quick"` // its figures prove nothing but that the harness works
	Machine  Machine           `json:"machine"`
	Versions map[string]string `json:"versions"`
	Notes    []string          `json:"notes,omitempty"`
	Goals    []Goal            `json:"goals"`
	Figures  []*Figure         `json:"figures"`
}

// Figure is one quantity, measured several times.
type Figure struct {
	Scenario string    `json:"scenario"`
	Variant  string    `json:"variant"` // what is compared: an engine, a pair of Envoys
	Metric   string    `json:"metric"`
	Unit     string    `json:"unit"`
	Median   float64   `json:"median"`
	Min      float64   `json:"min"`
	Max      float64   `json:"max"`
	Runs     []float64 `json:"runs"` // in the order of measuring
}

// Spread is the distance between the extremes as a share of the median, e.g.
// 0.2; 0 if there is one run or the median is 0.
func (f *Figure) Spread() float64 {
	if f.Median == 0 {
		return 0
	}
	return (f.Max - f.Min) / math.Abs(f.Median)
}

// Goal is a figure that was aimed at. It is never a test's verdict: a goal that
// is missed is written down with the reason.
type Goal struct {
	Text  string  `json:"text"`
	Limit float64 `json:"limit"`
	Above bool    `json:"above,omitempty"` // the value should be at least the limit; else at most
	Value float64 `json:"value"`
	Unit  string  `json:"unit,omitempty"`
	Met   bool    `json:"met"`
	Known bool    `json:"known"` // false: it was not measured in this run
}

// Add records one measurement.
func (p *Part) Add(scenario, variant, metric, unit string, value float64) {
	f := p.Find(scenario, variant, metric)
	if f == nil {
		f = &Figure{Scenario: scenario, Variant: variant, Metric: metric, Unit: unit}
		p.Figures = append(p.Figures, f)
	}
	f.Runs = append(f.Runs, round(value))
	f.Median, f.Min, f.Max = round(Median(f.Runs)), slices.Min(f.Runs), slices.Max(f.Runs)
}

// Find returns a figure, or nil.
func (p *Part) Find(scenario, variant, metric string) *Figure {
	for _, f := range p.Figures {
		if f.Scenario == scenario && f.Variant == variant && f.Metric == metric {
			return f
		}
	}
	return nil
}

// AtMost and AtLeast record a goal. value returns false for what was not
// measured.
func (p *Part) AtMost(limit float64, unit, text string, value float64, known bool) {
	p.Goals = append(p.Goals, Goal{text, limit, false, round(value), unit, known && value <= limit, known})
}

// AtLeast is AtMost the other way round.
func (p *Part) AtLeast(limit float64, unit, text string, value float64, known bool) {
	p.Goals = append(p.Goals, Goal{text, limit, true, round(value), unit, known && value >= limit, known})
}

// Ratio is the median of metric of one variant over that of another, in one
// scenario. It is false if one was not measured.
func (p *Part) Ratio(scenario, over, under, metric string) (float64, bool) {
	a, b := p.Find(scenario, over, metric), p.Find(scenario, under, metric)
	if a == nil || b == nil || b.Median == 0 {
		return 0, false
	}
	return a.Median / b.Median, true
}

// Median is the middle of values, or the mean of the middle two; 0 of none.
func Median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	if len(s) == 0 {
		return 0
	}
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// Percentile is the value below which the share q (0 to 1) of values lies. It
// sorts values.
func Percentile[T cmp.Ordered](values []T, q float64) T {
	var zero T
	if len(values) == 0 {
		return zero
	}
	slices.Sort(values)
	return values[max(0, int(math.Ceil(q*float64(len(values))))-1)]
}

// round keeps four significant digits, and whole numbers whole.
func round(v float64) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) || math.Abs(v) >= 1e4 {
		return math.Round(v)
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*scale) / scale
}
