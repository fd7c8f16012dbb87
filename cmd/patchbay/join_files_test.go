package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestJoinFilesAreTold: what a task without a disk of ours prints is enough for
// inject, and holds no key; with a key nothing of the files is printed.
func TestJoinFilesAreTold(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	args := []string{"token", "join", "--json", "--data", data, "--trust-domain", "prod.example", "--namespace", "prod", "--workload", "backend", "--discovery-name", "backend"}
	var told struct{ Files map[string]string }
	dir := filepath.Join(t.TempDir(), "join")
	code, out := command(t, append(args, "--task-role", "--out", dir)...)
	note, printed, _ := strings.Cut(out, "\n")
	if !strings.HasPrefix(note, "note: "+data+" had no control plane's CA, and got one") {
		t.Errorf("of the new CA nothing is said: %s", note)
	}
	if err := json.Unmarshal([]byte(printed), &told); code != exitDone || err != nil || len(told.Files) != 2 {
		t.Fatalf("%d, %v:\n%s", code, err, out)
	}
	for name, text := range told.Files {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != text || strings.Contains(text, "PRIVATE KEY") {
			t.Errorf("%s (%v): %q, told %q", name, err, b, text)
		}
	}
	if code, out := command(t, append(args, "--out", filepath.Join(t.TempDir(), "keyed"))...); code != exitDone || strings.Contains(out, `"files"`) {
		t.Errorf("%d: %s", code, out)
	}
}
