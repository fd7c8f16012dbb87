// Package inject takes a user's definition of tasks and gives back the same
// with sidecars.
//
// It owns what is added, and that it can be taken away again without a trace:
// it works on lines, so that comments, order and style of the user's file stay
// as they are. It is pure: no network, no files. It must not know how a
// sidecar does its work. Start reading at [Compose].
package inject

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a file.
type Problem struct {
	File string
	Line int    // 0 when the thing is missing
	Path string // dotted, for example services.backend.network_mode
	Text string // what is wrong and what is allowed
}

func (p Problem) String() string {
	if p.Line == 0 {
		return fmt.Sprintf("%s: %s: %s", p.File, p.Path, p.Text)
	}
	return fmt.Sprintf("%s:%d: %s: %s", p.File, p.Line, p.Path, p.Text)
}

// Problems is everything that is wrong, in the order of the file.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.String()
	}
	return strings.Join(lines, "\n")
}

// Compose adds to a compose file a sidecar for each service that carries
// x-service-connect, and once the control plane with its CA. A file that has
// been injected before is brought up to date. The same input gives the same
// output, and [Remove] gives the input back byte for byte. name is the file's
// name in messages. Any error is of type [Problems].
func Compose(name string, text []byte) ([]byte, error) {
	plain, err := Remove(name, text)
	if err != nil {
		return nil, err
	}
	f, problems := read(name, plain)
	if len(problems) > 0 {
		return nil, problems
	}
	out := f.apply()
	if err := f.verify(plain, out); err != nil {
		return nil, Problems{{File: name, Path: "file", Text: "is written in a way that can't be changed line by line: " + err.Error() +
			"; allowed: block style, one key in each line, no service that merges (<<) one with x-service-connect"}}
	}
	return out, nil
}

// The marks of what was added. A line of the user's that had to go stays as a
// comment behind was.
const (
	begin = "# >>> patchbay inject: made from x-service-connect; what you change here is lost at the next run"
	end   = "# <<< patchbay inject"
	was   = "#patchbay-was:"
)

// Remove takes away what Compose added. A file that has nothing of it comes
// back as it is. Any error is of type [Problems].
func Remove(name string, text []byte) ([]byte, error) {
	const alone = "a mark of patchbay inject without its partner; allowed: the marks as they were made, or none"
	var out []string
	opened := 0
	for i, line := range strings.Split(string(text), "\n") {
		mark := strings.Trim(line, " \r")
		switch {
		case mark == begin && opened == 0:
			opened = i + 1
		case mark == end && opened > 0:
			opened = 0
		case mark == begin || mark == end:
			return nil, Problems{{name, i + 1, "file", alone}}
		case opened > 0:
		default:
			out = append(out, strings.TrimPrefix(line, was))
		}
	}
	if opened > 0 {
		return nil, Problems{{name, opened, "file", alone}}
	}
	return []byte(strings.Join(out, "\n")), nil
}

// edit inserts lines before the line of index at, and hides the lines from at
// up to until.
type edit struct {
	at, until int
	insert    []string
}

// apply makes the changes in the text.
func (f *file) apply() []byte {
	var edits []edit
	for _, c := range f.changes {
		edits = append(edits, f.edits(c)...)
	}
	slices.SortStableFunc(edits, func(a, b edit) int { return cmp.Compare(a.at, b.at) })
	var out []string
	next := 0
	for _, e := range edits {
		out = append(out, f.lines[next:max(next, e.at)]...)
		next = max(next, e.at)
		for _, line := range e.insert {
			out = append(out, line+f.eol)
		}
		for ; next < e.until; next++ {
			out = append(out, was+f.lines[next])
		}
	}
	return []byte(strings.Join(append(out, f.lines[next:]...), "\n"))
}

// edits turns a change of a mapping into edits of lines.
func (f *file) edits(c change) []edit {
	var edits []edit
	for _, e := range c.hide {
		edits = append(edits, edit{at: e.first, until: e.last + 1})
	}
	if len(c.set) > 0 {
		pad := strings.Repeat(" ", c.indent)
		insert := []string{pad + begin}
		for _, line := range encode(c.set, f.step) {
			if line != "" {
				line = pad + line
			}
			insert = append(insert, line)
		}
		edits = append(edits, edit{at: c.at, until: c.at, insert: append(insert, pad+end)})
	}
	return edits
}

// change is what happens to one mapping of the file: entries that are hidden,
// and fields that are written before the line of index at.
type change struct {
	path    []string // of the mapping, from the top
	hide    []entry
	unmerge []string // keys that go with a hidden <<
	set     object
	at      int
	indent  int
}

// verify holds what the text became against what the changes mean, and
// whether they can be undone. A style that the lines don't follow ends here.
func (f *file) verify(plain, out []byte) error {
	back, err := Remove(f.name, out)
	switch {
	case err != nil:
		return err
	case !bytes.Equal(back, plain):
		return fmt.Errorf("the change could not be undone")
	}
	return f.sameMeaning(out)
}
