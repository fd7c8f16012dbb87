package patchbay

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"patchbay/mesh/policy"
)

var (
	parityRow   = regexp.MustCompile(`(?m)^\| ([A-Z]+\d+) \| (.*) \|$`)
	parityProof = regexp.MustCompile("`([a-z0-9/]+)\\.(Test[A-Za-z0-9_]+)`")
	testNamed   = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9_]+)\(t \*testing\.T\)`)
)

// dataPath are the files whose every test has a row in docs/parity.md.
var dataPath = []string{
	"xds/datapath_test.go", "xds/protocols_test.go", "xds/balancers_test.go", "xds/accesslog_test.go", "xds/metrics_test.go",
	"xds/strict_test.go", "xds/aws_test.go", "xds/http_test.go", "xds/zones_test.go", "xds/revisions_test.go", "sidecar/parity_test.go", "cmd/patchbay/strict_test.go", "sidecar/metrics/metrics_test.go",
}

// notParity are the tests in them that are about something else.
var notParity = []string{"TestAScrapeWithoutEnvoy", "TestPartsOfACrowd", "TestOwnTasksShareAView"}

// TestParityPage: every row of docs/parity.md names tests that there are, or
// says why none, and every test of the data path has a row.
func TestParityPage(t *testing.T) {
	page, err := os.ReadFile("docs/parity.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := parityRow.FindAllStringSubmatch(string(page), -1)
	if len(rows) < 110 {
		t.Fatalf("%d rows", len(rows))
	}
	seen, named := map[string]bool{}, map[string]bool{}
	for _, r := range rows {
		id, cells := r[1], strings.Split(r[2], " | ")
		if seen[id] || len(cells) != 4 {
			t.Errorf("row %s: %d cells, there already: %v; allowed: five, each once", id, len(cells)+1, seen[id])
			continue
		}
		seen[id] = true
		proof := cells[3]
		tests := parityProof.FindAllStringSubmatch(proof, -1)
		reason := strings.HasPrefix(proof, "not applicable: ") || strings.HasPrefix(proof, "not yet: ")
		if len(tests) == 0 && !reason {
			t.Errorf("row %s has no proof: %s", id, proof)
		}
		if !reason && strings.Trim(parityProof.ReplaceAllString(proof, ""), ", ") != "" {
			t.Errorf("row %s: %s; allowed: tests, or \"not applicable: \", or \"not yet: \" and the reason", id, proof)
		}
		for _, m := range tests {
			named[m[2]] = true
			if !testsOf(t, m[1])[m[2]] {
				t.Errorf("row %s: there is no %s in %s", id, m[2], m[1])
			}
		}
	}
	for _, n := range notParity {
		named[n] = true
	}
	for _, file := range dataPath {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testNamed.FindAllStringSubmatch(string(b), -1) {
			if !named[m[1]] {
				t.Errorf("%s: %s has no row in docs/parity.md", file, m[1])
			}
		}
	}
}

// testsOf are the tests of a package's folder.
func testsOf(t *testing.T, pkg string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(pkg, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Errorf("%s: no tests, %v", pkg, err)
	}
	out := map[string]bool{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testNamed.FindAllStringSubmatch(string(b), -1) {
			out[m[1]] = true
		}
	}
	return out
}

// TestEveryPolicyHasAProof: each member of a policy stands in one of the rows
// about them, and each word there is a member.
func TestEveryPolicyHasAProof(t *testing.T) {
	page, err := os.ReadFile("docs/parity.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]int{}
	for _, r := range parityRow.FindAllStringSubmatch(string(page), -1) {
		if strings.HasPrefix(r[1], "K") {
			cell, _, _ := strings.Cut(r[2], " | ")
			for _, m := range regexp.MustCompile("`(.*?)`").FindAllStringSubmatch(cell, -1) {
				rows[m[1]]++
			}
		}
	}
	var walk func(of reflect.Type, at string)
	walk = func(of reflect.Type, at string) {
		for field := range of.Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			path, ft := at+name, field.Type
			if ft.Kind() == reflect.Pointer {
				ft = ft.Elem()
			}
			switch {
			case ft.Kind() == reflect.Struct:
				walk(ft, path+".")
			case ft.Kind() == reflect.Slice && ft.Elem().Kind() == reflect.Struct:
				walk(ft.Elem(), path+"[].")
			default:
				if rows[path] != 1 {
					t.Errorf("%s stands in %d rows of docs/parity.md; want one", path, rows[path])
				}
				delete(rows, path)
			}
		}
	}
	walk(reflect.TypeFor[policy.Policy](), "")
	for word := range rows {
		t.Errorf("docs/parity.md: %s is no member of a policy", word)
	}
}
