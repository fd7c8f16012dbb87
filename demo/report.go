package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Check is the outcome of one proof: a row of `patchbay demo --once`.
type Check struct {
	ID    string  `json:"id"`
	OK    bool    `json:"ok"`
	Value float64 `json:"value"` // the figure, in Unit; 0 where there is none
	Unit  string  `json:"unit"`  // "ms", "s", "MB", "requests", … or empty
	Error string  `json:"error"` // why not, else empty

	title  string
	detail string
}

// reportVersion is raised when a field of the JSON changes its meaning.
const reportVersion = 1

// reporter prints checks as they come, and at the end the whole as JSON.
type reporter struct {
	out    io.Writer // for people; io.Discard with --json
	checks []Check
}

// figure is what a proof found: a number with its unit, and words about it.
type figure struct {
	value  float64
	unit   string
	detail string
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// add records a proof's outcome and prints it.
func (r *reporter) add(id, title string, f figure, err error) {
	c := Check{ID: id, OK: err == nil, Value: f.value, Unit: f.unit, title: title, detail: f.detail}
	mark := "✓"
	if err != nil {
		mark, c.Error = "✗", err.Error()
	}
	r.checks = append(r.checks, c)
	fmt.Fprintf(r.out, "%s %-46s", mark, title)
	if f.unit != "" {
		fmt.Fprintf(r.out, " %8.4g %-9s", f.value, f.unit)
	} else {
		fmt.Fprintf(r.out, " %18s", "")
	}
	fmt.Fprintf(r.out, " %s\n", f.detail)
	if err != nil {
		fmt.Fprintf(r.out, "    %s\n", strings.ReplaceAll(c.Error, "\n", "\n    "))
	}
}

// failed counts the proofs that did not hold.
func (r *reporter) failed() int {
	n := 0
	for _, c := range r.checks {
		if !c.OK {
			n++
		}
	}
	return n
}

// json is the contract of docs/reference/demo.md.
func (r *reporter) json(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(struct {
		Version int     `json:"version"`
		Checks  []Check `json:"checks"`
	}{reportVersion, r.checks})
}

// Report is the same for whoever proves the mesh elsewhere: checks as they
// come, or one JSON document at the end.
type Report struct {
	r    reporter
	out  io.Writer
	json bool
}

// NewReport prints to out; with json nothing before [Report.End].
func NewReport(out io.Writer, json bool) *Report {
	r := &Report{r: reporter{out: out}, out: out, json: json}
	if json {
		r.r.out = io.Discard
	}
	return r
}

// Add records a check.
func (r *Report) Add(c Check, title, detail string) {
	var err error
	if !c.OK {
		err = errors.New(c.Error)
	}
	r.r.add(c.ID, title, figure{c.Value, c.Unit, detail}, err)
}

// Say prints words for people.
func (r *Report) Say(text string) { fmt.Fprintln(r.r.out, text) }

// End prints the sum; ErrProofs if a check did not hold.
func (r *Report) End() error {
	if r.json {
		if err := r.r.json(r.out); err != nil {
			return err
		}
	}
	fmt.Fprintf(r.r.out, "%d passed, %d failed\n", len(r.r.checks)-r.r.failed(), r.r.failed())
	if r.r.failed() > 0 {
		return ErrProofs
	}
	return nil
}
