// Package file is the one file of a sidecar on a machine without containers:
// what the flags of `patchbay sidecar` say, by their names in camel case, and
// the task's declaration in ECS's words beside them.
//
// It owns the file's form. It must not know what a flag means: the command sets
// them. Start reading at [Parse].
package file

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"

	"patchbay/internal/suggest"
)

// Declaration are the keys that make the task's declaration.
var Declaration = []string{"serviceConnectConfiguration", "portMappings", "policies", "deploymentConfiguration"}

// File is what a file says.
type File struct {
	Flags       []Flag // in the order of the file
	Declaration []byte // JSON, as the environment variable of it has; nil if the file has none

	lines map[string]int // by path in the declaration
}

// Line is where a path of the declaration stands, or what it is a part of; 0 if
// the file has nothing of it.
func (f File) Line(path string) int {
	for ; path != ""; path = path[:max(strings.LastIndexAny(path, ".["), 0)] {
		if n := f.lines[path]; n > 0 {
			return n
		}
	}
	return 0
}

// maxNodes bounds what aliases of aliases may grow to.
const maxNodes = 20_000

// stand notes where each value below path stands.
func (f File) stand(n *yaml.Node, path string, left *int) {
	if *left--; *left < 0 || len(path) > 1000 {
		return
	}
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	for i, e := range n.Content {
		switch {
		case n.Kind == yaml.SequenceNode:
			at := fmt.Sprintf("%s[%d]", path, i)
			f.lines[at] = e.Line
			f.stand(e, at, left)
		case n.Kind == yaml.MappingNode && i%2 == 1:
			at := path + "." + n.Content[i-1].Value
			f.lines[at] = n.Content[i-1].Line
			f.stand(e, at, left)
		}
	}
}

// Flag is the value of one flag.
type Flag struct {
	Key, Name, Value string // the file's key, the flag's name and value
	Line             int
}

// Key is the file's key of a flag.
func Key(flag string) string {
	var b strings.Builder
	up := false
	for _, r := range flag {
		if r == '-' {
			up = true
			continue
		}
		if up {
			r, up = unicode.ToUpper(r), false
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Parse reads a file. flags are the names of the flags that may be in it. The
// error lists everything that is wrong, by line.
func Parse(name string, text []byte, flags []string) (File, error) {
	f := File{lines: map[string]int{}}
	var errs []error
	bad := func(line int, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s:%d: %w", name, line, fmt.Errorf(format, args...)))
	}
	root, second, err := document(text)
	if err != nil {
		return f, fmt.Errorf("%s: %w", name, err)
	}
	if second != nil {
		bad(second.Line, "a second document; allowed: one")
	}
	if root.Kind != yaml.MappingNode {
		bad(root.Line, "is no mapping; allowed: key: value")
		return f, errors.Join(errs...)
	}
	byKey := map[string]string{}
	for _, flag := range flags {
		byKey[Key(flag)] = flag
	}
	known := slices.Sorted(slices.Values(slices.Concat(slices.Collect(maps.Keys(byKey)), Declaration)))
	declared, seen := map[string]any{}, map[string]int{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if first := seen[key.Value]; first != 0 {
			bad(key.Line, "%s: stands in line %d already", key.Value, first)
			continue
		}
		seen[key.Value] = key.Line
		switch flag, isFlag := byKey[key.Value]; {
		case slices.Contains(Declaration, key.Value):
			var v any
			if err := value.Decode(&v); err != nil {
				bad(value.Line, "%s: %w", key.Value, err)
			}
			declared[key.Value] = v
			left := maxNodes
			f.lines[key.Value] = key.Line
			f.stand(value, key.Value, &left)
		case !isFlag:
			bad(key.Line, "%s", unknown(key.Value, known))
		default:
			text, err := scalar(value)
			if err != nil {
				bad(value.Line, "%s: %w", key.Value, err)
			}
			f.Flags = append(f.Flags, Flag{key.Value, flag, text, key.Line})
		}
	}
	if f.Declaration, err = declaration(declared); err != nil {
		line := 0
		for _, key := range Declaration {
			line = cmp.Or(line, seen[key])
		}
		bad(line, "the declaration: %w", err)
	}
	return f, errors.Join(errs...)
}

func unknown(key string, known []string) string {
	hint := ""
	if near := suggest.Near(key, known); near != "" {
		hint = " (did you mean " + near + "?)"
	}
	return fmt.Sprintf("%.80s: is not a key here%s; allowed: %s", key, hint, strings.Join(known, ", "))
}

// declaration is JSON of what the keys of the declaration have; nil: none is
// there.
func declaration(declared map[string]any) ([]byte, error) {
	if len(declared) == 0 {
		return nil, nil
	}
	return json.Marshal(declared)
}

// document is the first of a text, and what follows it; nil: nothing does.
func document(text []byte) (first, second *yaml.Node, err error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("is empty; allowed: xds, agent, serviceConnectConfiguration and so on")
		}
		return nil, nil, err
	}
	if !errors.Is(dec.Decode(&more), io.EOF) {
		second = &more
	}
	return doc.Content[0], second, nil
}

// scalar is a value as a flag takes it; a list of values is separated by
// commas.
func scalar(n *yaml.Node) (string, error) {
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag != "!!null":
		return n.Value, nil
	case n.Kind == yaml.SequenceNode:
		var all []string
		for _, e := range n.Content {
			if e.Kind != yaml.ScalarNode || strings.Contains(e.Value, ",") {
				return "", errors.New("allowed: a list of plain values")
			}
			all = append(all, e.Value)
		}
		return strings.Join(all, ","), nil
	}
	return "", errors.New("has no value; allowed: a plain value, or a list of them")
}
