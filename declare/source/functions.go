package source

import (
	"encoding/json"
	"strconv"
	"strings"

	"patchbay/declare/definition"
	"patchbay/declare/tree"
)

// maxFunctions bounds functions within functions.
const maxFunctions = 50

// value computes a function: references to parameters and to namespaces of the
// template, Fn::Sub, Fn::Join and Fn::FindInMap of what is known.
func (t *template) value(v any, depth int) (any, bool) {
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
		return t.ref(name, depth)
	case "Fn::GetAtt":
		return t.attribute(arg, depth)
	case "Fn::Sub":
		return t.sub(arg, depth)
	case "Fn::Join":
		return t.join(arg, depth)
	case "Fn::FindInMap":
		list, _ := arg.([]any)
		var at any = t.root.Object("Mappings")
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

func (t *template) ref(name string, depth int) (any, bool) {
	if s, ok := t.options.Parameters[name]; ok {
		return s, true
	}
	if p := t.root.Object("Parameters").Object(name); p != nil {
		d := p.Get("Default")
		if d == nil || strings.HasPrefix(p.Text("Type"), "AWS::SSM::") {
			return nil, false
		}
		t.used[name] = true
		return d, true
	}
	return nil, false
}

// attribute knows the name behind the ARN of a namespace of this template: ECS
// takes both.
func (t *template) attribute(arg any, depth int) (any, bool) {
	var name string
	switch arg := arg.(type) {
	case string:
		name, _, _ = strings.Cut(arg, ".")
	case []any:
		if len(arg) > 0 {
			name, _ = arg[0].(string)
		}
	}
	res := t.root.Object("Resources").Object(name)
	if typ := res.Text("Type"); strings.HasPrefix(typ, "AWS::ServiceDiscovery::") && strings.HasSuffix(typ, "Namespace") {
		return t.value(res.Object("Properties").Get("Name"), depth+1)
	}
	return nil, false
}

func (t *template) sub(arg any, depth int) (any, bool) {
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
			v, ok = t.ref(name, depth)
		}
		s, isText := asText(v)
		if !ok || !isText {
			return nil, false
		}
		b.WriteString(s)
	}
}

func (t *template) join(arg any, depth int) (any, bool) {
	list, _ := arg.([]any)
	if len(list) != 2 {
		return nil, false
	}
	between, _ := list[0].(string)
	parts, _ := list[1].([]any)
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

// logical is the resource that a value refers to.
func logical(v any) string {
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

// numeric and boolean are the members that a template may write as texts.
var (
	numeric = map[string]bool{
		"containerPort": true, "hostPort": true, "ingressPortOverride": true, "port": true, "idleTimeoutSeconds": true,
		"perRequestTimeoutSeconds": true, "desiredCount": true, "memoryReservation": true, "stopTimeout": true, "startTimeout": true,
		"interval": true, "timeout": true, "retries": true, "startPeriod": true, "bakeTimeInMinutes": true,
		"canaryPercent": true, "canaryBakeTimeInMinutes": true, "stepPercent": true, "stepBakeTimeInMinutes": true,
	}
	boolean = map[string]bool{"enabled": true, "essential": true, "readonlyRootFilesystem": true, "privileged": true}
)

// numbers turns such texts into what ECS has.
func numbers(v any) {
	switch v := v.(type) {
	case *tree.Object:
		for _, key := range v.Keys() {
			s, isText := v.Get(key).(string)
			switch {
			case isText && numeric[key] && decimal.MatchString(s):
				v.Set(key, json.Number(s))
			case isText && boolean[key] && (s == "true" || s == "false"):
				v.Set(key, s == "true")
			default:
				numbers(v.Get(key))
			}
		}
	case []any:
		for _, e := range v {
			numbers(e)
		}
	}
}
