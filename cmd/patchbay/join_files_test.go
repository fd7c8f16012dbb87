package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWriteJoin(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	dir, err := writeJoin(`{"join.json": "{}", "ca.pem": "PEM"}`, state)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "ca.pem")); err != nil || string(b) != "PEM" {
		t.Errorf("%q, %v", b, err)
	}
	for _, bad := range []string{"x", `{"join.key": "secret"}`, `{"../a": "b"}`} {
		if _, err := writeJoin(bad, state); err == nil || !strings.Contains(err.Error(), "join-files: ") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
