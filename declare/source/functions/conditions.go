package functions

import (
	"strconv"
	"strings"

	"patchbay/declare/definition"
	"patchbay/declare/tree"
)

func (t *Template) chosen(v any, depth int) any {
	o, _ := v.(*tree.Object)
	list, _ := o.Get("Fn::If").([]any)
	if o == nil || !definition.Intrinsic(o) || len(list) != 3 || depth > maxFunctions {
		return v
	}
	name, _ := list[0].(string)
	yes, known := t.holds(tree.Of("Condition", name), depth)
	switch {
	case !known:
		return v
	case yes:
		return t.chosen(list[1], depth+1)
	}
	return t.chosen(list[2], depth+1)
}

// holds tells of a condition whether it is true; known is false if the text does
// not tell.
func (t *Template) holds(v any, depth int) (yes, known bool) {
	o, _ := v.(*tree.Object)
	if t.left--; len(o.Keys()) != 1 || depth > maxFunctions || t.left < 0 {
		return false, false
	}
	key := o.Keys()[0]
	if key == "Condition" {
		return t.holds(t.Root.Object("Conditions").Get(o.Text(key)), depth+1)
	}
	list := o.List(key)
	switch {
	case key == "Fn::Equals" && len(list) == 2:
		a, okA := t.value(list[0], depth+1)
		b, okB := t.value(list[1], depth+1)
		x, textA := asText(a)
		y, textB := asText(b)
		return x == y, okA && okB && textA && textB
	case key == "Fn::Not" && len(list) == 1:
		yes, known = t.holds(list[0], depth+1)
		return !yes, known
	case key == "Fn::And", key == "Fn::Or":
		return t.all(list, key == "Fn::And", depth)
	}
	return false, false
}

// all is the conjunction of conditions, or their disjunction: one that decides is
// enough.
func (t *Template) all(list []any, and bool, depth int) (yes, known bool) {
	sure := len(list) > 0
	for _, e := range list {
		yes, known := t.holds(e, depth+1)
		if known && yes != and {
			return yes, true
		}
		sure = sure && known
	}
	return and, sure
}

// typed is the value of a parameter: some are lists, written with commas.
func typed(kind string, v any) any {
	text, isText := v.(string)
	if !isText || kind != "CommaDelimitedList" && !strings.HasPrefix(kind, "List<") {
		return v
	}
	var list []any
	for part := range strings.SplitSeq(text, ",") {
		list = append(list, strings.TrimSpace(part))
	}
	return list
}

func (t *Template) selected(arg any, depth int) (any, bool) {
	pair, _ := arg.([]any)
	if len(pair) != 2 {
		return nil, false
	}
	index, _ := t.value(pair[0], depth+1)
	made, _ := t.value(pair[1], depth+1)
	list, isList := made.([]any)
	n, isText := asText(index)
	at, err := strconv.Atoi(n)
	if !isList || !isText || err != nil || at < 0 || at >= len(list) {
		return nil, false
	}
	return t.value(list[at], depth+1)
}

func (t *Template) split(arg any, depth int) (any, bool) {
	pair, _ := arg.([]any)
	if len(pair) != 2 {
		return nil, false
	}
	between, _ := pair[0].(string)
	made, ok := t.value(pair[1], depth+1)
	text, isText := made.(string)
	if !ok || !isText || between == "" {
		return nil, false
	}
	var list []any
	for part := range strings.SplitSeq(text, between) {
		list = append(list, part)
	}
	return list, true
}
