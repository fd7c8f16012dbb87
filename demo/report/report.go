// Package report is what proofs of a mesh found: rows for people as they come, or
// one JSON document at the end.
//
// It owns the form of both. It must not know what is proved, nor how. Start
// reading at [New].
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// ErrProofs is returned when a proof did not hold; which, has been printed.
var ErrProofs = errors.New("not every proof held")

// Figure is what a proof found: a number with its unit, and words about it.
type Figure struct {
	Value  float64
	Unit   string // "ms", "s", "MB", "requests", …; empty: there is no number
	Detail string
}

// MS is a time as a figure in ms has it.
func MS(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// check is the outcome of one proof.
type check struct {
	ID    string  `json:"id"`
	OK    bool    `json:"ok"`
	Value float64 `json:"value"` // the figure, in Unit; 0 where there is none
	Unit  string  `json:"unit"`
	Error string  `json:"error"` // why not, else empty
}

// version is raised when a field of the JSON changes its meaning.
const version = 1

// Report collects the outcomes of proofs.
type Report struct {
	people io.Writer // rows
	json   io.Writer // nil: nobody wants it
	checks []check
}

// New prints rows to out, or with asJSON nothing before [Report.End].
func New(out io.Writer, asJSON bool) *Report {
	if asJSON {
		return &Report{people: io.Discard, json: out}
	}
	return &Report{people: out}
}

// Add records what came of a proof, and prints it.
func (r *Report) Add(id, title string, f Figure, err error) {
	c := check{ID: id, OK: err == nil, Value: f.Value, Unit: f.Unit}
	mark := "✓"
	if err != nil {
		mark, c.Error = "✗", err.Error()
	}
	r.checks = append(r.checks, c)
	fmt.Fprintf(r.people, "%s %-46s", mark, title)
	if f.Unit != "" {
		fmt.Fprintf(r.people, " %8.4g %-9s", f.Value, f.Unit)
	} else {
		fmt.Fprintf(r.people, " %18s", "")
	}
	fmt.Fprintf(r.people, " %s\n", f.Detail)
	if err != nil {
		fmt.Fprintf(r.people, "    %s\n", strings.ReplaceAll(c.Error, "\n", "\n    "))
	}
}

// Say prints words for people.
func (r *Report) Say(text string) { fmt.Fprintln(r.people, text) }

// End prints the sum, and the JSON of docs/reference/demo.md; ErrProofs if a
// proof did not hold.
func (r *Report) End() error {
	if r.json != nil {
		enc := json.NewEncoder(r.json)
		enc.SetIndent("", "  ")
		if err := enc.Encode(struct {
			Version int     `json:"version"`
			Checks  []check `json:"checks"`
		}{version, r.checks}); err != nil {
			return err
		}
	}
	failed := 0
	for _, c := range r.checks {
		if !c.OK {
			failed++
		}
	}
	fmt.Fprintf(r.people, "%d passed, %d failed\n", len(r.checks)-failed, failed)
	if failed > 0 {
		return ErrProofs
	}
	return nil
}
