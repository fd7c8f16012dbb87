package inject

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-update writes it anew):\n%s", file, d)
	}
}

func files(t testing.TB, pattern string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(all) == 0 {
		t.Fatalf("no %s: %v", pattern, err)
	}
	return all
}

func content(t testing.TB, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCompose(t *testing.T) {
	for _, file := range files(t, "*.plain.yml") {
		plain := content(t, file)
		out, err := Compose(filepath.Base(file), plain)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		golden(t, strings.Replace(file, ".plain.", ".injected.", 1), out)
		if again, err := Compose(file, out); err != nil || !bytes.Equal(again, out) {
			t.Errorf("%s: the second time differs (%v):\n%s", file, err, cmp.Diff(string(out), string(again)))
		}
		if back, err := Remove(file, out); err != nil || !bytes.Equal(back, plain) {
			t.Errorf("%s: removed (%v):\n%s", file, err, cmp.Diff(string(plain), string(back)))
		}
	}
}

// TestWithoutMarks: an injected file that another program has written anew, without
// comments, is known as one, and nothing else is said of it.
func TestWithoutMarks(t *testing.T) {
	for _, file := range files(t, "*.injected.yml") {
		var kept []string
		for line := range strings.Lines(string(content(t, file))) {
			if mark := strings.TrimSpace(line); mark != begin && mark != end && !strings.HasPrefix(mark, was) {
				kept = append(kept, line)
			}
		}
		_, err := Compose(file, []byte(strings.Join(kept, "")))
		if problems, ok := errors.AsType[Problems](err); !ok || len(problems) != 1 || !strings.Contains(err.Error(), "without the marks by which it is found (# >>> patchbay inject…)") {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestProblems(t *testing.T) {
	for _, file := range files(t, "*.bad.yml") {
		_, err := Compose(filepath.Base(file), content(t, file))
		if _, ok := errors.AsType[Problems](err); !ok {
			t.Errorf("%s: %v", file, err)
			continue
		}
		golden(t, strings.TrimSuffix(file, ".yml")+".txt", []byte(err.Error()+"\n"))
	}
}
