package join

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestUnpack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state-join")
	if err := Unpack(`{"join.json": "{}", "ca.pem": "PEM"}`, dir); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "ca.pem")); err != nil || string(b) != "PEM" {
		t.Errorf("%q, %v", b, err)
	}
	for _, bad := range []string{"x", `{"join.key": "secret"}`, `{"../a": "b"}`} {
		if err := Unpack(bad, dir); err == nil || !strings.Contains(err.Error(), "join-files: ") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
