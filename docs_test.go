package patchbay

import (
	"os"
	"strings"
	"testing"
)

// TestRooms: docs/architecture.md names every package that the import rule
// names.
func TestRooms(t *testing.T) {
	b, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rooms, _ := strings.Cut(string(b), "## The rooms")
	for pkg := range mayImport {
		if pkg != "internal/deps" && !strings.Contains(rooms, "**"+pkg) {
			t.Errorf("the page lacks %s", pkg)
		}
	}
}
