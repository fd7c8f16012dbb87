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
	notes, printed, _ := strings.Cut(out, "{")
	printed = "{" + printed
	for _, want := range []string{"note: " + data + " had no control plane's CA, and got one", "note: prod/backend joins only where identities.taskRoles of the control plane's file names it"} {
		if !strings.Contains(notes, want) {
			t.Errorf("not said: %s\n%s", want, notes)
		}
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

// TestRolesAreHeldAgainstTheFile: with the control plane's file at hand, a
// directory that nobody could join with is not made.
func TestRolesAreHeldAgainstTheFile(t *testing.T) {
	t.Chdir(t.TempDir())
	write := func(name, identities string) {
		if err := os.WriteFile(name, []byte("namespaces: [prod]\ntrustDomain: prod.example\ncloudMap: {}\ndata: data\n"+identities), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("none.yaml", "")
	write("some.yaml", `identities: {taskRoles: {workloads: [{namespace: prod, workload: backend, discoveryNames: [backend], role: "arn:aws:iam::111122223333:role/backend", cluster: prod}]}}`)
	for _, c := range []struct {
		config string
		flags  []string
		code   int
		want   string
	}{
		{"none.yaml", []string{"--task-role", "--workload", "backend"}, exitUsage, "none.yaml: identities.taskRoles.workloads: names nobody, and not prod/backend; add {namespace: prod, workload: backend, discoveryNames: [], role: ARN, cluster: CLUSTER}\nnothing was made"},
		{"some.yaml", []string{"--task-role", "--workload", "other", "--discovery-name", "a"}, exitUsage, "names prod/backend, and not prod/other; add {namespace: prod, workload: other, discoveryNames: [a], "},
		{"some.yaml", []string{"--task-role", "--workload", "backend", "--discovery-name", "a", "--discovery-name", "backend"}, exitUsage, `lets prod/backend offer ["backend"], and not ["a"]; add them`},
		{"some.yaml", []string{"--instance-role", "--workload", "backend"}, exitUsage, "identities.instanceRoles.workloads: names nobody, and not prod/backend"},
		{"absent.yaml", []string{"--task-role", "--workload", "backend"}, exitUsage, "absent.yaml: no such file"},
	} {
		code, out := command(t, append([]string{"token", "join", "--namespace", "prod", "--out", "join", "--config", c.config}, c.flags...)...)
		if code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%s %v: exit code %d:\n%s", c.config, c.flags, code, out)
		}
	}
	for _, made := range []string{"join", "data"} {
		if _, err := os.Stat(made); err == nil {
			t.Errorf("%s was made", made)
		}
	}
	// What the file says is taken from it.
	code, out := command(t, "token", "join", "--namespace", "prod", "--workload", "backend", "--discovery-name", "backend", "--out", "join", "--config", "some.yaml", "--task-role")
	info, err := os.ReadFile("join/join.json")
	if code != exitDone || err != nil || strings.Contains(out, "joins only where") || !strings.Contains(string(info), "prod.example") {
		t.Errorf("exit code %d, %v, %s:\n%s", code, err, info, out)
	}
}
