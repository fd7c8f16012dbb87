package demo

import (
	"bytes"
	"errors"
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"patchbay/demo/report"
)

func valid(t *testing.T, schema *jsonschema.Schema, text []byte) error {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(v)
}

// TestReport holds what is printed with --json against its schema, and the
// page against the proofs, both ways.
func TestReport(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("../docs/reference/demo.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	r := report.New(&out, true)
	r.Add("request", "a request", report.Figure{Value: report.MS(1500 * time.Microsecond), Unit: "ms", Detail: "words"}, nil)
	r.Add("drain", "a backend stops", report.Figure{}, errors.New("2 requests failed"))
	if err := r.End(); !errors.Is(err, report.ErrProofs) {
		t.Fatal(err)
	}
	if err := valid(t, schema, out.Bytes()); err != nil {
		t.Errorf("%v in\n%s", err, &out)
	}
	for _, wrong := range []string{
		`{"version": 1}`, `{"version": 2, "checks": []}`, `{"version": 1, "checks": [{"id": "x", "ok": true, "value": 1, "unit": "ms", "error": "no"}]}`,
		`{"version": 1, "checks": [{"id": "x", "ok": false, "value": 1, "unit": "ms", "error": ""}]}`,
	} {
		if valid(t, schema, []byte(wrong)) == nil {
			t.Errorf("the schema accepts %s", wrong)
		}
	}
	page, err := os.ReadFile("../docs/reference/demo.md")
	if err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile("(?s)```json\n(.*?)```").FindSubmatch(page)
	if err := valid(t, schema, example[1]); err != nil {
		t.Errorf("the page's example: %v", err)
	}
	var listed []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(string(page), -1) {
		listed = append(listed, m[1])
	}
	all := append(slices.Clone(proofs), cloudProofs...)
	for i, p := range all {
		if i >= len(listed) || listed[i] != p.id {
			t.Fatalf("the page lists %q, the proofs have %q in place %d", listed, p.id, i)
		}
	}
	if len(listed) != len(all) {
		t.Errorf("the page lists %d proofs; there are %d", len(listed), len(all))
	}
}
