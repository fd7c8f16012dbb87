package declare

import (
	"bytes"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// comparing are the refused declarations whose mistake lies between two of
// their parts, or in how the text is written: a schema can't see it.
var comparing = map[string]bool{
	"port unknown": true, "port without a name": true, "ports without names": true, "udp": true, "tcp request timeout": true, "override taken": true, "app on the ingress port": true,
	"duplicate discovery": true, "duplicate alias": true, "duplicate port": true, "duplicate mapping": true, "duplicate override": true,
	"keys twice": true, "policy of the wrong side": true, "mutual TLS where it can't be": true,
	"a range of ports": true, "a range that is too long": true, "the ingress within a range": true,
}

// TestSchema holds docs/reference/declaration.schema.json against what Parse
// accepts and refuses.
func TestSchema(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("../docs/reference/declaration.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range archive(t, "accepted.txtar").Files {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(f.Data))
		if err == nil {
			err = schema.Validate(v)
		}
		if f.Name != "null is absent" && err != nil { // the schema is for writers: it does without null
			t.Errorf("%s: the schema refuses it: %v", f.Name, err)
		}
	}
	seen := 0
	for i, f := range archive(t, "refused.txtar").Files {
		if i%2 == 1 {
			continue
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(f.Data))
		if err == nil {
			err = schema.Validate(v)
		}
		if comparing[f.Name] {
			seen++
		}
		if (err == nil) != comparing[f.Name] {
			t.Errorf("%s: the schema says %v", f.Name, err)
		}
	}
	if seen != len(comparing) {
		t.Errorf("%d of %d exceptions are in refused.txtar", seen, len(comparing))
	}
}
