package inject

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"patchbay/mesh"
)

// file is a compose file as it was read.
type file struct {
	name     string
	lines    []string
	eol      string // what ends a line besides \n
	step     int    // by how much a service's keys are indented below its name
	root     *yaml.Node
	top      mapping
	services mapping
	all      map[string]*service // in the file
	tasks    []*service          // those in the mesh, in the file's order
	settings settings
	problems Problems
	changes  []change
}

// settings is the top-level x-patchbay.
type settings struct {
	Namespace   string // of services that name none
	TrustDomain string
	Image       string
	CAImage     string
	Build       string // context from which both images are built; empty: they are pulled
}

// entry is one key of a mapping and the lines that it fills.
type entry struct {
	key, value  *yaml.Node
	first, last int // indices of lines, last included
}

// mapping is a block mapping of the file.
type mapping struct {
	entries []entry
	indent  int
}

func (m mapping) get(key string) *entry {
	for i := range m.entries {
		if m.entries[i].key.Value == key {
			return &m.entries[i]
		}
	}
	return nil
}

// end is the index of the line after the last entry.
func (m mapping) end() int { return m.entries[len(m.entries)-1].last + 1 }

func (f *file) bad(line int, path, format string, args ...any) {
	f.problems = append(f.problems, Problem{f.name, line, path, fmt.Sprintf(format, args...)})
}

// read finds the services, checks everything, and plans the changes.
func read(name string, text []byte) (*file, Problems) {
	f := &file{
		name: name, lines: strings.Split(string(text), "\n"), all: map[string]*service{}, step: 2,
		settings: settings{TrustDomain: "patchbay", Image: "patchbay:dev", CAImage: "patchbay-devca:dev"},
	}
	if strings.Contains(string(text), "\r\n") {
		f.eol = "\r"
	}
	if f.document(text) {
		f.readAll()
	}
	slices.SortStableFunc(f.problems, func(a, b Problem) int { return a.Line - b.Line })
	if len(f.problems) == 0 {
		f.plan()
	}
	return f, f.problems
}

// document reads the one document of the file; false if there is none to work
// on.
func (f *file) document(text []byte) bool {
	var doc, second yaml.Node
	dec := yaml.NewDecoder(strings.NewReader(string(text)))
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		f.bad(0, "file", "is empty; allowed: a compose file")
		return false
	} else if err != nil {
		f.bad(0, "file", "is not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
		return false
	}
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		f.bad(second.Line, "file", "has a second document; allowed: one")
		return false
	}
	f.root = doc.Content[0]
	if !block(f.root) {
		f.bad(f.root.Line, "file", "is not a compose file in block style; allowed: a mapping with services, one key in each line")
		return false
	}
	f.top = f.mapping(f.root, len(f.lines)-1)
	return true
}

func (f *file) readAll() {
	if e := f.top.get("x-patchbay"); e != nil {
		f.readSettings(*e)
	}
	e := f.top.get("services")
	if e == nil || !block(e.value) {
		f.bad(0, "services", "is missing or not in block style; allowed: one service below the other")
		return
	}
	f.services = f.mapping(e.value, e.last)
	for _, e := range f.services.entries {
		f.readService(e)
	}
	f.checkTogether()
}

// block reports whether n is a mapping with one key in each line.
func block(n *yaml.Node) bool {
	return n.Kind == yaml.MappingNode && n.Style&yaml.FlowStyle == 0 && len(n.Content) > 0
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// resolve follows aliases.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// mapping finds the lines of each entry of n, the last of which ends at last
// or before. What follows an entry is its own only where it is indented more.
func (f *file) mapping(n *yaml.Node, last int) mapping {
	m := mapping{indent: n.Content[0].Column - 1}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		until := last
		if i+2 < len(n.Content) {
			until = n.Content[i+2].Line - 2
		}
		first := key.Line - 1
		until = min(max(first, until), len(f.lines)-1)
		for until > first && apart(f.lines[until], m.indent) {
			until--
		}
		m.entries = append(m.entries, entry{key, value, first, until})
	}
	return m
}

// apart reports whether a line after an entry is not a part of it: empty, a
// comment that is not indented more than the entry, or the document's end.
func apart(line string, indent int) bool {
	s := strings.TrimLeft(line, " ")
	return strings.TrimSpace(s) == "" || s[0] == '#' && len(line)-len(s) <= indent || strings.HasPrefix(line, "...")
}

// merged are the keys that come by <<, with their values. What stands first
// wins.
func merged(n *yaml.Node) (keys []string, values map[string]*yaml.Node) {
	values = map[string]*yaml.Node{}
	left := 1000 // aliases may refer to aliases, and to themselves
	var take func(n *yaml.Node)
	take = func(n *yaml.Node) {
		if left--; left < 0 {
			return
		}
		switch n = resolve(n); n.Kind {
		case yaml.SequenceNode:
			for _, e := range n.Content {
				take(e)
			}
		case yaml.MappingNode:
			var deeper []*yaml.Node
			for i := 0; i+1 < len(n.Content); i += 2 {
				key := n.Content[i].Value
				if key == "<<" {
					deeper = append(deeper, n.Content[i+1])
				} else if values[key] == nil {
					keys, values[key] = append(keys, key), n.Content[i+1]
				}
			}
			for _, d := range deeper {
				take(d)
			}
		}
	}
	take(n)
	return keys, values
}

var (
	trustDomain = regexp.MustCompile(`^[a-z0-9._-]{1,255}$`)
	imageName   = regexp.MustCompile(`^[A-Za-z0-9._/:@${}-]+$`)
)

func (f *file) readSettings(e entry) {
	s := &f.settings
	known := map[string]struct {
		into  *string
		fits  func(string) bool
		allow string
	}{
		"namespace":   {&s.Namespace, mesh.ValidDNSName, "a DNS name in lower case"},
		"trustDomain": {&s.TrustDomain, trustDomain.MatchString, "up to 255 of [a-z0-9._-]"},
		"image":       {&s.Image, imageName.MatchString, "the name of an image"},
		"caImage":     {&s.CAImage, imageName.MatchString, "the name of an image"},
		"build":       {&s.Build, func(v string) bool { return v != "" && !strings.ContainsAny(v, "\n\r") }, "the directory of patchbay's sources"},
	}
	names := strings.Join(slices.Sorted(maps.Keys(known)), ", ")
	if e.value.Kind != yaml.MappingNode {
		f.bad(e.key.Line, "x-patchbay", "has the wrong type; allowed: a mapping of %s", names)
		return
	}
	for i := 0; i+1 < len(e.value.Content); i += 2 {
		key, value := e.value.Content[i], resolve(e.value.Content[i+1])
		path := "x-patchbay." + key.Value
		k, ok := known[key.Value]
		switch {
		case !ok:
			f.bad(key.Line, path, "is not a key here; allowed: %s", names)
		case value.Kind != yaml.ScalarNode || isNull(value):
			f.bad(key.Line, path, "has the wrong type; allowed: a string")
		case !k.fits(value.Value):
			f.bad(key.Line, path, "%q; allowed: %s", value.Value, k.allow)
		default:
			*k.into = value.Value
		}
	}
}
