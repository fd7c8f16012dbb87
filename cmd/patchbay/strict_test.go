package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"patchbay/cmd/patchbay/tasks"
	"patchbay/internal/envoytest"
)

// TestStrictProfile: a task whose names are frozen, beside one that is live.
func TestStrictProfile(t *testing.T) {
	p := startPlane(t)
	_, hello := listen(t, "hello")
	_, late := listen(t, "late")
	alias := uint16(freePort(t))
	back := p.sidecar(p.joinDir("backend", "backend"), "b1", declares("backend", hello, uint16(freePort(t)), alias))
	back.until(serving)
	join, scraped := p.joinDir("frontend"), "127.0.0.1:"+strconv.Itoa(freePort(t))
	strict := p.sidecar(join, "s1", clientOnly, "--profile", "strict", "--metrics", scraped)
	live := p.sidecar(join, "l1", clientOnly)
	strict.until(serving)
	if vip := strict.lookup("backend.demo"); vip != "127.255.0.1" {
		t.Errorf("its first name is at %q", vip)
	}
	strict.answers("backend.demo", alias, "hello")

	second := p.sidecar(p.joinDir("later", "later"), "t1", declares("later", late, uint16(freePort(t)), alias))
	second.until(serving)
	live.answers("later.demo", alias, "late")
	if vip := strict.lookup("later.demo"); vip != "" {
		t.Errorf("a running strict task learns of later.demo: %s", vip)
	}
	strict.answers("backend.demo", alias, "hello")

	// Its metrics are there for a scrape, and beside them whether it is well.
	for path, want := range map[string]string{"/readyz": `"ready": true`, "/healthz": `"ok": true`} {
		resp, err := http.Get("http://" + scraped + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(b), want) {
			t.Errorf("%s: %s %v\n%s", path, resp.Status, err, b)
		}
	}
	resp, err := http.Get("http://" + scraped + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(b), `patchbay_sidecar_target_responses_total{class="2xx",cluster_name="demo",service_name="frontend",target_discovery_name="backend"} 2`) {
		t.Errorf("%v\n%s", err, b)
	}

	// The next task knows more; the file that kept the names is gone.
	if err := strict.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(strict.state, "names.json")); err == nil {
		t.Error("the names outlive their task")
	}
	next := p.sidecar(join, "s2", clientOnly, "--profile", "strict")
	next.until(serving)
	next.answers("later.demo", alias, "late")
	if got := []string{next.lookup("backend.demo"), next.lookup("later.demo")}; got[0] != "127.255.0.1" || got[1] != "127.255.0.2" {
		t.Errorf("the names are at %v", got)
	}
}

// What ECS does not have is refused, all at once.
func TestStrictProfileRefuses(t *testing.T) {
	t.Setenv(tasks.DeclarationVar, `{"serviceConnectConfiguration": {"enabled": true, "dependencies": ["api"]}, "policies": {"api": {"retries": {"max": 1}}}}`)
	root := newRoot()
	root.SetArgs([]string{"sidecar", "--xds", "h:1", "--agent", "h:2", "--join", t.TempDir(), "--task", "x", "--state", t.TempDir(), "--profile", "strict",
		"--hosts-file", filepath.Join(t.TempDir(), "none"), "--envoy", envoytest.Binary(t)})
	root.SetErr(io.Discard)
	err := root.ExecuteContext(t.Context())
	if err == nil || !strings.Contains(err.Error(), "policies for calls") || !strings.Contains(err.Error(), "dependencies; allowed: none") {
		t.Error(err)
	}
}
