package show

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"patchbay/admin/api"
)

// Line prints v as one line of JSON, or as one document of YAML: for events.
func (p *Printer) Line(v any) error {
	if p.Format == YAML {
		fmt.Fprintln(p.W, "---")
		return p.Value(v)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	_, err = fmt.Fprintln(p.W, string(b))
	return err
}

// Sent prints what a node is sent. Contents are printed if they are asked for,
// and in the wide format.
func (p *Printer) Sent(s *api.Sent, contents bool) error {
	rows := make([][]string, 0, len(s.Resources))
	for _, r := range s.Resources {
		state := p.paint(good, r.State)
		switch r.State {
		case api.Rejected:
			state = p.paint(bad, r.State) + ": " + r.Error
		case api.Acknowledged:
		default:
			state = p.paint(weak, r.State)
		}
		rows = append(rows, []string{r.Type, r.Name, r.Version, dash(r.Accepted), fmt.Sprint(r.Bytes), state})
	}
	p.table([]string{"TYPE", "NAME", "VERSION", "ACCEPTED", "BYTES", "STATE"}, rows)
	for _, m := range s.Missing {
		p.line("%s %s: asked for, and there is none", p.paint(weak, "!"), m)
	}
	if !contents && p.Format != Wide {
		return nil
	}
	for _, r := range s.Resources {
		var v any
		if err := json.Unmarshal(r.Content, &v); err != nil {
			return fmt.Errorf("%s %s: %w", r.Type, r.Name, err)
		}
		var b bytes.Buffer
		enc := yaml.NewEncoder(&b)
		enc.SetIndent(2)
		if err := enc.Encode(v); err != nil {
			return fmt.Errorf("%s %s: %w", r.Type, r.Name, err)
		}
		p.line("\n%s", p.paint(bold, "# "+r.Type+" "+r.Name+", from "+cmp.Or(r.Source, "the node's own settings")))
		p.line("%s", strings.TrimRight(b.String(), "\n"))
	}
	return nil
}

// Push prints one event of a stream.
func (p *Printer) Push(e api.Push) {
	at := p.paint(faint, e.At.Local().Format("15:04:05.000"))
	if e.Missed > 0 {
		p.line("%s %s", at, p.paint(weak, fmt.Sprintf("… %d events were missed", e.Missed)))
	}
	took := time.Duration(e.TookSeconds * float64(time.Second)).Round(10 * time.Microsecond)
	switch e.Event {
	case "push":
		what := strings.Join(e.Names, " ")
		if more := e.Resources - len(e.Names); more > 0 {
			what += fmt.Sprintf(" and %d more", more)
		}
		for _, r := range e.Removed {
			what += " " + p.paint(bad, "-"+r)
		}
		p.line("%s → %-4s %s  %d bytes  nonce %s", at, e.Type, cmp.Or(strings.TrimSpace(what), "(nothing: that is all there is)"), e.Bytes, e.Nonce)
	case "nack":
		p.line("%s %s %-4s nonce %s  after %s: %s", at, p.paint(bad, "✗"), e.Type, e.Nonce, took, e.Error)
	default:
		p.line("%s %s %-4s nonce %s  after %s", at, p.paint(good, "✓"), e.Type, e.Nonce, took)
	}
}

// Difference prints how an Envoy differs from what it should have.
func (p *Printer) Difference(d *api.Difference) {
	total := 0
	var counts []string
	for _, t := range slices.Sorted(maps.Keys(d.Compared)) {
		total += d.Compared[t]
		counts = append(counts, fmt.Sprintf("%d %s", d.Compared[t], t))
	}
	if len(d.Resources) == 0 {
		p.line("%s %s has what it should have: %d resources (%s)", p.paint(good, "✓"), d.Node, total, strings.Join(counts, ", "))
		return
	}
	p.line("%s: %d of %d resources differ (- Envoy has, + wanted)", d.Node, len(d.Resources), total)
	for _, r := range d.Resources {
		mark := map[string]string{api.Lacking: p.paint(good, "+"), api.Unwanted: p.paint(bad, "-"), api.Differing: p.paint(weak, "~")}[r.Kind]
		words := map[string]string{api.Lacking: "Envoy does not have it", api.Unwanted: "Envoy has it, and should not", api.Differing: "differs"}[r.Kind]
		p.line("%s %s %s: %s%s", mark, r.Type, p.paint(bold, r.Name), words, versions(r))
		if r.State != "" || r.Error != "" {
			p.line("    %s", strings.TrimSpace(r.State+" "+r.Error))
		}
		p.changes(r.Changes)
	}
}

func versions(r api.ResourceDifference) string {
	if r.Wanted == "" || r.Has == "" || r.Wanted == r.Has {
		return ""
	}
	return fmt.Sprintf(" (has version %s, wanted %s)", r.Has, r.Wanted)
}

func (p *Printer) changes(all []api.Change) {
	for _, c := range all {
		path := cmp.Or(c.Path, "/")
		if c.Op != "add" {
			p.line("    %s", p.paint(bad, "- "+path+": "+inline(c.Old)))
		}
		if c.Op != "remove" {
			p.line("    %s", p.paint(good, "+ "+path+": "+inline(c.New)))
		}
	}
}

// inline is a value on one line, shortened.
func inline(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	const most = 200
	if r := []rune(string(b)); len(r) > most {
		return string(r[:most]) + "…"
	}
	return string(b)
}

// Note prints a line of what happens, with its time.
func (p *Printer) Note(at time.Time, text string) {
	p.line("%s %s", p.paint(faint, at.Local().Format("15:04:05.000")), text)
}

// Fault prints what applications saw while a fault lasted.
func (p *Printer) Fault(all []api.Suffered) {
	if len(all) == 0 {
		p.line("no application made a request meanwhile")
		return
	}
	rows := make([][]string, 0, len(all))
	for _, r := range all {
		words := ""
		if r.Lost {
			words = p.paint(weak, "it did not answer afterwards")
		}
		failed := fmt.Sprint(r.Failed)
		if r.Failed > 0 {
			failed = p.paint(bad, failed)
		}
		rows = append(rows, []string{r.Node, fmt.Sprint(r.Requests), failed, fmt.Sprint(r.Aborted), fmt.Sprint(r.Delayed), fmt.Sprint(r.Distrusted), words})
	}
	p.table([]string{"CALLER", "REQUESTS", "FAILED", "ABORTED", "DELAYED", "DISTRUSTED", ""}, rows)
}
