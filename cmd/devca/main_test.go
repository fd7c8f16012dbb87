package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets this binary play devca for the tests that start it.
func TestMain(m *testing.M) {
	if os.Getenv("DEVCA_TEST_MAIN") == "1" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func devcaCommand(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, os.Args[0], args...)
	c.Env = append(os.Environ(), "DEVCA_TEST_MAIN=1")
	return c
}

func TestInitPrintsWhatClientsNeed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	var out, errs bytes.Buffer
	if code := run([]string{"init", "--dir", dir, "--dns", "ca.test,127.0.0.1", "--listen", ":9443"}, &out, &errs); code != 0 {
		t.Fatalf("code %d: %s", code, errs.String())
	}
	var got map[string]string
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got["url"] != "https://ca.test:9443" || len(got["fingerprint"]) != 64 || got["provisioner"] != "patchbay" || got["passwordFile"] != filepath.Join(dir, "provisioner-password") {
		t.Errorf("got %v", got)
	}
	password, err := os.ReadFile(got["passwordFile"])
	if err != nil || strings.Contains(out.String()+errs.String(), string(password)) {
		t.Errorf("the password was printed, or %v", err)
	}
}

func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"run"}, 2, `required flag(s) "dir"`},
		{[]string{"nonsense"}, 2, "unknown command"},
		{[]string{"init", "--dir", dir, "--frob"}, 2, "unknown flag"},
		{[]string{"init", "--dir", dir, "--listen", "9000"}, 1, "HOST:PORT"},
		{[]string{"health", "--dir", dir}, 1, "devca init"},
	} {
		var out, errs bytes.Buffer
		if code := run(c.args, &out, &errs); code != c.code || !strings.Contains(errs.String(), c.want) {
			t.Errorf("%v: code %d, %q; want %d, %q", c.args, code, errs.String(), c.code, c.want)
		}
	}
}

func TestRunUntilSIGTERM(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	dir := filepath.Join(t.TempDir(), "ca")
	cmd := devcaCommand(t.Context(), "run", "--dir", dir, "--dns", "127.0.0.1", "--listen", addr)
	var log bytes.Buffer
	cmd.Stderr = &log
	started := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		out, err := devcaCommand(t.Context(), "health", "--dir", dir).CombinedOutput()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not healthy: %s", out)
		}
	}
	t.Logf("made and healthy after %s", time.Since(started))
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended with %v:\n%s", err, log.String())
	}
	if !strings.Contains(log.String(), "authority stopped") || strings.Contains(log.String(), "PRIVATE") {
		t.Errorf("log:\n%s", log.String())
	}
}
