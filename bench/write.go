package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Files of the results, in the directory of the documentation.
const (
	JSONFile     = "benchmarks.json"
	MarkdownFile = "benchmarks.md"
)

// The tables stand between these lines of the page; the rest is written by
// hand.
const (
	begin = "<!-- make bench writes below this line -->"
	end   = "<!-- make bench writes above this line -->"
)

// Results is the content of the JSON file: the newest run of each part.
type Results struct {
	Version int     `json:"version"`
	Parts   []*Part `json:"parts"`
}

// Write puts parts in place of the older results of the same names in dir, and
// brings the page up to date.
func Write(dir string, order []string, parts []*Part) error {
	file := filepath.Join(dir, JSONFile)
	r := Results{Version: 1}
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %s: %w; remove it to start anew", file, err)
	}
	for _, p := range parts {
		if i := slices.IndexFunc(r.Parts, func(o *Part) bool { return o.Name == p.Name }); i >= 0 {
			r.Parts[i] = p
		} else {
			r.Parts = append(r.Parts, p)
		}
	}
	slices.SortStableFunc(r.Parts, func(a, b *Part) int { return slices.Index(order, a.Name) - slices.Index(order, b.Name) })
	if b, err = json.MarshalIndent(r, "", " "); err != nil {
		return err
	}
	if err := os.WriteFile(file, append(compact(b), '\n'), 0o644); err != nil { //nolint:gosec // documentation
		return err
	}
	return page(filepath.Join(dir, MarkdownFile), r.Parts)
}

// compact puts each list of runs on one line.
func compact(b []byte) []byte {
	var out strings.Builder
	inRuns := false
	for line := range strings.Lines(string(b)) {
		switch text := strings.TrimSpace(line); {
		case strings.HasPrefix(text, `"runs": [`):
			inRuns = true
			out.WriteString(strings.TrimRight(line, "\n"))
		case inRuns && strings.HasPrefix(text, "]"):
			inRuns = false
			out.WriteString(text + "\n")
		case inRuns:
			out.WriteString(text)
		default:
			out.WriteString(line)
		}
	}
	return []byte(strings.TrimRight(out.String(), "\n"))
}

func page(file string, parts []*Part) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(b), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s lacks the lines between which the tables go:\n%s\n%s", file, begin, end)
	}
	var out strings.Builder
	out.WriteString(head + begin + "\n")
	for _, p := range parts {
		p.Markdown(&out)
	}
	out.WriteString("\n" + end + tail)
	return os.WriteFile(file, []byte(out.String()), 0o644) //nolint:gosec // documentation
}
