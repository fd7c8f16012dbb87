package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// command runs a command line as main does, and returns its exit code and what
// it printed on both outputs.
func command(t *testing.T, args ...string) (int, string) {
	t.Helper()
	var out bytes.Buffer
	root := newRoot()
	root.SetOut(&out)
	root.SetErr(&out)
	code := perform(t.Context(), root, args)
	return code, out.String()
}

// The repository's own file is the plain one, injected.
func TestComposeFileIsCurrent(t *testing.T) {
	code, out := command(t, "inject", "compose", "../../docker-compose.plain.yml", "-o", "../../docker-compose.yml", "--check")
	if code != exitDone {
		t.Errorf("exit code %d: %s\nmake build && ./bin/patchbay inject compose docker-compose.plain.yml -o docker-compose.yml", code, out)
	}
}

const plainFile = `# mine
services:
  web:
    image: nginx # why
    ports: ["127.0.0.1:8080:80"]
    x-service-connect: {namespace: demo}
`

func TestInjectInPlace(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("compose.yml", []byte(plainFile), 0o640); err != nil {
		t.Fatal(err)
	}
	if code, out := command(t, "inject", "compose", "--check"); code != exitProblems || !strings.Contains(out, "compose.yml is not current") {
		t.Errorf("a plain file is said to be current: %d %s", code, out)
	}
	for range 2 {
		if code, out := command(t, "inject", "compose", "-o", "compose.yml"); code != exitDone || out != "" {
			t.Fatalf("inject: %d %s", code, out)
		}
		if code, out := command(t, "inject", "compose", "--check"); code != exitDone {
			t.Errorf("check: %d %s", code, out)
		}
	}
	if info, err := os.Stat("compose.yml"); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the mode became %v (%v)", info.Mode(), err)
	}
	if code, out := command(t, "inject", "compose", "--remove", "-o", "compose.yml"); code != exitDone {
		t.Fatalf("remove: %d %s", code, out)
	}
	if text, err := os.ReadFile("compose.yml"); err != nil || string(text) != plainFile {
		t.Errorf("removed (%v):\n%s", err, text)
	}
	if left, err := filepath.Glob(".patchbay-*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestInjectRefuses(t *testing.T) {
	t.Chdir(t.TempDir())
	if code, out := command(t, "inject", "compose"); code != exitUsage || !strings.Contains(out, "there is no compose file here") {
		t.Errorf("no file: %d %s", code, out)
	}
	bad := strings.Replace(plainFile, "{namespace: demo}", "{namespace: Demo, port: 1}", 1)
	if err := os.WriteFile("mine.yml", []byte(bad), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out := command(t, "inject", "compose", "mine.yml", "-o", "mine.yml")
	if code != exitProblems || !strings.Contains(out, "mine.yml:6: services.web.x-service-connect.port: is not a key here") {
		t.Errorf("a bad file: %d %s", code, out)
	}
	if text, err := os.ReadFile("mine.yml"); err != nil || string(text) != bad {
		t.Errorf("a bad file was changed (%v):\n%s", err, text)
	}
	if _, err := os.Stat("absent.yml"); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if code, out := command(t, "inject", "compose", "absent.yml"); code != exitUsage || !strings.Contains(out, "absent.yml") {
		t.Errorf("an absent file: %d %s", code, out)
	}
}

// TestInjectECS goes there and back on the command line, as docs/guides/ecs.md
// says.
func TestInjectECS(t *testing.T) {
	var texts [2]string
	for i, name := range []string{"task.json", "service.json"} {
		b, err := os.ReadFile("../../declare/source/testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(b)
	}
	t.Chdir(t.TempDir())
	for i, name := range []string{"task.json", "service.json"} {
		if err := os.WriteFile(name, []byte(texts[i]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"inject", "ecs", "task.json", "service.json", "-o", "mesh", "--image", "patchbay:1", "--xds", "patchbay.internal:18000", "--agent", "patchbay.internal:18001"}
	code, out := command(t, args...)
	for _, want := range []string{
		"note: task.json: taskDefinition", "wrote mesh/backend.task-definition.json\nwrote mesh/backend.service.json\n",
		"changed: task.json: taskDefinition.cpu: 256 units with 512 MiB become 512 with 1024, as the sidecar wants 256 and 64 more, the next size of Fargate that holds it",
	} {
		if code != exitDone || !strings.Contains(out, want) {
			t.Fatalf("%d, and not said: %s\n%s", code, want, out)
		}
	}
	strict := append(slices.Clone(args), "--strict")
	strict[5] = "strict"
	if code, out := command(t, strict...); code != exitProblems || !strings.Contains(out, "nothing was written: ") || !strings.Contains(out, "notes, with --strict") {
		t.Errorf("strict: %d %s", code, out)
	}
	if _, err := os.Stat("strict"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("strict writes: %v", err)
	}
	again := slices.Clone(args)
	again[2], again[3], again[5] = "mesh/backend.task-definition.json", "mesh/backend.service.json", "again"
	if code, out := command(t, again...); code != exitProblems || !strings.HasPrefix(out, "patchbay: nothing was written:\nmesh/backend.task-definition.json: containerDefinitions[2].name: patchbay-sidecar is there already: this was injected before; allowed: the definition without it, which 'patchbay uninject ecs FILE -o DIR' writes") || strings.Count(out, "\n") != 2 {
		t.Errorf("injected twice: %d %s", code, out)
	}
	if code, out := command(t, "uninject", "ecs", "mesh/backend.task-definition.json", "mesh/backend.service.json", "-o", "plain"); code != exitDone {
		t.Fatalf("%d %s", code, out)
	}
	if code, out := command(t, "uninject", "ecs", "task.json", "-o", "same"); code != exitDone || !strings.Contains(out, "note: task.json has no patchbay-sidecar") {
		t.Errorf("never injected: %d %s", code, out)
	}
	for i, name := range []string{"task-definition", "service"} {
		b, err := os.ReadFile("plain/backend." + name + ".json")
		if err != nil || string(b) != texts[i] {
			t.Errorf("%s came back otherwise (%v):\n%s", name, err, b)
		}
	}
	if code, out := command(t, "inject", "ecs", "task.json", "-o", "other", "--xds", "a:1", "--agent", "a:2"); code != exitProblems || !strings.Contains(out, "its service is not given") {
		t.Errorf("without a service: %d %s", code, out)
	}
	if _, err := os.Stat("other"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was written: %v", err)
	}
	args[9], args[11] = "patchbay.internal", "patchbay.internal:0"
	if code, out := command(t, args...); code != exitUsage || !strings.Contains(out, `xds: "patchbay.internal"; allowed: HOST:PORT`) || !strings.Contains(out, `agent: "patchbay.internal:0"; allowed`) {
		t.Errorf("no port: %d %s", code, out)
	}
	if code, out := command(t, args[:6]...); code != exitUsage || !strings.Contains(out, "xds: is missing") || !strings.Contains(out, "agent: is missing") {
		t.Errorf("no addresses: %d %s", code, out)
	}
	if code, out := command(t, "uninject", "ecs", "task.json"); code != exitUsage {
		t.Errorf("no -o: %d %s", code, out)
	}
	args[9], args[11] = "a:1", "a:2"
	if err := os.MkdirAll("keyed", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("keyed/join.key", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := command(t, append(args, "--join", "keyed")...); code != exitUsage || !strings.Contains(out, "no place for one") {
		t.Errorf("a key: %d %s", code, out)
	}
}

// TestInjectECSDiff prints what would change and writes nothing, and holds a
// port's protocol against the revision before.
func TestInjectECSDiff(t *testing.T) {
	var texts [2]string
	for i, name := range []string{"task.json", "service.json"} {
		b, err := os.ReadFile("../../declare/source/testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(b)
	}
	t.Chdir(t.TempDir())
	changed := strings.Replace(texts[0], `"appProtocol": "http"`, `"appProtocol": "grpc"`, 1)
	for name, text := range map[string]string{"task.json": texts[0], "service.json": texts[1], "new.json": changed} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"inject", "ecs", "task.json", "service.json", "--xds", "patchbay.internal:18000", "--agent", "patchbay.internal:18001", "--previous", "task.json"}
	code, out := command(t, append(args, "--diff")...)
	for _, want := range []string{
		"--- task.json\n+++ backend.task-definition.json\n@@", "+++ backend.service.json", "\n+            \"name\": \"patchbay-sidecar\"", "\n-    \"serviceConnectConfiguration\"",
		"(what was there before, ",
	} {
		if code != exitDone || !strings.Contains(out, want) {
			t.Errorf("%d, and not printed: %q\n%s", code, want, out)
		}
	}
	if files, err := filepath.Glob("*"); err != nil || len(files) != 3 {
		t.Errorf("there are %v", files)
	}
	args[2] = "new.json"
	if code, out := command(t, append(args, "-o", "mesh")...); code != exitProblems || !strings.Contains(out, "appProtocol: is grpc, and port web was http in task.json; allowed: http") {
		t.Errorf("another protocol: %d %s", code, out)
	}
	args[len(args)-1] = "service.json"
	if code, out := command(t, append(args, "-o", "mesh")...); code != exitProblems || !strings.Contains(out, "service.json: has no task definition") {
		t.Errorf("no task definition: %d %s", code, out)
	}
	if code, out := command(t, args...); code != exitUsage || !strings.Contains(out, "output") {
		t.Errorf("neither -o nor --diff: %d %s", code, out)
	}
}
