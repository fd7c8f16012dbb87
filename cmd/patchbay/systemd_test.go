package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"patchbay/declare"
	"patchbay/mesh/policy"
	"patchbay/sidecar/file"
	"patchbay/sidecar/status"
)

const unitFile = "../../deploy/systemd/patchbay-sidecar.service"

// unit is the service's settings, the last of each key.
func unit(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(line, "#") {
			out[key] = value
		}
	}
	return out
}

// TestUnitIsValid has systemd itself read the unit, with programs and users
// that are here.
func TestUnitIsValid(t *testing.T) {
	text, err := os.ReadFile(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	here := strings.NewReplacer("/usr/bin/patchbay", "/bin/true", "=patchbay\n", "=root\n").Replace(string(text))
	path := filepath.Join(t.TempDir(), "patchbay-sidecar.service")
	if err := os.WriteFile(path, []byte(here), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", path).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze: %v\n%s", err, out)
	}
	u := unit(t)
	if u["KillMode"] != "mixed" || u["AmbientCapabilities"] != u["CapabilityBoundingSet"] || u["NoNewPrivileges"] != "yes" {
		t.Errorf("%v", u)
	}
}

// TestEC2Guide: the file in the guide is one, in two parts, its commands of ours exist with
// these flags, and its stop timeout fits the unit's.
func TestEC2Guide(t *testing.T) {
	page, err := os.ReadFile("../../docs/guides/ec2.md")
	if err != nil {
		t.Fatal(err)
	}
	var yaml []byte
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(page, -1) {
		yaml = append(yaml, block[1]...)
	}
	got, err := file.Parse("guide", yaml, sidecarFlags())
	if err != nil {
		t.Fatal(err)
	}
	if task, err := declare.Parse(got.Declaration); err != nil || len(task.Ports) != 1 || task.Ports[0].Policy.Deployment.Strategy != policy.BlueGreen {
		t.Errorf("%+v, %v", task, err)
	}
	c := sidecarCommand()
	for _, f := range got.Flags {
		if err := c.Flags().Set(f.Name, f.Value); err != nil {
			t.Errorf("%s: %v", f.Key, err)
		}
	}
	if f := c.Flag("revision"); f.Value.String() != "7" {
		t.Errorf("revision %q", f.Value)
	}
	stop, err := strconv.Atoi(unit(t)["TimeoutStopSec"])
	timeout, ferr := c.Flags().GetDuration("stop-timeout")
	if err := errors.Join(err, ferr); err != nil || timeout >= time.Duration(stop)*time.Second {
		t.Errorf("stopTimeout %s, TimeoutStopSec %d, %v", timeout, stop, err)
	}
	commands := 0
	for _, m := range regexp.MustCompile(`(?m)^patchbay (.*)$`).FindAllSubmatch(page, -1) {
		commands++
		cmd, rest, err := newRoot().Find(strings.Fields(string(m[1])))
		if err == nil {
			err = cmd.ParseFlags(rest)
		}
		if err != nil {
			t.Errorf("patchbay %s: %v", m[1], err)
		}
	}
	if commands != 3 {
		t.Errorf("%d commands", commands)
	}
	for _, m := range regexp.MustCompile(`deploy/systemd/[a-z.-]+`).FindAll(page, -1) {
		if _, err := os.Stat("../../" + string(m)); err != nil {
			t.Error(err)
		}
	}
}

func sidecarCommand() *cobra.Command {
	c, _, _ := newRoot().Find([]string{"sidecar"})
	return c
}

func sidecarFlags() (names []string) {
	sidecarCommand().Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return slices.DeleteFunc(names, func(n string) bool { return n == "config" || n == "help" })
}

// TestUnitOnAMachine runs the unit's command as systemd would, in a network
// namespace: names on the host, calls by name through the rule, Envoy under its
// own user without any capability, and a clean end.
func TestUnitOnAMachine(t *testing.T) {
	m := newMachine(t)
	p := startPlane(t, m.listens)
	m.install(p, p.joinDir("backend", "backend"), "task: ip-10-0-1-17")
	m.app()
	agent, log := m.sidecar(os.Environ())
	s := m.member().until(func(s status.Report) error {
		if s.Names != 1 { // its own, which the registry has told of
			return fmt.Errorf("%d names", s.Names)
		}
		return serving(s)
	})
	if s.Node != "demo/backend/ip-10-0-1-17" || s.Wiring != "redirect" {
		t.Errorf("%+v", s)
	}
	m.calls()
	m.users(agent.Process.Pid)
	m.end(agent, log)
	if b, err := os.ReadFile(m.hosts); err != nil || strings.Contains(string(b), "backend.demo") {
		t.Errorf("names stay, %v:\n%s", err, b)
	}
}
