package show

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"patchbay/diagnose"
	"patchbay/diagnose/gather"
	"patchbay/diagnose/hops"
	"patchbay/internal/count"
	"patchbay/mesh/policy"
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
	if len(w.Policy) > 0 {
		p.words(w.Policy)
	}
	if live != nil {
		p.live(live)
	}
	if w.Finding == nil {
		unseen := 0
		for _, h := range w.Hops {
			if h.State == hops.Unseen {
				unseen++
			}
		}
		if unseen > 0 && live == nil {
			p.line("\nno hop that was looked at fails; %s: --live makes the call", count.Of(unseen, "hop")+" not looked at")
			return
		}
		p.line("\n%s", p.paint(good, "every hop looks right"))
		return
	}
	p.line("")
	p.Findings([]diagnose.Finding{*w.Finding})
}

// words prints what holds for a call: a line for each group of members and
// whose word they are.
func (p *Printer) words(all []policy.Word) {
	type line struct{ group, from string }
	var lines []line
	members := map[line][]string{}
	for _, w := range all {
		group, member, _ := strings.Cut(w.Member, ".")
		l := line{group, w.From}
		if members[l] == nil {
			lines = append(lines, l)
		}
		members[l] = append(members[l], strings.TrimSpace(member+" "+value(w.Value)))
	}
	p.line("\n  what holds for it")
	for _, l := range lines {
		p.line("    %-16s %s %s", l.group, strings.Join(members[l], ", "), p.paint(faint, "("+l.from+")"))
	}
}

// value is a value of a policy, for people.
func value(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64: // a number of JSON
		if v == math.MaxInt32 {
			return "unlimited"
		}
		return strconv.FormatFloat(v, 'f', -1, 64)
	case []any:
		var all []string
		for _, one := range v {
			all = append(all, value(one))
		}
		return strings.Join(all, ",")
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
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
