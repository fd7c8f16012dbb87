package evidence

import "testing"

func TestNoLeaf(t *testing.T) {
	for dump, none := range map[string]bool{
		`{"configs": [{"name": "node", "secret": {"tls_certificate": {}}}, {"name": "bundle/default", "secret": {"validation_context": {}}}]}`: true,
		`{"configs": [{"name": "leaf/backend.demo", "secret": {"tls_certificate": {}}}]}`:                                                      false,
		`{}`: true, `no`: false,
	} {
		if err := NoLeaf(dump); (err == nil) != none {
			t.Errorf("%s: %v", dump, err)
		}
	}
}

func TestTally(t *testing.T) {
	if (Tally{}).Begun() == nil || (Tally{OK: 1}).Begun() != nil {
		t.Error("a load begins with its first answer")
	}
	if (Tally{Sent: 2, OK: 1, Failed: 1}).Lost() == nil || (Tally{Sent: 2, OK: 2}).Lost() != nil {
		t.Error("one lost request is one too many")
	}
}
