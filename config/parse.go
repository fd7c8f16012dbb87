package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// parse decodes strictly and checks. What has no place or the wrong type is
// named and put aside, so that the rest can still be checked.
func parse(file string, text []byte) (Config, Problems) {
	c := Default()
	root, problem := document(text)
	if problem != nil {
		problem.File = file
		return c, Problems{*problem}
	}
	k := &checker{file: file, lines: map[string]int{}, spoiled: map[string]bool{}}
	k.compare(root, reflect.TypeFor[Config](), "")
	if err := root.Decode(&c); err != nil { // compare missed something
		k.problems = append(k.problems, Problem{File: file, Text: err.Error()})
		return c, k.problems
	}
	if _, written := k.lines["cloudMap"]; written && c.CloudMap == nil && !k.spoiled["cloudMap"] {
		c.CloudMap = &CloudMap{} // `cloudMap:` alone: all defaults
	}
	if c.Registry != nil && k.lines["registry.lease"] == 0 {
		c.Registry.Lease = DefaultLease
	}
	if c.Registry != nil && c.Registry.Etcd != nil {
		c.Registry.Etcd.Prefix = cmp.Or(c.Registry.Etcd.Prefix, RegistryPrefix)
	}
	if c.Secrets.Etcd != nil {
		c.Secrets.Etcd.Prefix = cmp.Or(c.Secrets.Etcd.Prefix, SecretsPrefix)
	}
	for name, i := range c.Issuers {
		if at := "issuers." + name + ".privateCA"; k.lines[at] > 0 && i.PrivateCA == nil && !k.spoiled[at] {
			i.PrivateCA = &PrivateCA{} // `privateCA:` alone, of an issuer whose name is the ARN
			c.Issuers[name] = i
		}
	}
	if c.Tracing != nil && k.lines["tracing.sampling"] == 0 {
		c.Tracing.Sampling = allSampled
	}
	for i := range c.External {
		if at := "external[" + strconv.Itoa(i) + "].tls"; k.lines[at] > 0 && c.External[i].TLS == nil && !k.spoiled[at] {
			c.External[i].TLS = &ExternalTLS{} // `tls:` alone: all defaults
		}
	}
	if at := "secrets.secretsManager"; k.lines[at] > 0 && c.Secrets.SecretsManager == nil && !k.spoiled[at] {
		c.Secrets.SecretsManager = &SecretsManager{}
	}
	k.check(c)
	slices.SortStableFunc(k.problems, func(a, b Problem) int { return a.Line - b.Line })
	return c, k.problems
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

type checker struct {
	file     string
	lines    map[string]int  // by dotted path
	spoiled  map[string]bool // paths about which something has been said: nothing follows from their value
	problems Problems
}

// bad adds a problem at the line of path, or of the nearest key above it.
// Of a path that is spoiled, or lies below one, nothing more is said.
func (k *checker) bad(path, format string, args ...any) {
	line := 0
	for at := path; ; at = above(at) {
		if k.spoiled[at] {
			return
		}
		if line == 0 {
			line = k.lines[at]
		}
		if at == "" {
			break
		}
	}
	k.problems = append(k.problems, Problem{k.file, line, path, fmt.Sprintf(format, args...)})
}

// spoil adds a problem with a node, and takes the node out of what follows.
func (k *checker) spoil(n *yaml.Node, path, format string, args ...any) {
	if k.bad(path, format, args...); path == "" {
		k.problems[len(k.problems)-1].Line = n.Line
	}
	k.spoiled[path] = true
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
