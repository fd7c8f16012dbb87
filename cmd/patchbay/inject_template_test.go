package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestInjectTemplate: a template becomes a template and goes back byte for byte;
// of a plan it is said what Terraform's own files need.
func TestInjectTemplate(t *testing.T) {
	var texts []string
	for _, name := range []string{"template.yaml", "plan.json"} {
		b, err := os.ReadFile("../../declare/source/testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(b))
	}
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{"template.yaml": texts[0], "plan.json": texts[1], "p.json": `{"policies": {"payments": {"retries": {"max": 0}}}}`} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at := []string{"--xds", "patchbay.internal:18000", "--agent", "patchbay.internal:18001"}
	says := func(want string, args ...string) {
		t.Helper()
		if code, out := command(t, args...); code != exitDone || !strings.Contains(out, want) {
			t.Errorf("%v: %d, and not said: %q\n%s", args, code, want, out)
		}
	}
	holds := func(file string, want ...string) {
		t.Helper()
		b, err := os.ReadFile(file)
		for _, w := range want {
			if err != nil || !strings.Contains(string(b), w) {
				t.Errorf("%s (%v) does not hold %q:\n%s", file, err, w, b)
			}
		}
	}
	says("wrote mesh/template.yaml\n", append([]string{"inject", "ecs", "template.yaml", "-o", "mesh", "--policies", "Service=p.json", "--parameter", "Stage=test"}, at...)...)
	holds("mesh/template.yaml", "Image: !Ref Image\n", "- Name: patchbay-sidecar\n", `"policies":{"payments"`, `"discoveryName":"backend-test"`)
	if code, out := command(t, append([]string{"inject", "ecs", "mesh/template.yaml", "-o", "again"}, at...)...); code != exitProblems || !strings.Contains(out, "allowed: the definition without it, which ") {
		t.Errorf("twice: %d %s", code, out)
	}
	says("+        - Name: patchbay-sidecar", append([]string{"inject", "ecs", "template.yaml", "--diff"}, at...)...)
	says("wrote plain/template.yaml\n", "uninject", "ecs", "mesh/template.yaml", "-o", "plain")
	holds("plain/template.yaml", texts[0])
	says("note: template.yaml has no patchbay-sidecar", "uninject", "ecs", "template.yaml", "-o", "same")
	if code, out := command(t, append([]string{"inject", "ecs", "template.yaml", "-o", "."}, at...)...); code != exitUsage || !strings.Contains(out, "template.yaml is what is read") {
		t.Errorf("over itself: %d %s", code, out)
	}
	holds("template.yaml", texts[0])
	two := strings.ReplaceAll(texts[0], "  Service:\n", "  Other:\n")
	two = texts[0] + two[strings.Index(two, "  Other:\n"):]
	if err := os.WriteFile("two.yaml", []byte(two), 0o600); err != nil {
		t.Fatal(err)
	}
	says("", "token", "join", "--data", "data", "--trust-domain", "prod.example", "--task-role", "--namespace", "mesh-prod", "--workload", "Other", "--out", "join")
	if code, out := command(t, append([]string{"inject", "ecs", "two.yaml", "-o", "both", "--join", "join"}, at...)...); code != exitProblems || !strings.Contains(out, "one run for each of the services Other, Service, with --service (here Other) and the --join") {
		t.Errorf("one join directory for two: %d %s", code, out)
	}
	if code, out := command(t, append([]string{"inject", "ecs", "two.yaml", "-o", "both", "--join", "join", "--service", "Other"}, at...)...); code != exitProblems || !strings.Contains(out, "--discovery-name backend-prod") {
		t.Errorf("one of two: %d %s", code, out)
	}
	says("wrote tf/backend.hcl\n", append([]string{"inject", "ecs", "plan.json", "-o", "tf", "--policies", "p.json"}, at...)...)
	holds(filepath.Join("tf", "backend.hcl"), `cpu                   = "512"`, "enabled = false", "container_port   = 15010", `file("${path.module}/backend.task-definition.json")`)
	if code, out := command(t, append([]string{"inject", "ecs", "plan.json", "-o", "tf", "--policies", "other=p.json"}, at...)...); code != exitProblems || !strings.Contains(out, "of which service? allowed: SERVICE=FILE, of backend") {
		t.Errorf("of no service: %d %s", code, out)
	}
}
