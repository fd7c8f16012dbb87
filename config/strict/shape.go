package strict

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"

	"patchbay/internal/suggest"
)

// compare holds a node against the Go type that it will be decoded into, and
// makes null of what does not fit.
func (d *Document) compare(n *yaml.Node, t reflect.Type, path string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if n.Tag == "!!null" {
		return
	}
	if n.Kind == yaml.AliasNode { // one could contain itself
		d.spoil(n, path, "is a YAML alias (*%s); allowed: the value itself", n.Value)
		return
	}
	switch {
	case t.Kind() == reflect.Struct && n.Kind == yaml.MappingNode:
		fields := keysOf(t)
		d.entries(n, path, func(key string) reflect.Type { return fields[key] }, func(key string) string { return d.stranger(key, path, t) })
	case t.Kind() == reflect.Map && n.Kind == yaml.MappingNode:
		d.entries(n, path, func(string) reflect.Type { return t.Elem() }, nil)
	case t.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode:
		for i, e := range n.Content {
			at := path + "[" + strconv.Itoa(i) + "]"
			d.lines[at] = e.Line
			d.compare(e, t.Elem(), at)
		}
	case n.Kind != yaml.ScalarNode || t.Kind() == reflect.Struct || t.Kind() == reflect.Map || t.Kind() == reflect.Slice:
		d.spoil(n, path, "is %s; allowed: %s", found(n), d.form(t))
	default:
		// The library takes 80.5 for 80.
		if n.Decode(reflect.New(t).Interface()) != nil || t.Kind() == reflect.Uint16 && n.ShortTag() == "!!float" {
			d.spoil(n, path, "%s; allowed: %s", found(n), d.form(t))
		}
	}
}

// keysOf lists the keys of a mapping that is decoded into t.
func keysOf(t reflect.Type) map[string]reflect.Type {
	keys := map[string]reflect.Type{}
	for field := range t.Fields() {
		keys[field.Tag.Get("yaml")] = field.Type
	}
	return keys
}

// entries compares the values of a mapping, and takes out the pairs whose key
// is a stranger or stands there already.
func (d *Document) entries(n *yaml.Node, path string, typeOf func(string) reflect.Type, stranger func(string) string) {
	var kept []*yaml.Node
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := strings.TrimPrefix(path+"."+oneLine(key.Value), ".")
		say := func(format string, args ...any) {
			d.problems = append(d.problems, Problem{d.file, key.Line, at, fmt.Sprintf(format, args...)})
		}
		t := typeOf(key.Value)
		switch {
		case key.Kind != yaml.ScalarNode:
			say("a key is %s; allowed: a word", found(key))
			continue
		case t == nil:
			say("%s", stranger(key.Value))
			continue
		case seen[key.Value]:
			say("stands twice (first in line %d); allowed: each key once", d.lines[at])
			continue
		}
		seen[key.Value], d.lines[at] = true, key.Line
		d.compare(value, t, at)
		kept = append(kept, key, value)
	}
	n.Content = kept
}

// stranger says of a key that t does not have where it may belong.
func (d *Document) stranger(key, path string, t reflect.Type) string {
	here := keysOf(t)
	allowed := "; allowed here: " + strings.Join(slices.Sorted(maps.Keys(here)), ", ")
	if meant := suggest.Near(key, slices.Sorted(maps.Keys(here))); meant != "" {
		d.spoiled[strings.TrimPrefix(path+"."+meant, ".")] = true // nobody needs to hear that it is missing
		return "is not a key (did you mean " + meant + "?)" + allowed
	}
	var under []string
	for name, field := range here {
		for field.Kind() == reflect.Pointer {
			field = field.Elem()
		}
		if field.Kind() == reflect.Struct && keysOf(field)[key] != nil {
			under = append(under, name)
		}
	}
	if len(under) > 0 {
		slices.Sort(under)
		return "is not a key here, but one of " + strings.Join(under, ", ") + ": indent it below that" + allowed
	}
	if path != "" && keysOf(d.root)[key] != nil {
		d.spoiled[key] = true
		return "is not a key of " + path + ", but one of the file: begin it in the first column" + allowed
	}
	return "is not a key" + allowed
}

// found says what a node is.
func found(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		return Quote(n.Value)
	}
}

// Quote shows a value, or as much of it as tells which it is.
func Quote(s string) string {
	if len(s) > 80 {
		return strconv.Quote(s[:80]) + "…"
	}
	return strconv.Quote(s)
}

// oneLine shows a key as it is written, unless that would garble the message.
func oneLine(key string) string {
	if strings.ContainsFunc(key, func(r rune) bool { return !unicode.IsPrint(r) }) || len(key) > 128 {
		return Quote(key)
	}
	return key
}

// form says what a value of type t looks like.
func (d *Document) form(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "a duration such as 30s, 5m, 24h"
	case t == d.root:
		return "a mapping that begins, for example, with `" + d.example + "`"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Uint16:
		return "a whole number of 1 to 65535"
	case t.Kind() == reflect.Float64: // a share
		return "a number of percent, such as 10 or 0.5"
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		return "a list of mappings with the keys " + strings.Join(slices.Sorted(maps.Keys(keysOf(t.Elem()))), ", ")
	case t.Kind() == reflect.Slice:
		return "a list, such as [demo]"
	case t.Kind() == reflect.Struct:
		return "a mapping with the keys " + strings.Join(slices.Sorted(maps.Keys(keysOf(t))), ", ")
	case t.Kind() == reflect.Map:
		return "a mapping from names to values"
	default:
		return "a string"
	}
}
