// Package tree is JSON that keeps the order of its keys, so that a document
// that is read, changed in one place and written still looks like itself.
//
// It owns reading, writing, copying and comparing. It must not know what a
// document means. A value is nil, bool, string, json.Number, []any or *Object.
// Start reading at [Read].
package tree

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
)

// Object is a JSON object. The zero value is empty and ready.
type Object struct {
	keys   []string
	values map[string]any
}

// Of makes an object of keys and values in turn.
func Of(pairs ...any) *Object {
	o := &Object{}
	for i := 0; i+1 < len(pairs); i += 2 {
		o.Set(pairs[i].(string), pairs[i+1])
	}
	return o
}

// Keys are in the order of the document. A nil object has none.
func (o *Object) Keys() []string {
	if o == nil {
		return nil
	}
	return slices.Clone(o.keys)
}

// Has reports whether the key is there, be it null.
func (o *Object) Has(key string) bool {
	if o == nil {
		return false
	}
	_, ok := o.values[key]
	return ok
}

// Get is the value of a key; nil if it is absent, also in a nil object.
func (o *Object) Get(key string) any {
	if o == nil {
		return nil
	}
	return o.values[key]
}

// Set changes the value of a key in its place, or adds it at the end.
func (o *Object) Set(key string, v any) {
	if o.values == nil {
		o.values = map[string]any{}
	}
	if _, ok := o.values[key]; !ok {
		o.keys = append(o.keys, key)
	}
	o.values[key] = v
}

// SetAt is Set, but a new key comes to stand at index i, or at the end.
func (o *Object) SetAt(i int, key string, v any) {
	known := o.Has(key)
	o.Set(key, v)
	if last := len(o.keys) - 1; !known && i >= 0 && i < last {
		o.keys = slices.Insert(o.keys[:last], i, key)
	}
}

// Index is the place of a key; -1 if it is absent.
func (o *Object) Index(key string) int { return slices.Index(o.keys, key) }

// Delete takes keys away; from a nil object there is nothing to take.
func (o *Object) Delete(keys ...string) {
	for _, key := range keys {
		if o.Has(key) {
			delete(o.values, key)
			o.keys = slices.DeleteFunc(o.keys, func(k string) bool { return k == key })
		}
	}
}

// Text is the string of a key; empty if there is none.
func (o *Object) Text(key string) string {
	s, _ := o.Get(key).(string)
	return s
}

// Object is the object of a key; nil if there is none.
func (o *Object) Object(key string) *Object {
	v, _ := o.Get(key).(*Object)
	return v
}

// List is the list of a key; nil if there is none.
func (o *Object) List(key string) []any {
	v, _ := o.Get(key).([]any)
	return v
}

// Texts are the strings among the elements of a list.
func (o *Object) Texts(key string) []string {
	var out []string
	for _, e := range o.List(key) {
		if s, ok := e.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// Objects are the objects among the elements of a list; what is none is nil, so
// that the indices hold.
func (o *Object) Objects(key string) []*Object {
	var out []*Object
	for _, e := range o.List(key) {
		v, _ := e.(*Object)
		out = append(out, v)
	}
	return out
}

// Int is the whole number of a key.
func (o *Object) Int(key string) (int, bool) {
	n, ok := o.Get(key).(json.Number)
	if !ok {
		return 0, false
	}
	i, err := n.Int64()
	return int(i), err == nil
}

// Number is n as a value.
func Number(n int) json.Number { return json.Number(fmt.Sprint(n)) }

// maxDepth bounds nesting.
const maxDepth = 500

// Read reads one JSON document. A key that stands twice is an error.
func Read(text []byte) (any, error) {
	// The standard library says best where JSON ends.
	if err := json.Unmarshal(text, new(any)); err != nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			before := text[:max(0, min(int(syntax.Offset)-1, len(text)))]
			return nil, fmt.Errorf("is not JSON: line %d, column %d: %w", 1+bytes.Count(before, []byte("\n")), len(before)-bytes.LastIndexByte(before, '\n'), err)
		}
		return nil, fmt.Errorf("is not JSON: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	v, err := read(dec, "", 0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("goes on after its end; allowed: one JSON value")
	}
	return v, nil
}

func read(dec *json.Decoder, path string, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%s: is nested too deep", path)
	}
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			v, err := read(dec, fmt.Sprintf("%s[%d]", path, len(list)), depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := dec.Token()
		return list, err
	case json.Delim('{'):
		o := &Object{}
		for dec.More() {
			key, err := dec.Token()
			if err != nil {
				return nil, err
			}
			at := strings.TrimPrefix(path+"."+key.(string), ".")
			v, err := read(dec, at, depth+1)
			if err != nil {
				return nil, err
			}
			if o.Has(key.(string)) {
				return nil, fmt.Errorf("%s: stands twice; allowed: each key once", at)
			}
			o.Set(key.(string), v)
		}
		_, err := dec.Token()
		return o, err
	default:
		return token, nil
	}
}

// MarshalJSON implements [json.Marshaler]: the keys in their order.
func (o *Object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, key := range o.keys {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(compact(key))
		b.WriteByte(':')
		b.Write(compact(o.values[key]))
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// compact encodes without escaping what HTML needs escaped.
func compact(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // values of this package alone
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// Line is v on one line.
func Line(v any) []byte { return compact(v) }

// Write is v with each nesting indented, and a line break at the end.
func Write(v any, indent string) []byte {
	var b bytes.Buffer
	if err := json.Indent(&b, compact(v), "", indent); err != nil {
		panic(err)
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// Copy is v with nothing shared.
func Copy(v any) any {
	switch v := v.(type) {
	case *Object:
		if v == nil {
			return v
		}
		o := &Object{}
		for _, key := range v.keys {
			o.Set(key, Copy(v.values[key]))
		}
		return o
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = Copy(e)
		}
		return list
	default:
		return v
	}
}

// Clone is a copy of an object; of nil an empty one.
func (o *Object) Clone() *Object {
	if o == nil {
		return &Object{}
	}
	return Copy(o).(*Object)
}

// Equal compares the meaning: the order of keys does not matter.
func Equal(a, b any) bool { return reflect.DeepEqual(plain(a), plain(b)) }

func plain(v any) any {
	switch v := v.(type) {
	case *Object:
		m := map[string]any{}
		for _, key := range v.Keys() {
			m[key] = plain(v.values[key])
		}
		return m
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = plain(e)
		}
		return list
	default:
		return v
	}
}
