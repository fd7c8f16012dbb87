package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"patchbay/internal/envoytest"
	"patchbay/sidecar/status"
)

// onlyIPv6 gives a machine addresses of that family in place of what it had.
func (m *machine) onlyIPv6() {
	m.t.Helper()
	host := strings.Replace(m.ns, "pb-unit-", "pbu", 1)
	suffix := strings.ReplaceAll(strings.TrimPrefix(m.ours, "10.213."), ".", ":")
	m.run("ip", "addr", "del", m.ours+"/30", "dev", host)
	m.run("ip", "-n", m.ns, "addr", "del", m.addr+"/30", "dev", "eth0")
	m.ours, m.addr = "fd00:213:"+suffix+"::1", "fd00:213:"+suffix+"::2"
	m.run("ip", "addr", "add", m.ours+"/64", "dev", host, "nodad")
	m.run("ip", "-n", m.ns, "addr", "add", m.addr+"/64", "dev", "eth0", "nodad")
}

// rules are those of the machine's network namespace.
func (m *machine) rules() string {
	m.t.Helper()
	out, err := m.command(m.t.Context(), "nft", "-s", "list", "ruleset").CombinedOutput()
	if err != nil {
		m.t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// TestATaskOfIPv6Alone: a task without IPv4 whose application listens on ::1
// alone joins by a name that has both families, is registered by IPv6, is called
// by its alias and, past the alias, at the application's own port, through its
// ingress. Clients that want an IPv6 address of the alias have one. An agent that
// is killed leaves nothing that the next does not take over and take away.
func TestATaskOfIPv6Alone(t *testing.T) {
	m := newMachine(t)
	m.onlyIPv6()
	p := startPlane(t, m.listens)
	m.install(p, p.joinDir("backend", "backend"), "task: six", "intercept: true")
	m.run("sed", "-i", "s/\\["+m.ours+"\\]/control.test/g", m.path("sidecar.yaml"))
	if err := os.WriteFile(m.hosts, fmt.Appendf(nil, "127.0.0.1 localhost\n192.0.2.9 control.test\n%s control.test\n", m.ours), 0o644); err != nil {
		t.Fatal(err)
	}
	m.start(m.command(t.Context(), "python3", "-m", "http.server", "--bind", "::1", "--directory", m.dir, "8080"))
	agent, _ := m.sidecar(os.Environ())
	named := func(s status.Report) error {
		if s.Names != 1 {
			return fmt.Errorf("%d names", s.Names)
		}
		return serving(s)
	}
	m.member().until(named)
	if got := fmt.Sprint(p.instances("backend")); !strings.Contains(got, "AWS_INSTANCE_IPV6:"+m.addr) || strings.Contains(got, "AWS_INSTANCE_IPV4") {
		t.Errorf("it is registered as %s", got)
	}
	called := func() {
		t.Helper()
		m.calls()
		const asks = `import socket; socket.create_connection(socket.getaddrinfo("backend.demo", 8080, socket.%s, socket.SOCK_STREAM, 0, %s)[0][4][:2], 60)`
		for _, args := range [][]string{
			{"curl", "-sSf", "-6", "http://backend.demo:8080/hosts"},
			{"python3", "-c", fmt.Sprintf(asks, "AF_INET6", "0")},
			{"python3", "-c", fmt.Sprintf(asks, "AF_UNSPEC", "socket.AI_ADDRCONFIG")},
			{"curl", "-sSf", "http://[::1]:8080/hosts"},
		} {
			if out, err := m.command(t.Context(), args...).CombinedOutput(); err != nil {
				t.Errorf("%v: %v %s", args, err, out)
			}
		}
		envoytest.Eventually(t, time.Minute, func() error {
			out, err := exec.CommandContext(t.Context(), "curl", "-sSf", "http://["+m.addr+"]:8080/hosts").CombinedOutput()
			if err != nil {
				err = fmt.Errorf("from outside: %w: %s", err, out)
			}
			return err
		})
	}
	called()
	rules := m.rules()
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()
	if left := m.rules(); left != rules {
		t.Errorf("the agent was killed, and the rules became\n%s", left)
	}
	agent, log := m.sidecar(os.Environ())
	m.member().until(named)
	called()
	if next := m.rules(); next != rules {
		t.Errorf("the rules were\n%s\nand are\n%s", rules, next)
	}
	m.end(agent, log)
	if left := m.rules(); left != "" {
		t.Errorf("rules stay: %s", left)
	}
	if b, err := os.ReadFile(m.hosts); err != nil || strings.Contains(string(b), "backend.demo") {
		t.Errorf("names stay, %v:\n%s", err, b)
	}
}
