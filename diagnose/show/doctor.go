package show

import (
	"patchbay/diagnose"
	"patchbay/internal/count"
)

// Doctor prints a tick or a cross for each area, then the findings, the likely
// cause first.
func (p *Printer) Doctor(areas []diagnose.Area, all []diagnose.Finding) {
	for _, a := range areas {
		mark, found := p.paint(good, "✓"), ""
		if len(a.Findings) > 0 {
			mark, found = p.paint(bad, "✗"), p.paint(bad, "  "+count.Of(len(a.Findings), "finding"))
		}
		p.line("%s %s%s%s", mark, p.paint(bold, pad(a.Name, 15)), a.Seen, found)
	}
	p.line("")
	if len(all) == 0 {
		p.line("%s", p.paint(good, "nothing is wrong"))
		return
	}
	p.Findings(all)
	p.line("\n%s", p.paint(faint, "more about a code: patchbay doctor --code "+all[0].Code))
}

func pad(s string, n int) string {
	for len(s) < n {
		s += " "
	}
	return s
}
