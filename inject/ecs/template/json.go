package template

import (
	"bytes"
	"encoding/json"
	"strings"

	"patchbay/declare/tree"
)

// valueOf finds the value of a resource.
func valueOf(text []byte, resource string) (span, error) {
	start := len(text) - len(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")))
	dec := json.NewDecoder(bytes.NewReader(text[start:]))
	if _, err := dec.Token(); err != nil {
		return span{}, err
	}
	for _, key := range []string{"Resources", resource} {
		if err := enter(dec, key); err != nil {
			return span{}, err
		}
		if key == "Resources" {
			if _, err := dec.Token(); err != nil { // its bracket
				return span{}, err
			}
		}
	}
	var v json.RawMessage
	if err := dec.Decode(&v); err != nil {
		return span{}, err
	}
	to := start + int(dec.InputOffset())
	return span{to - len(v), to}, nil
}

// enter reads up to the value of a key.
func enter(dec *json.Decoder, key string) error {
	for dec.More() {
		k, err := dec.Token()
		if err != nil {
			return err
		}
		if k == key {
			return nil
		}
		var other json.RawMessage
		if err := dec.Decode(&other); err != nil {
			return err
		}
	}
	return errAbsent
}

func inJSON(text []byte, s span, c Change) ([]byte, error) {
	was := text[s.from:s.to]
	v, err := tree.Read(was)
	if err != nil {
		return nil, err
	}
	o, ok := v.(*tree.Object)
	if !ok {
		return nil, errAbsent
	}
	o.Set("Properties", c.After)
	if !bytes.ContainsRune(was, '\n') {
		return tree.Line(o), nil
	}
	line := text[bytes.LastIndexByte(text[:s.from], '\n')+1 : s.from]
	prefix := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]
	var b bytes.Buffer
	if err := json.Indent(&b, tree.Line(o), string(prefix), step(string(text))); err != nil {
		return nil, err
	}
	if bytes.Contains(text, []byte("\r\n")) {
		return bytes.ReplaceAll(b.Bytes(), []byte("\n"), []byte("\r\n")), nil
	}
	return b.Bytes(), nil
}

// step is by how much the text is indented.
func step(text string) string {
	for line := range strings.Lines(text) {
		if n := len(line) - len(strings.TrimLeft(line, " \t")); n > 0 && strings.TrimSpace(line) != "" {
			return line[:n]
		}
	}
	return "  "
}
