package show

import (
	"fmt"
	"strings"

	"patchbay/admin/api"
)

// Forecast prints what a change would do.
func (p *Printer) Forecast(f *api.Forecast) {
	for _, r := range f.Refused {
		p.line("%s %s: it would be refused", p.paint(bad, "✗"), r)
	}
	for _, n := range f.Notes {
		p.line("%s %s", p.paint(weak, "!"), n)
	}
	if len(f.Config) > 0 {
		p.line("%s", p.paint(bold, "configuration"))
		p.changes(f.Config)
	}
	for _, s := range f.Services {
		p.line("%s %s: %s", p.mark(s.Kind), p.paint(bold, s.Name), s.Kind)
		p.changes(s.Changes)
	}
	if len(f.Services) == 0 && len(f.Refused) > 0 {
		return
	}
	if len(f.Services) == 0 {
		p.line("%s no service of the mesh would change", p.paint(good, "✓"))
		return
	}
	if len(f.Resources) == 0 {
		p.line("no connected sidecar would be sent anything")
		return
	}
	p.line("")
	cut := 0
	for _, r := range f.Resources {
		p.line("%s %s %s: %s, for %s (%s)", p.mark(r.Kind), r.Type, p.paint(bold, r.Name), r.Kind, many(r.Sidecars, "sidecar"), r.View)
		p.changes(r.Changes)
		if r.Cuts != "" {
			cut++
			p.line("    %s", p.paint(weak, r.Cuts))
		}
	}
	p.line("\n%s, %s, %s touched: %s", many(len(f.Services), "service"), many(len(f.Resources), "resource"), many(len(f.Sidecars), "sidecar"), strings.Join(f.Sidecars, ", "))
	if cut == 0 {
		p.line("%s no connection would be cut", p.paint(good, "✓"))
	} else {
		p.line("%s %s would cut connections", p.paint(weak, "!"), many(cut, "of these resources", "of these resources"))
	}
}

func (p *Printer) mark(kind string) string {
	switch kind {
	case api.Added:
		return p.paint(good, "+")
	case api.Removed:
		return p.paint(bad, "-")
	}
	return p.paint(weak, "~")
}

// many is a number of things.
func many(n int, what string, plural ...string) string {
	switch {
	case len(plural) > 0:
		what = plural[0]
	case n != 1:
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
