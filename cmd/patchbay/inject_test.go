package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// command runs a command line as main does, and returns its exit code and what
// it printed on both outputs.
func command(t *testing.T, args ...string) (int, string) {
	t.Helper()
	var out bytes.Buffer
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&out)
	code := exitCode(t.Context(), root, root.ExecuteContext(t.Context()))
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
	if code, out := command(t, "inject", "compose", "absent.yml"); code != exitFailed || !strings.Contains(out, "absent.yml") {
		t.Errorf("an absent file: %d %s", code, out)
	}
}
