package identity

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestPage holds the words in docs/reference/joining.md against the messages in
// the code; those of crypto/x509 are not ours.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../docs/reference/joining.md")
	must(t, err)
	_, table, ok := strings.Cut(string(page), "| words | code |")
	if !ok {
		t.Fatal("the page has no table of words")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	var code strings.Builder
	for _, pattern := range []string{"*.go", "join/*.go", "registered/*.go"} {
		files, err := filepath.Glob(pattern)
		must(t, err)
		for _, file := range files {
			if !strings.HasSuffix(file, "_test.go") {
				text, err := os.ReadFile(file)
				must(t, err)
				code.Write(text)
			}
		}
	}
	said := code.String() + clocks
	// What differs from message to message, and where errors are joined.
	varies := regexp.MustCompile(`"?…"?|[0-9]+(m0s)?|: |; `)
	rows := 0
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| [A-Z]").FindAllStringSubmatch(table, -1) {
		rows++
		for _, part := range varies.Split(m[1], -1) {
			if !strings.Contains(said, strings.TrimSpace(part)) {
				t.Errorf("no message says %q (%s)", part, m[1])
			}
		}
	}
	if rows < 15 {
		t.Errorf("only %d rows were found", rows)
	}
}
