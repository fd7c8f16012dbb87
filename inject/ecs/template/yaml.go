package template

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"patchbay/declare/tree"
)

var errStyle = errors.New("is not in block style; allowed: one key in each line, down to the properties")

// linesOf finds the lines of a resource.
func linesOf(text []byte, resource string) (span, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return span{}, err
	}
	if len(doc.Content) == 0 {
		return span{}, errAbsent
	}
	lines := strings.SplitAfter(string(text), "\n")
	at, last := doc.Content[0], len(lines)-1
	first := 0
	for _, key := range []string{"Resources", resource} {
		if !block(at) {
			return span{}, errStyle
		}
		i := index(at, key)
		if i < 0 {
			return span{}, errAbsent
		}
		k := at.Content[i]
		first = k.Line - 1
		if i+2 < len(at.Content) {
			last = at.Content[i+2].Line - 2
		}
		for last > first && apart(lines[last], k.Column-1) {
			last--
		}
		at = at.Content[i+1]
	}
	s := span{}
	for i, line := range lines[:last+1] {
		if i < first {
			s.from += len(line)
		}
		s.to += len(line)
	}
	return s, nil
}

func block(n *yaml.Node) bool {
	return n.Kind == yaml.MappingNode && n.Style&yaml.FlowStyle == 0 && len(n.Content) > 0
}

func index(n *yaml.Node, key string) int {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return i
		}
	}
	return -1
}

// apart reports whether a line behind an entry is no part of it: empty, a
// comment that is not indented more, or the document's end.
func apart(line string, indent int) bool {
	s := strings.TrimLeft(line, " ")
	return strings.TrimSpace(s) == "" || s[0] == '#' && len(line)-len(s) <= indent || strings.HasPrefix(line, "...")
}

func inYAML(text []byte, s span, c Change) ([]byte, error) {
	was := strings.ReplaceAll(string(text[s.from:s.to]), "\r\n", "\n")
	pad := len(was) - len(strings.TrimLeft(was, " "))
	var plain strings.Builder
	for line := range strings.Lines(was) {
		n := min(pad, len(line)-len(strings.TrimLeft(line, " ")))
		plain.WriteString(line[n:])
	}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(plain.String()), &doc); err != nil {
		return nil, fmt.Errorf("can't be read by itself: %w; allowed: no aliases of what stands elsewhere", err)
	}
	root := doc.Content[0]
	if !block(root) || !block(root.Content[1]) {
		return nil, errStyle
	}
	body := root.Content[1]
	i := index(body, "Properties")
	if i < 0 {
		return nil, errAbsent
	}
	patch(body.Content[i+1], c.Before, c.After)
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(max(2, body.Content[0].Column-root.Content[0].Column))
	if err := enc.Encode(&doc); err != nil {
		return nil, err
	}
	var out strings.Builder
	for line := range strings.Lines(b.String()) {
		if strings.TrimSpace(line) != "" {
			out.WriteString(strings.Repeat(" ", pad))
		}
		out.WriteString(line)
	}
	made := out.String()
	if !strings.HasSuffix(was, "\n") {
		made = strings.TrimSuffix(made, "\n")
	}
	if bytes.Contains(text, []byte("\r\n")) {
		made = strings.ReplaceAll(made, "\n", "\r\n")
	}
	return []byte(made), nil
}

// patch makes a node that says before say after, and touches nothing that is
// the same in both.
func patch(n *yaml.Node, before, after any) {
	if tree.Equal(before, after) {
		return
	}
	own := !strings.HasPrefix(n.Tag, "!") || strings.HasPrefix(n.Tag, "!!") // no function in short form
	b, bok := before.(*tree.Object)
	a, aok := after.(*tree.Object)
	if bok && aok && own && n.Kind == yaml.MappingNode {
		patchObject(n, b, a)
		return
	}
	bl, bok := before.([]any)
	al, aok := after.([]any)
	if bok && aok && own && n.Kind == yaml.SequenceNode && len(n.Content) == len(bl) {
		for i := range min(len(bl), len(al)) {
			patch(n.Content[i], bl[i], al[i])
		}
		n.Content = n.Content[:min(len(bl), len(al))]
		for _, e := range al[len(n.Content):] {
			n.Content = append(n.Content, node(e))
			n.Style &^= yaml.FlowStyle
		}
		return
	}
	head, line, foot := n.HeadComment, n.LineComment, n.FootComment
	*n = *node(after)
	n.HeadComment, n.LineComment, n.FootComment = head, line, foot
}

func patchObject(n *yaml.Node, before, after *tree.Object) {
	var kept []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i].Value
		switch {
		case before.Has(key) && !after.Has(key):
			continue
		case before.Has(key):
			patch(n.Content[i+1], before.Get(key), after.Get(key))
		}
		kept = append(kept, n.Content[i], n.Content[i+1])
	}
	n.Content = kept
	for _, key := range after.Keys() {
		if !before.Has(key) {
			n.Content = append(n.Content, node(key), node(after.Get(key)))
		}
	}
}

// node is a value in YAML, as its words have it.
func node(v any) *yaml.Node {
	switch v := v.(type) {
	case *tree.Object:
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		for _, key := range v.Keys() {
			n.Content = append(n.Content, node(key), node(v.Get(key)))
		}
		return n
	case []any:
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		for _, e := range v {
			n.Content = append(n.Content, node(e))
		}
		return n
	case json.Number:
		n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: v.String()}
		if strings.ContainsAny(n.Value, ".eE") {
			n.Tag = "!!float"
		}
		return n
	}
	n := &yaml.Node{}
	if err := n.Encode(v); err != nil {
		panic(err) // texts, booleans and null alone
	}
	return n
}
