// Package template changes resources of a CloudFormation template in its text,
// YAML or JSON: what is not concerned stays as it was written, byte for byte.
//
// It owns where a resource stands in the text, and how a change of its
// properties is written there. It must not know what properties mean. Start
// reading at [Put].
package template

import (
	"bytes"
	"errors"
	"fmt"

	"patchbay/declare/tree"
)

// Change is what becomes of the properties of a resource. Both are in the
// template's words, with functions in their long form.
type Change struct {
	Resource      string // its logical name
	Before, After *tree.Object
}

// span is a part of a text: of YAML whole lines, from the resource's name on; of
// JSON the resource's value.
type span struct{ from, to int }

// Put makes changes in a template. In YAML short forms of functions stay as
// they are where nothing changes; comments stay; within a changed resource empty
// lines go. What is new is written in long form. A resource whose properties are
// equal before and after stays as it is.
func Put(text []byte, changes ...Change) ([]byte, error) {
	for _, c := range changes {
		if tree.Equal(c.Before, c.After) {
			continue
		}
		s, err := find(text, c.Resource)
		if err != nil {
			return nil, err
		}
		put := inYAML
		if isJSON(text) {
			put = inJSON
		}
		made, err := put(text, s, c)
		if err != nil {
			return nil, fmt.Errorf("Resources.%s: %w", c.Resource, err)
		}
		text = replaced(text, s, made)
	}
	return text, nil
}

// Text is a resource as it is written.
func Text(text []byte, resource string) (string, error) {
	s, err := find(text, resource)
	return string(text[s.from:s.to]), err
}

// Restore puts what [Text] was in the place of what the resource is now.
func Restore(text []byte, resource, was string) ([]byte, error) {
	s, err := find(text, resource)
	if err != nil {
		return nil, err
	}
	return replaced(text, s, []byte(was)), nil
}

func replaced(text []byte, s span, by []byte) []byte {
	return bytes.Join([][]byte{text[:s.from], by, text[s.to:]}, nil)
}

func isJSON(text []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), " \t\r\n"), []byte("{"))
}

var errAbsent = errors.New("is not there")

func find(text []byte, resource string) (span, error) {
	find := linesOf
	if isJSON(text) {
		find = valueOf
	}
	s, err := find(text, resource)
	if err != nil {
		return span{}, fmt.Errorf("Resources.%s: %w", resource, err)
	}
	return s, nil
}
