package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"patchbay/config"
	"patchbay/internal/envoytest"
)

// machine is a network namespace with an address, and a hosts file.
type machine struct {
	t               *testing.T
	ns, hosts       string
	ours, addr, dir string
}

// machines counts those of this process.
var machines atomic.Int32

func newMachine(t *testing.T) *machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "machine")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// A network that is no longer used goes some time after its test.
	n := os.Getpid()*4 + int(machines.Add(1))%4
	m := &machine{t: t, ns: fmt.Sprintf("pb-unit-%d", n), dir: dir, hosts: filepath.Join(dir, "hosts")}
	block := 4 * (n % (1 << 14)) // of 10.213.0.0/16 and up
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
		m.run(append([]string{"ip"}, strings.Fields(args)...)...)
	}
	if err := os.WriteFile(m.hosts, []byte("127.0.0.1 localhost\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return m
}

// listens has a control plane listen where the machine reaches it.
func (m *machine) listens(c *config.Config) {
	for _, listen := range []*string{&c.XDS.Listen, &c.Agent.Listen} {
		_, port, _ := net.SplitHostPort(*listen)
		*listen = net.JoinHostPort(m.ours, port)
	}
}

// run is a command that must succeed.
func (m *machine) run(args ...string) {
	m.t.Helper()
	if out, err := exec.CommandContext(m.t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
		m.t.Fatalf("%v: %v: %s", args, err, out)
	}
}

// paths below the machine's directory.
func (m *machine) path(name string) string { return filepath.Join(m.dir, name) }

// install puts program, join directory and file in place; more are lines of the
// file.
func (m *machine) install(p *plane, join string, more ...string) {
	m.t.Helper()
	// TestMain's copy of this program; the unit's user can't reach it where it is.
	program, err := exec.LookPath("patchbay")
	if err != nil {
		m.t.Fatal(err)
	}
	m.run("install", "-m", "0755", program, m.path("patchbay"))
	m.run("cp", "-r", join, m.path("join"))
	text := fmt.Sprintf(`xds: ["%s"]
agent: "%s"
join: %s
state: %s
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
`, p.cfg.XDS.Listen, p.cfg.Agent.Listen, m.path("join"), m.path("state"), envoytest.Binary(m.t), unitEnvoyUID) + strings.Join(more, "\n") + "\n"
	if err := os.WriteFile(m.path("sidecar.yaml"), []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
	m.run("sh", "-c", `mkdir -m 0711 "$0" && chown -R "$1:$1" "$0" "$2"`, m.path("state"), strconv.Itoa(agentUID), m.path("join"))
}

// app is the machine's application.
func (m *machine) app() {
	m.t.Helper()
	m.start(m.command(m.t.Context(), "python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", m.dir, "8080"))
}

// start runs a command until the test ends.
func (m *machine) start(cmd *exec.Cmd) {
	m.t.Helper()
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
}

// sidecar runs the unit's command.
func (m *machine) sidecar(env []string) (*exec.Cmd, *lockedBuffer) {
	m.t.Helper()
	agent, log := m.command(context.Background(), asUnit(m.t, m.path("patchbay"), m.path("sidecar.yaml"))...), &lockedBuffer{}
	agent.Stdout, agent.Stderr, agent.Env = log, log, env
	m.start(agent)
	m.t.Cleanup(func() {
		if m.t.Failed() {
			m.t.Logf("sidecar:\n%s", log)
		}
	})
	return agent, log
}

func (m *machine) member() *member { return &member{t: m.t, state: m.path("state")} }

// calls waits until the application answers by its name.
func (m *machine) calls() {
	m.t.Helper()
	envoytest.Eventually(m.t, 10*time.Second, func() error {
		out, err := m.command(m.t.Context(), "curl", "-sSf", "http://backend.demo:8080/hosts").CombinedOutput()
		if err == nil && !strings.Contains(string(out), "backend.demo") {
			err = fmt.Errorf("curl: %s", out)
		}
		return err
	})
}

// end stops a sidecar as systemd does.
func (m *machine) end(agent *exec.Cmd, log *lockedBuffer) {
	m.t.Helper()
	if err := agent.Process.Signal(syscall.SIGTERM); err != nil {
		m.t.Fatal(err)
	}
	if err := agent.Wait(); err != nil || !strings.Contains(log.String(), "drain complete") {
		m.t.Errorf("its end: %v", err)
	}
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
	for c := range strings.FieldsSeq(u["AmbientCapabilities"]) {
		caps = append(caps, "+"+strings.ToLower(strings.TrimPrefix(c, "CAP_")))
	}
	list := "-all," + strings.Join(caps, ",")
	id := strconv.Itoa(agentUID)
	args := []string{"setpriv", "--reuid", id, "--regid", id, "--clear-groups", "--no-new-privs", "--inh-caps=" + list, "--ambient-caps=" + list, "--bounding-set=" + list}
	exec := strings.NewReplacer("/usr/bin/patchbay", bin, "/etc/patchbay/sidecar.yaml", conf).Replace(u["ExecStart"])
	return append(args, strings.Fields(exec)...)
}

// users holds agent and Envoy against what the unit promises.
func (m *machine) users(agent int) {
	m.t.Helper()
	out, err := exec.CommandContext(m.t.Context(), "ip", "netns", "pids", m.ns).Output()
	if err != nil {
		m.t.Fatal(err)
	}
	seen := 0
	for pid := range strings.FieldsSeq(string(out)) {
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
