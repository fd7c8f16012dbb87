package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// parse decodes strictly and checks. Keys and types are compared first: a
// value that has the wrong type can't be checked further.
func parse(file string, text []byte) (Config, Problems) {
	c := Default()
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return c, Problems{{File: file, Path: "file", Text: "is not YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}}
	}
	if doc.Kind == 0 { // an empty file
		doc = yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{{Kind: yaml.MappingNode}}}
	}
	k := &checker{file: file, lines: map[string]int{}}
	k.compare(doc.Content[0], reflect.TypeFor[Config](), "")
	if len(k.problems) > 0 {
		return c, k.problems
	}
	if err := doc.Decode(&c); err != nil {
		return c, Problems{{File: file, Path: "file", Text: err.Error()}}
	}
	if _, written := k.lines["cloudMap"]; written && c.CloudMap == nil {
		c.CloudMap = &CloudMap{} // `cloudMap:` alone: all defaults
	}
	k.check(c)
	slices.SortStableFunc(k.problems, func(a, b Problem) int { return a.Line - b.Line })
	return c, k.problems
}

type checker struct {
	file     string
	lines    map[string]int // by dotted path
	problems Problems
}

// bad adds a problem at the line of path, or of the nearest key above it.
func (k *checker) bad(path, format string, args ...any) {
	line := 0
	for at := path; line == 0 && at != ""; {
		line = k.lines[at]
		i := strings.LastIndexByte(at, '.')
		if i < 0 {
			break
		}
		at = at[:i]
	}
	k.problems = append(k.problems, Problem{k.file, line, path, fmt.Sprintf(format, args...)})
}

// compare holds a node against the Go type that it will be decoded into.
func (k *checker) compare(n *yaml.Node, t reflect.Type, path string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if n.Tag == "!!null" {
		return
	}
	here := path
	if here == "" {
		here = "file"
	}
	if n.Kind == yaml.AliasNode { // one could contain itself
		k.bad(here, "is a YAML alias; allowed: the value itself")
		return
	}
	switch {
	case t.Kind() == reflect.Struct && n.Kind == yaml.MappingNode:
		fields := map[string]reflect.Type{}
		for i := range t.NumField() {
			fields[t.Field(i).Tag.Get("yaml")] = t.Field(i).Type
		}
		k.entries(n, path, func(key string) (reflect.Type, string) {
			return fields[key], "is not a key here; allowed: " + sorted(fields)
		})
	case t.Kind() == reflect.Map && n.Kind == yaml.MappingNode:
		k.entries(n, path, func(string) (reflect.Type, string) { return t.Elem(), "" })
	case t.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode:
		for i, e := range n.Content {
			at := fmt.Sprintf("%s[%d]", path, i)
			k.lines[at] = e.Line
			k.compare(e, t.Elem(), at)
		}
	case t.Kind() == reflect.Struct || t.Kind() == reflect.Map:
		k.bad(here, "has the wrong type; allowed: a mapping")
	case t.Kind() == reflect.Slice:
		k.bad(here, "has the wrong type; allowed: a list")
	case n.Kind != yaml.ScalarNode:
		k.bad(here, "has the wrong type; allowed: %s", scalar(t))
	default:
		if n.Decode(reflect.New(t).Interface()) != nil {
			k.bad(here, "%q; allowed: %s", n.Value, scalar(t))
		}
	}
}

func (k *checker) entries(n *yaml.Node, path string, typeOf func(string) (reflect.Type, string)) {
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, at := n.Content[i].Value, strings.TrimPrefix(path+"."+n.Content[i].Value, ".")
		k.lines[at] = n.Content[i].Line
		t, unknown := typeOf(key)
		switch {
		case t == nil:
			k.bad(at, "%s", unknown)
		case seen[key]:
			k.bad(at, "stands twice; allowed: each key once")
		default:
			k.compare(n.Content[i+1], t, at)
		}
		seen[key] = true
	}
}

func scalar(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "a duration such as 30s, 5m, 24h"
	case t.Kind() == reflect.Bool:
		return "true or false"
	default:
		return "a string"
	}
}

func sorted[V any](m map[string]V) string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return strings.Join(keys, ", ")
}
