package show

import (
	"time"

	"patchbay/diagnose/verify"
	"patchbay/internal/count"
)

// Reports prints the verdict on each service, check by check.
func (p *Printer) Reports(all []verify.Report) {
	for i, r := range all {
		if i > 0 {
			p.line("")
		}
		p.report(r)
	}
}

func (p *Printer) report(r verify.Report) {
	p.line("encryption of %s", p.paint(bold, r.Service))
	for _, e := range r.Endpoints {
		p.line("\n%s, seen from %s", p.paint(bold, e.Address), e.From)
		for _, c := range e.Checks {
			mark := p.paint(good, "✓")
			switch c.Outcome {
			case verify.Fail:
				mark = p.paint(bad, "✗")
			case verify.Skipped:
				mark = p.paint(faint, "-")
			}
			p.line("  %s %-44s %s", mark, c.Title, c.Detail)
		}
		if l := e.Leaf; l != nil {
			p.line("    %s %s, %s, SHA-256 %s", p.paint(faint, "certificate"), l.Serial, l.Key, l.Fingerprint)
		}
	}
	switch {
	case len(r.Endpoints) == 0:
		p.line("%s", p.paint(bad, "there is no endpoint to verify"))
	case r.OK:
		p.line("\n%s %s of %s", p.paint(good, "encrypted:"), count.Of(len(r.Endpoints), "endpoint"), r.Service)
	default:
		p.line("\n%s %s", p.paint(bad, "not proved:"), count.Of(r.Failed(), "failed check"))
	}
	p.line("%s", p.paint(faint, "signed off by "+r.By+" at "+r.At.Format(time.RFC3339)+"; SHA-256 of the report "+r.Digest))
}
