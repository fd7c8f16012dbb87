package declare

import (
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"patchbay/internal/suggest"
)

// shape is the set of keys that a JSON value may have, read off the Go types
// of the document, so that the two can't disagree.
type shape struct {
	keys map[string]shape   // of an object; nil: not one
	must map[string]string  // keys that may not be missing, with what they may be
	elem *shape             // of an array; nil: not one
	each *shape             // of an object with any keys: what each holds; nil: not one
	read func(string) error // of a string that must be read further; nil: any
	want string             // the JSON type in words
	such string             // what one of them looks like, where that has to be said
	num  reflect.Type       // of a number: what must hold it; nil: no number
}

func shapeOf[T any]() shape { return shapeOfType(reflect.TypeFor[T]()) }

func shapeOfType(t reflect.Type) shape {
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return shape{want: "a string", such: `, such as "2s"`, read: func(s string) error {
			return reflect.New(t).Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)) //nolint:forcetypeassert // asked above
		}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return shapeOfType(t.Elem())
	case reflect.Slice:
		elem := shapeOfType(t.Elem())
		return shape{elem: &elem, want: "a list"}
	case reflect.Struct:
		s := shape{keys: map[string]shape{}, must: map[string]string{}, want: "an object"}
		for f := range t.Fields() {
			key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			s.keys[key] = shapeOfType(f.Type)
			if allowed, must := f.Tag.Lookup("required"); must {
				s.must[key] = allowed
			}
		}
		return s
	case reflect.Map:
		each := shapeOfType(t.Elem())
		want := "an object"
		if each.want == "a string" {
			want = "an object with strings"
		}
		return shape{each: &each, want: want}
	case reflect.Bool:
		return shape{want: "true or false"}
	case reflect.String:
		return shape{want: "a string"}
	case reflect.Float64:
		return shape{want: "a number", num: t}
	default:
		return shape{want: "a whole number", num: t}
	}
}

// compare adds a problem for each unknown key and each value of another type,
// and returns v without them: what is left fits. path is empty at the root.
func (c *checker) compare(v any, s shape, path string) any {
	if v == nil && path != "" {
		return nil
	}
	switch v := v.(type) {
	case map[string]any:
		if s.each != nil {
			for _, k := range slices.Sorted(maps.Keys(v)) {
				v[k] = c.compare(v[k], *s.each, below(path, k))
			}
			return v
		}
		if s.keys != nil {
			return c.object(v, s, path)
		}
	case []any:
		if s.elem != nil {
			for i, e := range v {
				v[i] = c.compare(e, *s.elem, path+"["+strconv.Itoa(i)+"]")
			}
			return v
		}
	default:
		if s.keys == nil && s.elem == nil && s.each == nil && (s.want == wanted(v) || s.want == "a number" && wanted(v) == "a whole number") {
			if n, ok := v.(json.Number); ok && s.num != nil && !holds(s.num, n) {
				c.bad(path, "%s; allowed: %s%s", n, s.want, limits(s.num))
				c.spoiled[path] = true
				return nil
			}
			if text, ok := v.(string); ok && s.read != nil {
				if err := s.read(text); err != nil {
					c.bad(path, "%s", err)
					c.spoiled[path] = true
					return nil
				}
			}
			return v
		}
	}
	at := path
	if at == "" {
		at = "declaration"
	}
	c.bad(at, "is %s; allowed: %s%s", kind(v), s.want, s.such)
	c.spoiled[path] = true
	return nil
}

// holds reports whether a number of a type can be n, which is of its kind.
func holds(t reflect.Type, n json.Number) bool {
	return json.Unmarshal([]byte(n), reflect.New(t).Interface()) == nil
}

// limits are those of a whole number's type that people run into.
func limits(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return fmt.Sprintf(" of 0 to %d", uint64(1)<<t.Bits()-1)
	case reflect.Uint, reflect.Uint64:
		return " from 0 on"
	case reflect.Int8, reflect.Int16, reflect.Int32:
		return fmt.Sprintf(" of %d to %d", -int64(1)<<(t.Bits()-1), int64(1)<<(t.Bits()-1)-1)
	}
	return ""
}

func (c *checker) object(v map[string]any, s shape, path string) any {
	for _, k := range slices.Sorted(maps.Keys(s.must)) {
		if v[k] == nil {
			c.bad(below(path, k), "is missing; allowed: %s", s.must[k])
		}
	}
	for _, k := range slices.Sorted(maps.Keys(v)) {
		at := below(path, k)
		sub, ok := s.keys[k]
		if ok {
			v[k] = c.compare(v[k], sub, at)
			continue
		}
		delete(v, k)
		hint := ""
		if meant := suggest.Near(k, slices.Sorted(maps.Keys(s.keys))); meant != "" {
			hint = " (did you mean " + meant + "?)"
			if v[meant] == nil {
				defer func() { c.spoiled[below(path, meant)] = true }() // nobody needs to hear that it is missing
			}
		} else if path == "serviceConnectConfiguration" && shapeOf[document]().keys[k].want != "" {
			hint = ", but stands beside " + path
		} else {
			for _, name := range slices.Sorted(maps.Keys(s.keys)) {
				if _, its := s.keys[name].keys[k]; its {
					hint = ", but one of " + name
				}
			}
		}
		c.bad(at, "is not a key here%s; allowed: %s", hint, strings.Join(slices.Sorted(maps.Keys(s.keys)), ", "))
	}
	return v
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
		return "the string " + quote(v)
	default:
		return fmt.Sprint(v)
	}
}

func wanted(v any) string {
	switch v := v.(type) {
	case bool:
		return "true or false"
	case string:
		return "a string"
	case json.Number:
		if _, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return "a whole number"
		}
		return "a number"
	}
	return ""
}

// quote shows a value, or as much of it as tells which it is.
func quote(s string) string {
	if len(s) > 80 {
		return strconv.Quote(s[:80]) + "…"
	}
	return strconv.Quote(s)
}
