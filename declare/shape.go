package declare

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// shape is the set of keys that a JSON value may have, read off the Go types
// of the document, so that the two can't disagree.
type shape struct {
	keys map[string]shape // of an object; nil: not one
	elem *shape           // of an array; nil: not one
	free bool             // anything goes
	want string           // the JSON type in words
}

func shapeOf[T any]() shape { return shapeOfType(reflect.TypeFor[T]()) }

func shapeOfType(t reflect.Type) shape {
	if t == reflect.TypeFor[json.RawMessage]() {
		return shape{free: true}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return shapeOfType(t.Elem())
	case reflect.Slice:
		elem := shapeOfType(t.Elem())
		return shape{elem: &elem, want: "a list"}
	case reflect.Struct:
		s := shape{keys: map[string]shape{}, want: "an object"}
		for i := range t.NumField() {
			f := t.Field(i)
			s.keys[f.Tag.Get("json")] = shapeOfType(f.Type)
		}
		return s
	case reflect.Map:
		return shape{free: true}
	case reflect.Bool:
		return shape{want: "true or false"}
	case reflect.String:
		return shape{want: "a string"}
	default:
		return shape{want: "a whole number"}
	}
}

// compareKeys adds a problem for each unknown key and each value of another
// type. path is empty at the root.
func compareKeys(v any, s shape, path string, problems *Problems) {
	if s.free || v == nil && path != "" {
		return
	}
	at := strings.TrimPrefix(path, ".")
	if at == "" {
		at = "declaration"
	}
	wrong := func() { *problems = append(*problems, Problem{at, fmt.Sprintf("is %s; allowed: %s", kind(v), s.want)}) }
	switch v := v.(type) {
	case map[string]any:
		if s.keys == nil {
			wrong()
			return
		}
		names := make([]string, 0, len(v))
		for k := range v {
			names = append(names, k)
		}
		slices.Sort(names)
		for _, k := range names {
			sub, ok := s.keys[k]
			if !ok {
				*problems = append(*problems, Problem{strings.TrimPrefix(path+"."+k, "."), "is not a key here; allowed: " + allowed(s.keys)})
				continue
			}
			compareKeys(v[k], sub, path+"."+k, problems)
		}
	case []any:
		if s.elem == nil {
			wrong()
			return
		}
		for i, e := range v {
			compareKeys(e, *s.elem, fmt.Sprintf("%s[%d]", path, i), problems)
		}
	default:
		if s.keys != nil || s.elem != nil || s.want != kindWanted(v) {
			wrong()
		}
	}
}

func kind(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case map[string]any:
		return "an object"
	case []any:
		return "a list"
	case string:
		return fmt.Sprintf("the string %q", v)
	default:
		return fmt.Sprint(v)
	}
}

func kindWanted(v any) string {
	switch v := v.(type) {
	case bool:
		return "true or false"
	case string:
		return "a string"
	case float64:
		if v == float64(int64(v)) {
			return "a whole number"
		}
	}
	return ""
}

func allowed(m map[string]shape) string {
	names := make([]string, 0, len(m))
	for k := range m {
		names = append(names, k)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
