package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"patchbay/cmd/patchbay/tasks"
	"patchbay/internal/envoytest"
	"patchbay/sidecar/status"
)

// member is a task that runs by the command, in this process.
type member struct {
	t     *testing.T
	state string
	hosts string
	log   *lockedBuffer
	stop  func() error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// joinDir makes the join directory of a workload.
func (p *plane) joinDir(workload string, names ...string) string {
	p.t.Helper()
	out := filepath.Join(p.t.TempDir(), "join")
	args := []string{"token", "join", "--data", p.cfg.Data, "--trust-domain", testDomain, "--namespace", "demo", "--workload", workload, "--out", out}
	for _, n := range names {
		args = append(args, "--discovery-name", n)
	}
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(io.Discard)
	if err := root.ExecuteContext(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	return out
}

// sidecar runs `patchbay sidecar` for a task, in the bind wiring.
func (p *plane) sidecar(join, task, declaration string, more ...string) *member {
	p.t.Helper()
	if task != "" { // else ECS names it
		more = append(more, "--task", task)
	}
	// Not by the environment: another may be started before this one reads it.
	return p.agent(task, append([]string{"--join", join, "--service-connect", declaration}, more...)...)
}

// agent runs `patchbay sidecar`, in the bind wiring, with what else it is told.
func (p *plane) agent(task string, more ...string) *member {
	t := p.t
	t.Helper()
	// Envoy runs under a user of its own where this process is root.
	dir, err := os.MkdirTemp("", "sidecar")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m := &member{t: t, state: filepath.Join(dir, "state"), hosts: filepath.Join(dir, "hosts"), log: &lockedBuffer{}}
	if err := os.WriteFile(m.hosts, []byte("127.0.0.1 localhost\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	root := newRoot()
	args := []string{
		"sidecar", "--xds", p.cfg.XDS.Listen, "--agent", p.cfg.Agent.Listen, "--state", m.state,
		"--hosts-file", m.hosts, "--wiring", "bind", "--drain-time", "2s", "--concurrency", "1", "--envoy", envoytest.Binary(t),
	}
	root.SetArgs(append(args, more...))
	root.SetOut(io.Discard)
	root.SetErr(m.log)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- root.ExecuteContext(ctx) }()
	m.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := m.stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("sidecar of %s:\n%s", task, m.log)
		}
	})
	return m
}

func (m *member) until(ok func(status.Report) error) status.Report {
	m.t.Helper()
	var s status.Report
	envoytest.Eventually(m.t, 15*time.Second, func() error {
		var err error
		if s, err = status.Ask(m.t.Context(), m.state); err == nil {
			err = ok(s)
		}
		return err
	})
	return s
}

func serving(s status.Report) error {
	if !s.Ready || !s.Serving {
		return fmt.Errorf("%v %v", s.Reasons, s.Unserved())
	}
	return nil
}

// lookup is what the hosts file says of a name.
func (m *member) lookup(name string) string {
	b, err := os.ReadFile(m.hosts)
	if err != nil {
		m.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[1] == name {
			return f[0]
		}
	}
	return ""
}

// get calls a name of the mesh as an application of the task would.
func (m *member) get(name string, port uint16) (string, error) {
	vip := m.lookup(name)
	if vip == "" {
		return "", fmt.Errorf("%s is not in the hosts file", name)
	}
	resp, err := http.Get(fmt.Sprintf("http://%s/", net.JoinHostPort(vip, strconv.Itoa(int(port)))))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, b)
	}
	return string(b), err
}

func (m *member) answers(name string, port uint16, want string) {
	m.t.Helper()
	envoytest.Eventually(m.t, 10*time.Second, func() error {
		got, err := m.get(name, port)
		if err == nil && got != want {
			err = fmt.Errorf("%s answers %q", name, got)
		}
		return err
	})
}

const clientOnly = `{"serviceConnectConfiguration": {"enabled": true, "namespace": "demo"}}`

// declares one TLS service whose alias has a port that nothing here uses.
func declares(name string, appPort, ingress, alias uint16) string {
	return fmt.Sprintf(`{"serviceConnectConfiguration": {"enabled": true, "namespace": "demo", "services": [{
		"portName": "web", "discoveryName": %q, "ingressPortOverride": %d, "clientAliases": [{"port": %d}],
		"tls": {"issuerCertificateAuthority": {"awsPcaAuthorityArn": "default"}}}]},
		"portMappings": [{"name": "web", "containerPort": %d, "appProtocol": "http"}]}`, name, ingress, alias, appPort)
}

func listen(t *testing.T, text string) (*httptest.Server, uint16) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }))
	t.Cleanup(s.Close)
	return s, uint16(s.Listener.Addr().(*net.TCPAddr).Port)
}

// TestSidecars is the life of tasks under `patchbay sidecar`: they join, are
// called by name, survive their Envoy's end, follow their application's
// health, and leave.
func TestSidecars(t *testing.T) {
	p := startPlane(t)
	_, hello := listen(t, "hello")
	alias := uint16(freePort(t))
	front := p.sidecar(p.joinDir("frontend"), "f1", clientOnly)
	front.until(serving)
	back := p.sidecar(p.joinDir("backend", "backend"), "b1", declares("backend", hello, uint16(freePort(t)), alias))
	back.until(serving)
	front.answers("backend.demo", alias, "hello")

	// A service that comes later has its name in the running task.
	later, late := listen(t, "late")
	second := p.sidecar(p.joinDir("later", "later"), "l1", declares("later", late, uint16(freePort(t)), alias))
	second.until(serving)
	front.answers("later.demo", alias, "late")

	// The application goes away: the task is no longer offered, and says so.
	later.Close()
	second.until(func(s status.Report) error {
		if s.Ports[0].Health != "UNHEALTHY" {
			return fmt.Errorf("%+v", s.Ports)
		}
		return nil
	})

	// A name that the workload may not offer is refused in words.
	thief := p.sidecar(p.joinDir("thief", "other"), "t1", declares("backend", hello, uint16(freePort(t)), uint16(freePort(t))))
	s := thief.until(func(s status.Report) error {
		if len(s.Ports) == 0 || s.Ports[0].Problem == "" {
			return errors.New("no problem yet")
		}
		return nil
	})
	if !strings.Contains(s.Ports[0].Problem, `may not offer "backend"`) || s.Serving {
		t.Errorf("%+v", s.Ports)
	}

	// A port that Envoy can't bind is named, on both sides: what shares its port
	// would share it with Envoy otherwise, in silence, where both have one user.
	taken, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	busy := uint16(taken.Addr().(*net.TCPAddr).Port)
	blocked := p.sidecar(p.joinDir("blocked", "blocked"), "k1", declares("blocked", hello, busy, uint16(freePort(t))))
	words := regexp.MustCompile(fmt.Sprintf(`ingress-web: cannot bind '[^']*:%d': Address already in use`, busy))
	envoytest.Eventually(t, time.Minute, func() error {
		resp, err := http.Get("http://" + p.cfg.Admin.Listen + "/api/v1/agents")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if b, _ := io.ReadAll(resp.Body); !words.Match(b) || !words.MatchString(blocked.log.String()) {
			return fmt.Errorf("the control plane shows:\n%s", b)
		}
		return nil
	})

	// Stopping takes the task out and leaves nothing behind.
	if err := back.stop(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(back.log.String(), "drain complete") {
		t.Errorf("no drain:\n%s", back.log)
	}
	if vip := back.lookup("backend.demo"); vip != "" {
		t.Errorf("the stopped task's hosts file says %s", vip)
	}
	if _, err := front.get("backend.demo", alias); err == nil {
		t.Error("the stopped task answers")
	}
}

// A name of the declaration that the join directory does not prove, and a
// directory that Envoy's user can't reach, are said before anything starts.
func TestSidecarSaysWhatIsWrong(t *testing.T) {
	p := startPlane(t)
	join := p.joinDir("frontend")
	for _, c := range []struct{ declaration, want string }{
		{`{"serviceConnectConfiguration": {"enabled": true, "namespace": "prod"}}`, `namespace is "prod", but the join directory`},
		{`{"serviceConnectConfiguration": {"enabled": false}}`, "not enabled"},
		{`{"serviceConnectConfiguration": {"enabled": true, "servces": []}}`, "servces"},
	} {
		t.Setenv(tasks.DeclarationVar, c.declaration)
		root := newRoot()
		root.SetArgs([]string{"sidecar", "--xds", p.cfg.XDS.Listen, "--agent", p.cfg.Agent.Listen, "--join", join, "--task", "x", "--wiring", "bind",
			"--state", t.TempDir(), "--hosts-file", filepath.Join(t.TempDir(), "none"), "--envoy", envoytest.Binary(t)})
		root.SetErr(io.Discard)
		err := root.ExecuteContext(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.declaration, err)
		}
	}
}
