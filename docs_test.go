package patchbay

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var link = regexp.MustCompile(`\]\(([^)#: ]+)(#[^)]*)?\)`)

// TestLinks: what a page points to in this repository is there.
func TestLinks(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "git", "ls-files", "-co", "--exclude-standard", "*.md").Output()
	if err != nil {
		t.Fatal(err)
	}
	pages := strings.Fields(string(out))
	if len(pages) < 10 {
		t.Fatalf("%d pages", len(pages))
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			to := filepath.Join(filepath.Dir(page), m[1])
			if _, err := os.Stat(to); err != nil && to != "docs/benchmarks.json" { // which make bench writes
				t.Errorf("%s points to %s, which is not there", page, m[1])
			}
		}
	}
}

// TestRooms: docs/architecture.md names every package that the import rule
// names.
func TestRooms(t *testing.T) {
	b, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rooms, _ := strings.Cut(string(b), "## The rooms")
	for pkg := range mayImport {
		if !strings.Contains(rooms, "**"+pkg) {
			t.Errorf("the page lacks %s", pkg)
		}
	}
}
