package translate

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// TestPage holds the names of docs/reference/resources.md against those of the
// golden files, both ways.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/reference/resources.md")
	if err != nil {
		t.Fatal(err)
	}
	placeholders := strings.NewReplacer(
		"DISCOVERYNAME", "[a-z0-9_-]+", "NAMESPACE", "[a-z0-9_.-]+", "VIP", `127\.[0-9.]+`, "PORTNAME", "[a-z0-9_-]+", "PORT", "[0-9]+", "ISSUER", ".+", "WORKLOAD", "[a-z]+", "REVISION", "[0-9a-zA-Z_.-]+", ".", `\.`,
	)
	type row struct {
		kind string
		name *regexp.Regexp
		text string
		used bool
	}
	var rows []*row
	for _, m := range regexp.MustCompile("(?m)^\\| ([A-Z][A-Za-z]+) \\| `([^`]+)` \\|").FindAllStringSubmatch(string(page), -1) {
		rows = append(rows, &row{kind: m[1], name: regexp.MustCompile("^" + placeholders.Replace(m[2]) + "$"), text: m[2]})
	}
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range a.Files[1:] {
			kind, name, _ := strings.Cut(f.Name, " ")
			found := 0
			for _, r := range rows {
				if r.kind == kind && r.name.MatchString(name) {
					r.used = true
					found++
				}
			}
			if found != 1 {
				t.Errorf("%s %s: %d rows of the page fit", kind, name, found)
			}
		}
	}
	for _, r := range rows {
		if !r.used {
			t.Errorf("no golden file has a %s %s", r.kind, r.text)
		}
	}
}
