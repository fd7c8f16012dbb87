package patchbay

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	metricName = regexp.MustCompile(`\bpatchbay_[a-z0-9_]+`)
	metricRow  = regexp.MustCompile("(?m)^\\| `(patchbay_[a-z0-9_]+)` \\| (counter|gauge|histogram) \\|[^|]*\\|([^|]*)\\|")
	grouped    = regexp.MustCompile(`by \(([^)]*)\)`)
)

// metricsListed are the metrics of docs/reference/metrics.md, which another test holds
// against what serve exposes, with their labels.
func metricsListed(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile("docs/reference/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, m := range metricRow.FindAllStringSubmatch(string(page), -1) {
		all[m[1]] = m[3]
		if m[2] == "histogram" {
			for _, s := range []string{"_bucket", "_sum", "_count"} {
				all[m[1]+s] = m[3] + "`le`"
			}
		}
	}
	if len(all) < 40 {
		t.Fatalf("the page lists %d metrics", len(all))
	}
	return all
}

// exist fails for a metric, or a label that something is grouped by, that there
// is not.
func exist(t *testing.T, where, expr string, known map[string]string) {
	t.Helper()
	labels := "`job`, `instance`"
	for _, name := range metricName.FindAllString(expr, -1) {
		if strings.Contains(expr, ":"+name) {
			continue // a recording rule's
		}
		has, ok := known[name]
		if !ok {
			t.Errorf("%s: there is no metric %s", where, name)
		}
		labels += has
	}
	for _, m := range grouped.FindAllStringSubmatch(expr, -1) {
		for l := range strings.SplitSeq(m[1], ",") {
			if !strings.Contains(labels, "`"+strings.TrimSpace(l)+"`") {
				t.Errorf("%s: no metric of %s has the label %s", where, expr, l)
			}
		}
	}
}

// TestAlerts: Prometheus takes the rules, they say what they should when they
// should, and what they ask for exists.
func TestAlerts(t *testing.T) {
	rules, err := os.ReadFile("deploy/prometheus/patchbay.rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(rules)) {
		if expr, ok := strings.CutPrefix(strings.TrimSpace(l), "expr: "); ok {
			exist(t, "patchbay.rules.yaml", expr, metricsListed(t))
		}
	}
	promtool(t, "check", "rules", "patchbay.rules.yaml")
	promtool(t, "test", "rules", "patchbay.rules.test.yaml")
	tests, err := os.ReadFile("deploy/prometheus/patchbay.rules.test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(rules), -1) {
		if m[1] != "PatchbaySlowChange" && !regexp.MustCompile(`alertname: `+m[1]+`\b`).Match(tests) {
			t.Errorf("nothing shows what %s says", m[1])
		}
	}
}

// TestDashboards: every panel asks for something that there is, in a language
// that Prometheus takes.
func TestDashboards(t *testing.T) {
	files, err := filepath.Glob("deploy/grafana/*.json")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	known, n := metricsListed(t), 0
	var rules strings.Builder
	rules.WriteString("groups:\n- name: panels\n  rules:\n")
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(b, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				n++
				exist(t, file+", "+p.Title, q.Expr, known)
				fmt.Fprintf(&rules, "  - {record: 'panel_%d', expr: %q}\n", n, q.Expr)
			}
		}
	}
	if n < 30 {
		t.Errorf("%d questions", n)
	}
	all := filepath.Join(t.TempDir(), "panels.yaml")
	if err := os.WriteFile(all, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", "--lint=none", all)
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "promtool", args...)
	cmd.Dir = "deploy/prometheus"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
