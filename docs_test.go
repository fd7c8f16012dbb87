package patchbay

import (
	"bufio"
	"io"
	"net/http"
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

// TestApplicationOfAPage: the application that docs/guides/policies.md prints
// answers as the page says.
func TestApplicationOfAPage(t *testing.T) {
	page, err := os.ReadFile("docs/guides/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```python\n")
	program, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("the page has no program")
	}
	run := exec.CommandContext(t.Context(), "python3", "-c", program, "backend-1:0", "backend-2:0")
	run.Stderr = t.Output()
	out, err := run.StdoutPipe()
	if err == nil {
		err = run.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = run.Process.Kill()
		_ = run.Wait()
	}()
	var at [2]string
	for lines, i := bufio.NewScanner(out), 0; i < 2 && lines.Scan(); i++ {
		at[i] = "http://127.0.0.1:" + lines.Text()[strings.LastIndex(lines.Text(), " ")+1:]
	}
	for _, c := range []struct{ url, want string }{
		{at[0] + "/", "200 backend-1"}, {at[1] + "/", "200 backend-2"},
		{at[0] + "/flaky", "503 backend-1"}, {at[1] + "/flaky", "200 backend-2"}, // a second try, at the other task
		{at[0] + "/broken", "200 backend-1"}, {at[1] + "/broken", "500 backend-2"},
		{at[0] + "/overload", "503 backend-1"}, {at[1] + "/tries?x", "200 1 tries"}, {at[1] + "/tries", "200 0 tries"},
		{at[0] + "/seen", "200 /orders: false"}, {at[0] + "/orders", "200 backend-1"}, {at[0] + "/seen", "200 /orders: true"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Request-Id", "1")
		answer, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if got := answer.Status[:3] + " " + strings.TrimSpace(string(body)); err != nil || got != c.want || answer.Header.Get("Endpoint-Load-Metrics") == "" {
			t.Errorf("%s: %q, want %q (%v)", c.url, got, c.want, err)
		}
	}
}
