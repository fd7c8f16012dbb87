// Package show prints the mesh's status and diagnoses, for people and for
// programs.
//
// It owns words, tables and colours. It must not judge: what is wrong comes
// from package diagnose. Start reading at [New].
package show

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"go.yaml.in/yaml/v3"
	"golang.org/x/term"

	"patchbay/diagnose"
)

// The formats of -o.
const (
	Text = "text"
	Wide = "wide"
	JSON = "json"
	YAML = "yaml"
)

// Formats lists what -o takes.
var Formats = []string{Text, Wide, JSON, YAML}

// Printer writes to one output.
type Printer struct {
	W      io.Writer
	Format string
	Color  bool
	Width  int // of the terminal; 0: no limit

	raw io.Writer // W without care; nil: W is
}

// New makes a printer. Colours are used only on a terminal, and never with
// NO_COLOR in the environment.
func New(w io.Writer, format string) (*Printer, error) {
	p := &Printer{W: w, Format: format}
	switch format {
	case Text, Wide, JSON, YAML:
	default:
		return nil, fmt.Errorf("output %q; allowed: %s", format, strings.Join(Formats, ", "))
	}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.Color = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			p.Width = width
		}
	}
	if p.ForPeople() {
		p.W, p.raw = visible{w, p.Color}, w
	}
	return p, nil
}

// ForPeople reports whether the output is text.
func (p *Printer) ForPeople() bool { return p.Format == Text || p.Format == Wide }

// Value prints v as JSON or YAML. Both have the same keys.
func (p *Printer) Value(v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	if p.Format == YAML {
		var plain any
		if err := json.Unmarshal(b, &plain); err != nil {
			return fmt.Errorf("print: %w", err)
		}
		enc := yaml.NewEncoder(p.W)
		enc.SetIndent(2)
		return errors.Join(enc.Encode(plain), enc.Close())
	}
	_, err = fmt.Fprintln(p.W, string(b))
	return err
}

// The meanings of colours.
var (
	good  = text.Colors{text.FgGreen}
	bad   = text.Colors{text.FgRed, text.Bold}
	weak  = text.Colors{text.FgYellow}
	faint = text.Colors{text.Faint}
	bold  = text.Colors{text.Bold}
)

// paint colours words, where colours are used.
func (p *Printer) paint(c text.Colors, s string) string {
	if !p.Color || s == "" {
		return s
	}
	return c.EscapeSeq() + s + text.Reset.EscapeSeq()
}

// Clear empties a terminal's screen before the next output.
func (p *Printer) Clear() {
	if p.Width > 0 && p.ForPeople() {
		w := p.W
		if p.raw != nil {
			w = p.raw
		}
		fmt.Fprint(w, "\x1b[H\x1b[2J\x1b[3J")
	}
}

func (p *Printer) line(format string, args ...any) { fmt.Fprintf(p.W, format+"\n", args...) }

// table prints rows under a header, in columns two spaces apart.
func (p *Printer) table(header []string, rows [][]string) {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	head := make(table.Row, len(header))
	for i, h := range header {
		head[i] = p.paint(faint, h)
	}
	t.AppendHeader(head)
	for _, r := range rows {
		row := make(table.Row, len(r))
		for i, c := range r {
			row[i] = c
		}
		t.AppendRow(row)
	}
	if p.Width > 20 {
		// The last column holds prose: it may break.
		t.SetColumnConfigs([]table.ColumnConfig{{Number: len(header), WidthMax: max(24, p.Width-width(header, rows)), WidthMaxEnforcer: text.WrapSoft}})
	}
	for l := range strings.Lines(t.Render() + "\n") {
		fmt.Fprintln(p.W, strings.TrimRight(l, " \n"))
	}
}

// width is what all columns but the last need.
func width(header []string, rows [][]string) int {
	n := 0
	for i := range len(header) - 1 {
		w := len(header[i])
		for _, r := range rows {
			w = max(w, text.StringWidthWithoutEscSequences(r[i]))
		}
		n += w + 2
	}
	return n
}

// span is a duration for people.
func span(d time.Duration) string {
	neg := ""
	if d < 0 {
		d, neg = -d, "-"
	}
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%s%.0fd", neg, d.Hours()/24)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%s%.0fh", neg, d.Hours())
	case d >= 2*time.Minute:
		return fmt.Sprintf("%s%.0fm", neg, d.Minutes())
	case d >= 2*time.Second:
		return fmt.Sprintf("%s%.0fs", neg, d.Seconds())
	}
	return fmt.Sprintf("%s%dms", neg, d.Milliseconds())
}

// Findings prints each finding as cause, evidence and fix.
func (p *Printer) Findings(all []diagnose.Finding) {
	for i, f := range all {
		if i > 0 {
			p.line("")
		}
		mark := p.paint(bad, "✗")
		if f.Severity == diagnose.Warning {
			mark = p.paint(weak, "!")
		}
		p.line("%s %s %s: %s", mark, p.paint(bold, f.Code), f.Title, p.paint(bold, f.Subject))
		p.block("because  ", f.Cause)
		for _, e := range f.Evidence {
			if e != "" {
				p.block("seen     ", e)
			}
		}
		for _, x := range f.Fix {
			p.block("fix      ", x)
		}
	}
}

// block prints a labelled text, indented, with its own lines under each other.
func (p *Printer) block(label, s string) {
	if p.Width > 40 {
		s = text.WrapSoft(s, p.Width-4-len(label))
	}
	for i, l := range strings.Split(strings.TrimRight(s, "\n"), "\n") {
		if i > 0 {
			label = strings.Repeat(" ", len(label))
		}
		p.line("    %s%s", p.paint(faint, label), strings.TrimRight(l, " "))
	}
}
