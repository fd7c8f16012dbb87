package join

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Object decodes a JSON object into pointers by key. Every key must be there,
// and no other may be. The errors are all that is wrong; none holds a value.
func Object(text []byte, fields map[string]any) (errs []error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil || raw == nil {
		return []error{notObject(text, err)}
	}
	for _, key := range slices.Sorted(maps.Keys(raw)) {
		if _, ok := fields[key]; !ok {
			errs = append(errs, fmt.Errorf("unknown key %.80q; allowed: %q", key, slices.Sorted(maps.Keys(fields))))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		value, ok := raw[key]
		if !ok {
			errs = append(errs, fmt.Errorf("%s: is missing", key))
		} else if err := json.Unmarshal(value, fields[key]); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, typeOnly(err)))
		}
	}
	return errs
}

// notObject says where the syntax is wrong.
func notObject(text []byte, err error) error {
	syntax, ok := errors.AsType[*json.SyntaxError](err)
	if !ok {
		return errors.New("is not a JSON object")
	}
	line := 1 + bytes.Count(text[:min(int(syntax.Offset), len(text))], []byte("\n"))
	return fmt.Errorf("line %d: is not JSON: %w", line, err)
}

// typeOnly keeps what was expected and leaves out what was found.
func typeOnly(err error) error {
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("is a %.20s; allowed: %s", t.Value, t.Type)
	}
	return err
}
