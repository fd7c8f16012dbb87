package source

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"patchbay/declare/tree"
)

// maxNodes bounds what aliases of aliases may grow to.
const maxNodes = 200_000

// fromYAML reads a template in YAML, with the short forms of functions.
func fromYAML(text []byte) (any, error) {
	var doc, second yaml.Node
	dec := yaml.NewDecoder(strings.NewReader(string(text)))
	if err := dec.Decode(&doc); err != nil {
		return nil, fmt.Errorf("is neither JSON nor YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, errors.New("has a second document; allowed: one")
	}
	left := maxNodes
	return fromNode(doc.Content[0], &left)
}

func fromNode(n *yaml.Node, left *int) (any, error) {
	if *left--; *left < 0 {
		return nil, errTooLarge
	}
	if n.Kind == yaml.AliasNode {
		return fromNode(n.Alias, left)
	}
	if name, short := strings.CutPrefix(n.Tag, "!"); short && !strings.HasPrefix(n.Tag, "!!") {
		return function(name, n, left)
	}
	switch n.Kind {
	case yaml.MappingNode:
		o := &tree.Object{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			if o.Has(key.Value) {
				return nil, fmt.Errorf("line %d: %s stands twice; allowed: each key once", key.Line, key.Value)
			}
			v, err := fromNode(value, left)
			if err != nil {
				return nil, err
			}
			o.Set(key.Value, v)
		}
		return o, nil
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, e := range n.Content {
			v, err := fromNode(e, left)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	default:
		return scalar(n), nil
	}
}

// decimal is a number as JSON writes it.
var decimal = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?$`)

func scalar(n *yaml.Node) any {
	switch n.Tag {
	case "!!null":
		return nil
	case "!!bool":
		b, err := strconv.ParseBool(n.Value)
		if err == nil {
			return b
		}
	case "!!int", "!!float":
		if decimal.MatchString(n.Value) {
			return json.Number(n.Value)
		}
		var f float64
		if n.Decode(&f) == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			return json.Number(strconv.FormatInt(int64(f), 10))
		}
	}
	return n.Value
}

// function is the long form of a short one.
func function(name string, n *yaml.Node, left *int) (any, error) {
	plain := *n
	plain.Tag = ""
	if n.Kind == yaml.ScalarNode {
		plain.Tag = "!!str"
	}
	arg, err := fromNode(&plain, left)
	if err != nil {
		return nil, err
	}
	switch name {
	case "Ref", "Condition":
		return tree.Of(name, arg), nil
	case "GetAtt":
		if s, ok := arg.(string); ok {
			resource, attribute, _ := strings.Cut(s, ".")
			arg = []any{resource, attribute}
		}
	}
	return tree.Of("Fn::"+name, arg), nil
}
