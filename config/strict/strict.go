// Package strict reads a YAML file into a Go value and says everything that
// does not fit, each thing at its line.
//
// It owns the form of these problems, and what a file can get wrong before
// anybody asks what it means: its syntax, keys that are none or stand twice, values
// of another type. It must not know what it reads; a field's key is its yaml
// tag. Rules about values are the caller's: it adds them with [Document.Bad].
// Start reading at [Read].
package strict

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Document is a file that has been read, and what is wrong with it.
type Document struct {
	file     string
	root     reflect.Type
	example  string
	lines    map[string]int  // by dotted path
	spoiled  map[string]bool // paths about which something has been said: nothing follows from their value
	problems Problems
}

// Read decodes text into what into points at, a struct. What has no place there
// or the wrong type is named and put aside, so that the rest can still be
// checked; false: nothing can. file is what the text is called in problems, and
// example how one may begin.
func Read(file string, text []byte, into any, example string) (*Document, bool) {
	d := &Document{file: file, root: reflect.TypeOf(into).Elem(), example: example, lines: map[string]int{}, spoiled: map[string]bool{}}
	root, problem := document(text)
	if problem != nil {
		problem.File = file
		d.problems = Problems{*problem}
		return d, false
	}
	d.compare(root, d.root, "")
	if err := root.Decode(into); err != nil { // compare missed something
		d.problems = append(d.problems, Problem{File: file, Text: err.Error()})
		return d, false
	}
	return d, true
}

// Written reports whether the file has something at path, be it null.
func (d *Document) Written(path string) bool { return d.lines[path] > 0 }

// Spoiled reports whether something has been said about path, so that nothing
// follows from its value.
func (d *Document) Spoiled(path string) bool { return d.spoiled[path] }

// Spoil makes path one about which something has been said.
func (d *Document) Spoil(path string) { d.spoiled[path] = true }

// Problems are those until now, in the order of the file; those without a line
// come first.
func (d *Document) Problems() Problems {
	slices.SortStableFunc(d.problems, func(a, b Problem) int { return a.Line - b.Line })
	return d.problems
}

// Bad adds a problem at the line of path, or of the nearest key above it.
// Of a path that is spoiled, or lies below one, nothing more is said.
func (d *Document) Bad(path, format string, args ...any) {
	line := 0
	for at := path; ; at = above(at) {
		if d.spoiled[at] {
			return
		}
		if line == 0 {
			line = d.lines[at]
		}
		if at == "" {
			break
		}
	}
	d.problems = append(d.problems, Problem{d.file, line, path, fmt.Sprintf(format, args...)})
}

// spoil adds a problem with a node, and takes the node out of what follows.
func (d *Document) spoil(n *yaml.Node, path, format string, args ...any) {
	if d.Bad(path, format, args...); path == "" {
		d.problems[len(d.problems)-1].Line = n.Line
	}
	d.spoiled[path] = true
	*n = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: n.Line}
}

// above is the path that contains path, or "".
func above(path string) string {
	i := strings.LastIndexAny(path, ".[")
	if i < 0 {
		return ""
	}
	return path[:i]
}

// document is the one document of the file; an empty file is an empty one.
func document(text []byte) (*yaml.Node, *Problem) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, next yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}, nil
	case err != nil:
		return nil, notYAML(text, err)
	}
	switch err := dec.Decode(&next); {
	case errors.Is(err, io.EOF):
	case err != nil:
		return nil, notYAML(text, err)
	default:
		return nil, &Problem{Line: next.Line, Text: "a second document begins; allowed: one, without a line `---` in the middle"}
	}
	root := doc.Content[0]
	if root.Tag == "!!null" { // comments only, or an empty document
		root = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	}
	return root, nil
}

// notYAML turns the library's words into a problem at its line.
func notYAML(text []byte, err error) *Problem {
	said := strings.TrimPrefix(err.Error(), "yaml: ")
	p := &Problem{Text: "is not YAML: " + said}
	if rest, ok := strings.CutPrefix(said, "line "); ok {
		number, what, _ := strings.Cut(rest, ": ")
		if n, err := strconv.Atoi(number); err == nil {
			p.Line, p.Text = n, "is not YAML: "+what
		}
	}
	switch tab := tabbed(text); {
	case tab > 0:
		p.Line, p.Text = tab, "is indented with a tab; allowed: spaces"
	case strings.Contains(said, "mapping values are not allowed"), strings.Contains(said, "did not find expected key"):
		p.Text += "; is the line, or the one before it, indented too far or too little? Keys of one mapping begin in one column"
	}
	return p
}

// tabbed is the number of the first line whose indentation has a tab, or 0.
func tabbed(text []byte) int {
	n := 0
	for line := range bytes.Lines(text) {
		n++
		blank := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]
		if bytes.ContainsRune(blank, '\t') && len(bytes.TrimSpace(line)) > 0 {
			return n
		}
	}
	return 0
}
