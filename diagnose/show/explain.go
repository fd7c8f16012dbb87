package show

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"patchbay/diagnose"
	"patchbay/diagnose/gather"
	"patchbay/diagnose/hops"
)

// Walk prints a call hop by hop, and why it fails.
func (p *Printer) Walk(w *hops.Walk, live *gather.Live) {
	p.line("%s calls %s", p.paint(bold, w.Client), p.paint(bold, w.URL))
	for _, h := range w.Hops {
		mark := p.paint(good, "✓")
		switch h.State {
		case hops.Fails:
			mark = p.paint(bad, "✗")
		case hops.Unseen:
			mark = p.paint(weak, "?")
		}
		p.line("  %s %s %s", mark, p.paint(bold, fmt.Sprintf("%-12s", h.Name)), h.Detail)
	}
	if live != nil {
		p.live(live)
	}
	if w.Finding == nil {
		p.line("\n%s", p.paint(good, "every hop looks right"))
		return
	}
	p.line("")
	p.Findings([]diagnose.Finding{*w.Finding})
}

// live prints what came back, and what each sidecar counted meanwhile.
func (p *Printer) live(l *gather.Live) {
	c := l.Called
	result := p.paint(bad, c.Error)
	switch {
	case c.Error != "":
	case c.Envoy:
		result = p.paint(bad, fmt.Sprintf("%d by the sidecar: %s", c.Status, strings.TrimSpace(c.Body)))
	case c.Status > 0:
		result = p.paint(good, fmt.Sprintf("%d by the application", c.Status))
	default:
		result = p.paint(good, "the connection stands")
	}
	p.line("\na real call by %s, after %s: %s", c.Resolved, c.Took.Round(time.Millisecond/10), result)
	for _, node := range slices.Sorted(maps.Keys(l.Counts)) {
		p.line("  %s counted", node)
		for _, name := range slices.Sorted(maps.Keys(l.Counts[node])) {
			p.line("    %s %s", p.paint(faint, fmt.Sprintf("+%d", l.Counts[node][name])), name)
		}
	}
	for _, e := range l.Errors {
		p.line("  %s %s", p.paint(weak, "?"), e)
	}
}
