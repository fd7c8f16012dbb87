package inject

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// object is a mapping that keeps its order.
type object []field

type field struct {
	key   string
	value any // string, quoted, literal, bool, list, object, *yaml.Node, or nil
}

type (
	list    []any
	literal string // several lines, written as such
	quoted  string // one line, in single quotes
)

// bare is what needs no quotes, and surprise has the words that one YAML
// parser or another reads as something else than a string.
var (
	bare     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9._/-]*$`)
	surprise = []string{"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
)

// node turns a value into YAML.
func node(v any) *yaml.Node {
	switch v := v.(type) {
	case nil:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}
	case *yaml.Node:
		return v
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: fmt.Sprint(v)}
	case literal:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: string(v), Style: yaml.LiteralStyle}
	case quoted:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: string(v), Style: yaml.SingleQuotedStyle}
	case string:
		n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: v, Style: yaml.DoubleQuotedStyle}
		if bare.MatchString(v) && !slices.Contains(surprise, strings.ToLower(v)) {
			n.Style = 0
		}
		return n
	case list:
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		for _, e := range v {
			n.Content = append(n.Content, node(e))
		}
		return n
	case object:
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		for _, f := range v {
			n.Content = append(n.Content, node(f.key), node(f.value))
		}
		return n
	}
	panic(fmt.Sprintf("inject: no YAML for %T", v))
}

// words is a list of strings.
func words(s ...string) list {
	out := make(list, len(s))
	for i, w := range s {
		out[i] = w
	}
	return out
}

// flow writes a list on one line.
func flow(l list) *yaml.Node {
	n := node(l)
	n.Style = yaml.FlowStyle
	return n
}

// encode writes an object as lines of YAML, nested by step.
func encode(o object, step int) []string {
	var b strings.Builder
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(step)
	if err := enc.Encode(node(o)); err != nil {
		panic(err) // only nodes of this package and of a file that was read come here
	}
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

// maxNodes bounds what aliases of aliases may grow to.
const maxNodes = 20_000

// copyOf is n without comments and anchors, with aliases written out; null, so
// that verify fails, if that is too large.
func copyOf(n *yaml.Node) *yaml.Node {
	left := maxNodes
	if c := copyNode(n, &left); c != nil {
		return c
	}
	return node(nil)
}

func copyNode(n *yaml.Node, left *int) *yaml.Node {
	if *left--; *left < 0 || n == nil {
		return nil
	}
	if n.Kind == yaml.AliasNode {
		return copyNode(n.Alias, left)
	}
	c := &yaml.Node{Kind: n.Kind, Tag: n.Tag, Value: n.Value, Style: n.Style}
	for _, e := range n.Content {
		one := copyNode(e, left)
		if one == nil {
			return nil
		}
		c.Content = append(c.Content, one)
	}
	return c
}

// sameMeaning compares the meaning of the text with that of the changes made
// to the meaning of the plain file.
func (f *file) sameMeaning(out []byte) error {
	var want, got map[string]any
	if err := f.root.Decode(&want); err != nil {
		return err
	}
	if err := yaml.Unmarshal(out, &got); err != nil {
		return fmt.Errorf("the result is not YAML: %w", err)
	}
	for _, c := range f.changes {
		at := want
		for _, key := range c.path {
			next, _ := at[key].(map[string]any)
			if next == nil {
				next = map[string]any{}
				at[key] = next
			}
			at = next
		}
		for _, e := range c.hide {
			if e.key.Value == "<<" {
				for _, key := range c.unmerge {
					delete(at, key)
				}
			}
			delete(at, e.key.Value)
		}
		var set map[string]any
		if err := node(c.set).Decode(&set); err != nil {
			return err
		}
		maps.Copy(at, set)
	}
	return difference(want, got)
}

// difference names the first key whose value is another.
func difference(want, got map[string]any) error {
	keys := map[string]bool{}
	for k := range want {
		keys[k] = true
	}
	for k := range got {
		keys[k] = true
	}
	names := make([]string, 0, len(keys))
	for k := range keys {
		names = append(names, k)
	}
	slices.Sort(names)
	for _, k := range names {
		if reflect.DeepEqual(want[k], got[k]) {
			continue
		}
		w, wok := want[k].(map[string]any)
		g, gok := got[k].(map[string]any)
		if wok && gok {
			if err := difference(w, g); err != nil {
				return fmt.Errorf("%s.%w", k, err)
			}
		}
		return fmt.Errorf("%s would mean something else", k)
	}
	return nil
}
