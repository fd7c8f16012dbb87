package show

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"patchbay/admin/api"
)

// divided is "blue 90 %", "green 10 %".
func divided(d *api.Deployment) (out []string) {
	if d == nil {
		return nil
	}
	for _, r := range slices.Sorted(maps.Keys(d.Percent)) {
		out = append(out, r+" "+percent(d.Percent[r]))
	}
	if d.Waiting != nil {
		out = append(out, d.Waiting.Revision+" waits")
	}
	return out
}

func percent(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) + " %" }

// Shift says how the calls of a service are divided, and what comes next.
func (p *Printer) Shift(service string, d *api.Deployment, now time.Time) {
	if d == nil {
		p.line("%s: all endpoints are called alike, whatever their revision", service)
		return
	}
	p.line("%s: %s", service, strings.Join(divided(d), ", "))
	p.waiting(service, d.Waiting)
	if d.Spared != "" {
		p.line("  %s", p.paint(bad, d.Spared))
	}
	if d.Ended != "" {
		p.line("  %s", p.paint(bad, d.Ended))
		return
	}
	if d.Test != "" {
		p.line("  test traffic reaches %s", d.Test)
	}
	if len(d.Weights) > 1 {
		p.line("  step %d of %d since %s", d.Step+1, len(d.Weights), d.Since.Local().Format(time.TimeOnly))
	}
	if !d.Next.IsZero() {
		p.line("  %s of the calls to %s in %s", percent(d.Weights[d.Step+1]), d.To, max(d.Next.Sub(now), 0).Round(time.Second))
	}
	if d.Held != "" {
		p.line("  %s: the next step waits", p.paint(bad, d.Held))
	}
	if d.Stuck != "" {
		p.line("  %s: there is no way back", p.paint(bad, d.Stuck))
	} else if d.Rollback > 0 {
		p.line("  back to %s if more than %s of the requests to %s fail", d.From, percent(d.Rollback), d.To)
	}
}

func (p *Printer) waiting(service string, w *api.Incoming) {
	switch {
	case w == nil:
	case w.Busy:
		p.line("  %s waits until this is done", w.Revision)
	default:
		p.line("  %s waits: %d of %d endpoints can be called; now: patchbay shift %s", w.Revision, w.Endpoints, w.Needed, service)
	}
}

// Back says that a revision has everything again.
func (p *Printer) Back(service, revision string) {
	p.line("%s: %s has all calls again", service, revision)
}

// Moved says what an order has begun.
func (p *Printer) Moved(service string, d *api.Deployment) {
	steps := make([]string, 0, len(d.Weights))
	for _, w := range d.Weights {
		steps = append(steps, percent(w))
	}
	from := ""
	if d.From != "" {
		from = " from " + d.From
	}
	p.line("%s", fmt.Sprintf("%s moves%s to %s: %s of the calls", service, from, d.To, strings.Join(steps, ", ")))
}
