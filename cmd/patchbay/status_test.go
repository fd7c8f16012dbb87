package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"patchbay/cmd/patchbay/operate"
	"patchbay/controlplane"
	"patchbay/internal/envoytest"
)

// command runs a subcommand against the plane, as a user would, and returns
// what it prints and its exit code.
func (p *plane) command(args ...string) (out string, exit int) {
	p.t.Helper()
	return execute(p.t, append(args, "--admin", "unix:"+controlplane.AdminSocket(p.cfg.Data))...)
}

// prints waits until a command ends with the exit code and prints what the
// expression matches.
func (p *plane) prints(exit int, expression string, args ...string) string {
	p.t.Helper()
	want := regexp.MustCompile(expression)
	var out string
	envoytest.Eventually(p.t, 30*time.Second, func() error {
		var got int
		if out, got = p.command(args...); got != exit || !want.MatchString(out) {
			return fmt.Errorf("exit code %d, want %d and %q:\n%s", got, exit, expression, out)
		}
		return nil
	})
	return out
}

// TestStatus is the command on a real mesh: nothing to say while all is well,
// the code and exit 4 when the application goes away, and the same in JSON.
func TestStatus(t *testing.T) {
	t.Parallel()
	p := startPlane(t)
	app, port := listen(t, "hello")
	alias := uint16(freePort(t))
	front := p.sidecar(p.joinDir("frontend"), "f1", clientOnly)
	back := p.sidecar(p.joinDir("backend", "backend"), "b1", declares("backend", port, uint16(freePort(t)), alias))
	front.until(serving)
	back.until(serving)
	front.answers("backend.demo", alias, "hello")

	synced := `(?m)^demo/backend/b1 +- +1\.40\.0 +synced +synced +synced +synced +synced +\d+ms +5\dm$`
	out := p.prints(exitDone, synced, "status")
	for _, want := range []string{
		`ready; 2 sidecars, 1 service; the mesh runs on for 5\dm without its CA`,
		`(?m)^demo/frontend/f1 .* -$`,
		fmt.Sprintf(`(?m)^backend\.demo +http +backend\.demo:%d +1 healthy +- +1\.3 +(-|100 %%) +live \d+m?s +5\dm$`, alias),
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("not printed: %s\n%s", want, out)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Errorf("colours without a terminal: %q", out)
	}
	p.prints(exitDone, `(?m)^demo/backend/b1 .*bind .*demo/bind`, "status", "b1", "-o", "wide")
	p.prints(exitDone, `(?s): ready; 1 sidecar, 1 service;.*demo/backend/b1 .*backend\.demo `, "status", "backend")
	p.prints(exitUsage, `no sidecar and no service is called "nobody"`, "status", "nobody")
	p.prints(exitUsage, `no sidecar and no service is called "bakend"; did you mean backend\.demo\?`, "status", "bakend")
	p.prints(exitUsage, `service "bakend" is not in the mesh; did you mean backend\.demo\?`, "verify", "bakend")
	p.prints(exitUsage, `service "bakend" is not in the mesh; did you mean backend\.demo\?`, "shift", "bakend", "--status")
	p.prints(exitDone, `^backend\.demo: all endpoints are called alike`, "shift", "backend", "--status")
	p.prints(exitUsage, `allowed: text, wide, json, yaml`, "status", "-o", "xml")
	p.prints(exitDone, `(?m)^ +node: demo/backend/b1$`, "status", "-o", "yaml")

	app.Close()
	p.prints(exitProblems, `(?s)demo/backend/b1 .* PB1401 an application does not listen.*1 unhealthy .* PB1502 .*findings: patchbay doctor`, "status")
	out = p.prints(exitProblems, `PB1401`, "status", "-o", "json")
	out, _, _ = strings.Cut(out, "\n}\n")
	var got operate.StatusOutput
	if err := json.Unmarshal([]byte(out+"\n}"), &got); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	if got.Findings[0].Code != "PB1401" || got.Findings[0].Subject != "demo/backend/b1" || len(got.Findings[0].Fix) == 0 {
		t.Errorf("%+v", got.Findings)
	}
}
