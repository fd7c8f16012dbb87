// Package functions computes the intrinsic functions of a CloudFormation template
// as far as its text tells: parameters, conditions, namespaces of its own.
//
// It must not know what the template makes. Start reading at [Template.Value].
package functions

import (
	"encoding/json"
	"strconv"
	"strings"

	"patchbay/declare/definition"
	"patchbay/declare/tree"
)

// Template is what functions are computed from. It is not for concurrent use.
type Template struct {
	Root       *tree.Object      // the whole text
	Parameters map[string]string // given from outside, before defaults
	Defaulted  map[string]bool   // set here: parameters whose default was taken

	left int // of maxSteps, for what is computed now
}

// Bounds of functions within functions, and of the conditions that one asks for.
const (
	maxFunctions = 50
	maxSteps     = 10_000
)

// Value is v, or what it makes if it is a function; false if the text does not
// tell. Of a list or an object that comes out, members may be functions again.
func (t *Template) Value(v any) (any, bool) {
	t.left = maxSteps
	return t.value(v, 0)
}

// Chosen is v, or where that is Fn::If the branch that is taken; v itself where
// the text does not tell which.
func (t *Template) Chosen(v any) any {
	t.left = maxSteps
	return t.chosen(v, 0)
}

// NoValue reports whether v stands for nothing at all.
func NoValue(v any) bool {
	o, ok := v.(*tree.Object)
	return ok && o != nil && definition.Intrinsic(o) && o.Text("Ref") == "AWS::NoValue"
}

func (t *Template) value(v any, depth int) (any, bool) {
	o, is := v.(*tree.Object)
	if !is || o == nil || !definition.Intrinsic(o) {
		return v, true
	}
	if depth > maxFunctions {
		return nil, false
	}
	arg := o.Get(o.Keys()[0])
	switch o.Keys()[0] {
	case "Ref":
		name, _ := arg.(string)
		return t.ref(name)
	case "Fn::If":
		branch := t.chosen(v, depth)
		if branch == v || NoValue(branch) {
			return nil, false
		}
		return t.value(branch, depth+1)
	case "Fn::Select":
		return t.selected(arg, depth)
	case "Fn::Split":
		return t.split(arg, depth)
	case "Fn::GetAtt":
		return t.attribute(arg, depth)
	case "Fn::Sub":
		return t.sub(arg, depth)
	case "Fn::Join":
		return t.join(arg, depth)
	case "Fn::FindInMap":
		list, _ := arg.([]any)
		var at any = t.Root.Object("Mappings")
		for _, e := range list {
			key, ok := t.value(e, depth+1)
			m, _ := at.(*tree.Object)
			if s, isText := key.(string); ok && isText && m.Has(s) {
				at = m.Get(s)
				continue
			}
			return nil, false
		}
		return at, len(list) == 3
	}
	return nil, false
}

func (t *Template) ref(name string) (any, bool) {
	p := t.Root.Object("Parameters").Object(name)
	if s, ok := t.Parameters[name]; ok {
		return typed(p.Text("Type"), s), true
	}
	if p != nil {
		d := p.Get("Default")
		if d == nil || strings.HasPrefix(p.Text("Type"), "AWS::SSM::") {
			return nil, false
		}
		t.Defaulted[name] = true
		return typed(p.Text("Type"), d), true
	}
	return nil, false
}

// attribute knows the name behind the ARN of a namespace of this template: ECS
// takes both.
func (t *Template) attribute(arg any, depth int) (any, bool) {
	var name string
	switch arg := arg.(type) {
	case string:
		name, _, _ = strings.Cut(arg, ".")
	case []any:
		if len(arg) > 0 {
			name, _ = arg[0].(string)
		}
	}
	res := t.Root.Object("Resources").Object(name)
	if typ := res.Text("Type"); strings.HasPrefix(typ, "AWS::ServiceDiscovery::") && strings.HasSuffix(typ, "Namespace") {
		return t.value(res.Object("Properties").Get("Name"), depth+1)
	}
	return nil, false
}

func (t *Template) sub(arg any, depth int) (any, bool) {
	text, _ := arg.(string)
	var own *tree.Object
	if list, ok := arg.([]any); ok && len(list) == 2 {
		text, _ = list[0].(string)
		own, _ = list[1].(*tree.Object)
	}
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${")
		b.WriteString(before)
		if !found {
			return b.String(), true
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return nil, false
		}
		text = after
		if literal, ok := strings.CutPrefix(name, "!"); ok {
			b.WriteString("${" + literal + "}")
			continue
		}
		var v any
		var ok bool
		switch {
		case own.Has(name):
			v, ok = t.value(own.Get(name), depth+1)
		case strings.Contains(name, "."):
			v, ok = t.attribute(name, depth)
		default:
			v, ok = t.ref(name)
		}
		s, isText := asText(v)
		if !ok || !isText {
			return nil, false
		}
		b.WriteString(s)
	}
}

func (t *Template) join(arg any, depth int) (any, bool) {
	list, _ := arg.([]any)
	if len(list) != 2 {
		return nil, false
	}
	between, _ := list[0].(string)
	made, _ := t.value(list[1], depth+1)
	parts, isList := made.([]any)
	if !isList {
		return nil, false
	}
	var all []string
	for _, p := range parts {
		v, ok := t.value(p, depth+1)
		s, isText := asText(v)
		if !ok || !isText {
			return nil, false
		}
		all = append(all, s)
	}
	return strings.Join(all, between), true
}

func asText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

// Logical is the resource that a value refers to; empty if it refers to none.
func Logical(v any) string {
	o, _ := v.(*tree.Object)
	switch arg := o.Get("Fn::GetAtt").(type) {
	case string:
		name, _, _ := strings.Cut(arg, ".")
		return name
	case []any:
		if len(arg) > 0 {
			name, _ := arg[0].(string)
			return name
		}
	}
	return o.Text("Ref")
}
