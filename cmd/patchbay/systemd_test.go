package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"patchbay/config"
	"patchbay/declare"
	"patchbay/internal/envoytest"
	"patchbay/sidecar"
	"patchbay/sidecar/file"
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

// TestEC2Guide: the file in the guide is one, its commands of ours exist with
// these flags, and its stop timeout fits the unit's.
func TestEC2Guide(t *testing.T) {
	page, err := os.ReadFile("../../docs/guides/ec2.md")
	if err != nil {
		t.Fatal(err)
	}
	yaml := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(page)[1]
	got, err := file.Parse("guide", yaml, sidecarFlags())
	if err != nil {
		t.Fatal(err)
	}
	if task, err := declare.Parse(got.Declaration); err != nil || len(task.Ports) != 1 {
		t.Errorf("%+v, %v", task, err)
	}
	o := newSidecarOptions()
	c := &cobra.Command{}
	o.flags(c.Flags())
	for _, f := range got.Flags {
		if err := c.Flags().Set(f.Name, f.Value); err != nil {
			t.Errorf("%s: %v", f.Key, err)
		}
	}
	stop, err := strconv.Atoi(unit(t)["TimeoutStopSec"])
	if err != nil || o.cfg.StopTimeout >= time.Duration(stop)*time.Second {
		t.Errorf("stopTimeout %s, TimeoutStopSec %d, %v", o.cfg.StopTimeout, stop, err)
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
	if commands != 2 {
		t.Errorf("%d commands", commands)
	}
	for _, m := range regexp.MustCompile(`deploy/systemd/[a-z.-]+`).FindAll(page, -1) {
		if _, err := os.Stat("../../" + string(m)); err != nil {
			t.Error(err)
		}
	}
}

func sidecarFlags() (names []string) {
	newSidecarCmd().Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return slices.DeleteFunc(names, func(n string) bool { return n == "config" || n == "help" })
}

// machine is a network namespace with an address, and a hosts file.
type machine struct {
	t               *testing.T
	ns, hosts       string
	ours, addr, dir string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "machine")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	n := os.Getpid()
	m := &machine{t: t, ns: fmt.Sprintf("pb-unit-%d", n), dir: dir, hosts: filepath.Join(dir, "hosts")}
	block := 4 * (n % (1 << 12)) // of 10.213.0.0/16 and up
	m.ours, m.addr = fmt.Sprintf("10.213.%d.%d", block>>8, block&255|1), fmt.Sprintf("10.213.%d.%d", block>>8, block&255|2)
	host := fmt.Sprintf("pbu%d", n)
	t.Cleanup(func() {
		exec.Command("ip", "netns", "del", m.ns).Run()
		os.RemoveAll(dir)
	})
	for _, args := range []string{
		"netns add " + m.ns, "link add " + host + " type veth peer name eth0 netns " + m.ns, "addr add " + m.ours + "/30 dev " + host, "link set " + host + " up",
		"-n " + m.ns + " addr add " + m.addr + "/30 dev eth0", "-n " + m.ns + " link set eth0 up", "-n " + m.ns + " link set lo up",
	} {
		if out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	if err := os.WriteFile(m.hosts, []byte("127.0.0.1 localhost\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return m
}

// command runs something on the machine.
func (m *machine) command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", m.ns, "sh", "-c", `mount --bind "$0" /etc/hosts && exec "$@"`, m.hosts}, args...)...)
}

// The users of the unit; no machine has these numbers.
const agentUID, unitEnvoyUID = 61101, 61102

// asUnit is the ExecStart line under the unit's user and capabilities, with
// this test's paths.
func asUnit(t *testing.T, bin, conf string) []string {
	t.Helper()
	u := unit(t)
	var caps []string
	for _, c := range strings.Fields(u["AmbientCapabilities"]) {
		caps = append(caps, "+"+strings.ToLower(strings.TrimPrefix(c, "CAP_")))
	}
	list := "-all," + strings.Join(caps, ",")
	id := strconv.Itoa(agentUID)
	args := []string{"setpriv", "--reuid", id, "--regid", id, "--clear-groups", "--no-new-privs", "--inh-caps=" + list, "--ambient-caps=" + list, "--bounding-set=" + list}
	exec := strings.NewReplacer("/usr/bin/patchbay", bin, "/etc/patchbay/sidecar.yaml", conf).Replace(u["ExecStart"])
	return append(args, strings.Fields(exec)...)
}

// TestUnitOnAMachine runs the unit's command as systemd would, in a network
// namespace: names on the host, calls by name through the rule, Envoy under its
// own user without any capability, and a clean end.
func TestUnitOnAMachine(t *testing.T) {
	m := newMachine(t)
	port := func(listen string) string { _, p, _ := net.SplitHostPort(listen); return p }
	p := startPlane(t, func(c *config.Config) {
		c.XDS.Listen, c.Agent.Listen = net.JoinHostPort(m.ours, port(c.XDS.Listen)), net.JoinHostPort(m.ours, port(c.Agent.Listen))
	})
	bin := filepath.Join(m.dir, "patchbay")
	// TestMain's copy of this program; the unit's user can't reach it where it is.
	program, err := exec.LookPath("patchbay")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "install", "-m", "0755", program, bin).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	state, join, conf := filepath.Join(m.dir, "state"), filepath.Join(m.dir, "join"), filepath.Join(m.dir, "sidecar.yaml")
	if out, err := exec.CommandContext(t.Context(), "cp", "-r", p.joinDir("backend", "backend"), join).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text := fmt.Sprintf(`xds: [%s]
agent: %s
join: %s
state: %s
task: ip-10-0-1-17
wiring: redirect
envoy: %s
envoyUid: %d
concurrency: 1
drainTime: 2s
serviceConnectConfiguration:
  enabled: true
  namespace: demo
  services: [{portName: web, discoveryName: backend, clientAliases: [{port: 8080}]}]
portMappings: [{name: web, containerPort: 8080, appProtocol: http}]
`, p.cfg.XDS.Listen, p.cfg.Agent.Listen, join, state, envoytest.Binary(t), unitEnvoyUID)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	own := exec.CommandContext(t.Context(), "sh", "-c", `mkdir -m 0711 "$0" && chown -R "$1:$1" "$0" "$2"`, state, strconv.Itoa(agentUID), join)
	if out, err := own.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	run := func(cmd *exec.Cmd) *bytes.Buffer {
		out := &bytes.Buffer{}
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return out
	}
	app := m.command(t.Context(), "python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", m.dir, "8080")
	run(app)
	agent := m.command(context.Background(), asUnit(t, bin, conf)...)
	log := &lockedBuffer{}
	agent.Stdout, agent.Stderr = log, log
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if agent.ProcessState == nil {
			_ = agent.Process.Kill()
			_ = agent.Wait()
		}
		_ = app.Process.Kill()
		_ = app.Wait()
		if t.Failed() {
			t.Logf("sidecar:\n%s", log)
		}
	})
	s := (&member{t: t, state: state}).until(func(s sidecar.Status) error {
		if s.Names != 1 { // its own, which the registry has told of
			return fmt.Errorf("%d names", s.Names)
		}
		return serving(s)
	})
	if s.Node != "demo/backend/ip-10-0-1-17" || s.Wiring != "redirect" {
		t.Errorf("%+v", s)
	}
	envoytest.Eventually(t, 10*time.Second, func() error {
		out, err := m.command(t.Context(), "curl", "-sSf", "http://backend.demo:8080/hosts").CombinedOutput()
		if err == nil && !strings.Contains(string(out), "backend.demo") {
			err = fmt.Errorf("curl: %s", out)
		}
		return err
	})
	m.users(agent.Process.Pid)
	if err := agent.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := agent.Wait(); err != nil || !strings.Contains(log.String(), "drain complete") {
		t.Errorf("its end: %v", err)
	}
	if b, err := os.ReadFile(m.hosts); err != nil || strings.Contains(string(b), "backend.demo") {
		t.Errorf("names stay, %v:\n%s", err, b)
	}
}

// users holds agent and Envoy against what the unit promises.
func (m *machine) users(agent int) {
	m.t.Helper()
	out, err := exec.CommandContext(m.t.Context(), "ip", "netns", "pids", m.ns).Output()
	if err != nil {
		m.t.Fatal(err)
	}
	seen := 0
	for _, pid := range strings.Fields(string(out)) {
		status, err := os.ReadFile("/proc/" + pid + "/status")
		if err != nil {
			continue // it has ended
		}
		is := func(key, value string) bool {
			return regexp.MustCompile(`(?m)^` + key + `:\s*` + value + `\b`).Match(status)
		}
		switch {
		case pid == strconv.Itoa(agent):
			seen++
			if !is("Uid", strconv.Itoa(agentUID)) || !is("NoNewPrivs", "1") {
				m.t.Errorf("agent:\n%s", status)
			}
		case is("Name", "envoy") || is("Uid", strconv.Itoa(unitEnvoyUID)):
			seen++
			if !is("Uid", strconv.Itoa(unitEnvoyUID)) || !is("CapEff", "0+") || !is("CapPrm", "0+") || !is("CapAmb", "0+") {
				m.t.Errorf("Envoy:\n%s", status)
			}
		}
	}
	if seen != 2 {
		m.t.Errorf("%d of agent and Envoy are there", seen)
	}
}
