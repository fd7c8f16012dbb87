package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Markdown writes the part as a section: how it ran, goals, a table for each
// scenario.
func (p *Part) Markdown(w io.Writer) {
	fmt.Fprintf(w, "\n## %s\n\n%s\n\n", p.Title, p.About)
	fmt.Fprintf(w, "Ran %s in %.0f s on %d × %s, %.0f GiB, %s, Linux %s (load before: %.1f).", p.Ran.UTC().Format("2006-01-02 15:04 UTC"), p.Seconds,
		p.Machine.CPUs, p.Machine.CPU, p.Machine.RAM, p.Machine.System, p.Machine.Kernel, p.Machine.Load)
	for i, name := range slices.Sorted(maps.Keys(p.Versions)) {
		sep := ", "
		if i == 0 {
			sep = " "
		}
		fmt.Fprintf(w, "%s%s %s", sep, name, p.Versions[name])
	}
	fmt.Fprintln(w, ".")
	if p.Quick {
		fmt.Fprintln(w, "\n**A quick run: it proves that the harness works; its figures are rough.**")
	}
	for _, n := range p.Notes {
		fmt.Fprintf(w, "\n- %s", n)
	}
	if len(p.Notes) > 0 {
		fmt.Fprintln(w)
	}
	if len(p.Goals) > 0 {
		fmt.Fprintln(w)
		table(w, p.goalRows())
	}
	for _, s := range p.scenarios() {
		fmt.Fprintf(w, "\n### %s\n\n", s)
		table(w, p.rows(s))
	}
}

func (p *Part) goalRows() [][]string {
	rows := [][]string{{"goal", "aimed at", "reached", ""}}
	for _, g := range p.Goals {
		sign, met := "≤ ", "missed"
		if g.Above {
			sign = "≥ "
		}
		value := number(g.Value) + " " + g.Unit
		switch {
		case !g.Known:
			met, value = "not measured", "-"
		case g.Met:
			met = "met"
		}
		rows = append(rows, []string{g.Text, sign + number(g.Limit) + " " + g.Unit, value, met})
	}
	return rows
}

func (p *Part) scenarios() []string {
	var out []string
	for _, f := range p.Figures {
		if !slices.Contains(out, f.Scenario) {
			out = append(out, f.Scenario)
		}
	}
	return out
}

// rows is a line for each metric and a column for each variant, in the order
// in which they were first measured. A cell is the median and, of several runs,
// their spread and number.
func (p *Part) rows(scenario string) [][]string {
	var metrics, variants []string
	units := map[string]string{}
	for _, f := range p.Figures {
		if f.Scenario != scenario {
			continue
		}
		if !slices.Contains(metrics, f.Metric) {
			metrics = append(metrics, f.Metric)
		}
		if !slices.Contains(variants, f.Variant) {
			variants = append(variants, f.Variant)
		}
		units[f.Metric] = f.Unit
	}
	rows := [][]string{append([]string{""}, variants...)}
	for _, m := range metrics {
		row := []string{strings.TrimSuffix(m+", "+units[m], ", ")}
		for _, v := range variants {
			cell := "-"
			if f := p.Find(scenario, v, m); f != nil {
				cell = number(f.Median)
				if len(f.Runs) > 1 {
					cell += fmt.Sprintf(" (%.0f %%, %d)", f.Spread()*100, len(f.Runs))
				}
			}
			row = append(row, cell)
		}
		rows = append(rows, row)
	}
	return rows
}

func number(v float64) string {
	s := strconv.FormatFloat(v, 'f', -1, 64)
	whole, frac, _ := strings.Cut(s, ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if frac != "" {
		frac = "." + frac
	}
	return sign + whole + frac
}

// table writes rows, the first as head, aligned so that it reads as text too.
func table(w io.Writer, rows [][]string) {
	width := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, c := range r {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	for n, r := range rows {
		for i, c := range r {
			fmt.Fprintf(w, "| %s%s ", c, strings.Repeat(" ", width[i]-utf8.RuneCountInString(c)))
		}
		fmt.Fprintln(w, "|")
		if n == 0 {
			for _, n := range width {
				fmt.Fprint(w, "|"+strings.Repeat("-", n+2))
			}
			fmt.Fprintln(w, "|")
		}
	}
}
