package declare

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// tree is a JSON document as it was written: unlike the standard library's
// decoder it sees a key that stands twice, and knows where each value stands.
type tree struct {
	root     any              // nil, bool, string, json.Number, []any or map[string]any
	at       map[string]int64 // by path: the offset behind the value's first token
	problems Problems
	dec      *json.Decoder
	depth    int // of the value that is being read
}

// maxDepth is several times what a declaration nests. Each value is known by
// its path, so that a document of brackets alone would take all memory.
const maxDepth = 100

var errDeep = fmt.Errorf("nests more than %d deep; allowed: what a declaration has", maxDepth)

// read takes a whole document. The error is one for people.
func read(text []byte) (*tree, error) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) // a byte order mark
	t := &tree{at: map[string]int64{}, dec: json.NewDecoder(bytes.NewReader(text))}
	t.dec.UseNumber()
	var err error
	if t.root, err = t.value(""); errors.Is(err, errDeep) {
		return nil, err
	} else if err != nil {
		return nil, notJSON(text)
	}
	if _, err := t.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("goes on after its end; allowed: one JSON object")
	}
	return t, nil
}

func (t *tree) value(path string) (any, error) {
	token, err := t.dec.Token()
	if err != nil {
		return nil, err
	}
	if t.depth++; t.depth > maxDepth {
		return nil, errDeep
	}
	defer func() { t.depth-- }()
	t.at[path] = t.dec.InputOffset()
	open, is := token.(json.Delim)
	switch {
	case !is:
		return token, nil
	case open == '[':
		list := []any{}
		for t.dec.More() {
			v, err := t.value(fmt.Sprintf("%s[%d]", path, len(list)))
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = t.dec.Token()
		return list, err
	default:
		return t.object(path)
	}
}

func (t *tree) object(path string) (any, error) {
	fields := map[string]any{}
	for t.dec.More() {
		token, err := t.dec.Token()
		if err != nil {
			return nil, err
		}
		key, _ := token.(string) // the decoder takes nothing else here
		at := below(path, key)
		_, twice := fields[key]
		v, err := t.value(at)
		if err != nil {
			return nil, err
		}
		if twice {
			t.problems = append(t.problems, Problem{at, "stands twice; allowed: each key once"})
			continue
		}
		fields[key] = v
	}
	_, err := t.dec.Token()
	return fields, err
}

// notJSON says where the text ceases to be JSON, and what is often meant.
func notJSON(text []byte) error {
	if len(bytes.TrimSpace(text)) == 0 {
		return errors.New(`is empty; a task that only calls others has: {"serviceConnectConfiguration": {"enabled": true}}`)
	}
	// The decoder of tokens is vague about where it stopped; this one is not.
	var syntax *json.SyntaxError
	if err := json.Unmarshal(text, new(any)); !errors.As(err, &syntax) || syntax.Offset >= int64(len(text)) && !bytes.ContainsAny(text[len(text)-1:], "}]") {
		return errors.New("is not JSON: it ends too early; is a bracket or a quote missing?")
	}
	before := text[:max(0, min(int(syntax.Offset)-1, len(text)))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := len(before) - (bytes.LastIndexByte(before, '\n') + 1) + 1
	hint := ""
	next := text[len(before):]
	switch trimmed := bytes.TrimRight(before, " \t\r\n"); {
	case bytes.HasSuffix(trimmed, []byte(",")) && len(next) > 0 && (next[0] == '}' || next[0] == ']'):
		hint = "; the comma before it has to go"
	case len(next) > 0 && next[0] == '\'':
		hint = "; strings stand in double quotes"
	case bytes.HasPrefix(next, []byte("//")), bytes.HasPrefix(next, []byte("/*")), bytes.HasPrefix(next, []byte("#")):
		hint = "; JSON has no comments"
	}
	return fmt.Errorf("is not JSON: line %d, column %d: %s%s", line, column, syntax.Error(), hint)
}

// below is the path of a key.
func below(path, key string) string { return strings.TrimPrefix(path+"."+key, ".") }

// above is the path that contains path; "" is the document.
func above(path string) string { return path[:max(strings.LastIndexAny(path, ".["), 0)] }
