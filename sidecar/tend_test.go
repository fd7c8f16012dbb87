package sidecar

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patchbay/agentapi"
	"patchbay/declare"
	"patchbay/mesh"
	"patchbay/xds/bootstrap"
)

// fakeAdmin answers as Envoy's admin interface does, on the agent's socket.
type fakeAdmin struct {
	mu        sync.Mutex
	state     string
	listeners []string
	refused   string // the configs of a dump of listeners
	secrets   []string
	asked     int // for secrets
}

func (f *fakeAdmin) set(change func(*fakeAdmin)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fakeAdmin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch r.URL.Path {
	case "/ready":
		io.WriteString(w, f.state+"\n")
	case "/listeners":
		for _, l := range f.listeners {
			fmt.Fprintf(w, "%s::127.0.0.1:1\n", l)
		}
	case "/config_dump":
		if r.URL.Query().Get("resource") != "dynamic_active_secrets" {
			fmt.Fprintf(w, `{"configs":[%s]}`, f.refused)
			return
		}
		f.asked++
		var names []string
		for _, s := range f.secrets {
			names = append(names, fmt.Sprintf(`{"name":%q}`, s))
		}
		fmt.Fprintf(w, `{"configs":[%s]}`, strings.Join(names, ","))
	}
}

// newAgent has a hosts file, a fake Envoy, and no control plane.
func newAgent(t *testing.T, change func(*Config)) (*Agent, *fakeAdmin) {
	t.Helper()
	a, socket := newQuietAgent(t, change)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeAdmin{state: "LIVE"}
	s := &http.Server{Handler: f}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return a, f
}

// newQuietAgent has no Envoy; socket is where it looks for one.
func newQuietAgent(t *testing.T, change func(*Config)) (a *Agent, socket string) {
	t.Helper()
	dir := t.TempDir()
	hostsFile := filepath.Join(dir, "hosts")
	if err := os.WriteFile(hostsFile, []byte("127.0.0.1 localhost\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Config{
		Declaration: declare.Task{Enabled: true}, Join: dir, Task: "t", State: dir, XDS: []bootstrap.HostPort{{Host: "h", Port: 1}}, Agent: []string{"h:1"},
		Wiring: mesh.Bind, HostsFile: hostsFile, DrainTime: time.Second, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&c)
	}
	a, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	a.has = func() (ipv4, ipv6 bool) { return true, false }
	return a, c.adminSocket()
}

// look is one turn of the loop.
func (a *Agent) turn(t *testing.T) *agentapi.NamesApplied {
	t.Helper()
	s := a.look(t.Context())
	n := a.applyNames(t.Context(), s)
	a.update(s, a.health(t.Context(), s), n)
	return n.applied
}

func (a *Agent) file(t *testing.T) []string {
	t.Helper()
	entries, err := a.hosts.Entries()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name+" "+e.Addr.String())
	}
	return out
}

func list(names ...*agentapi.Name) *agentapi.Down {
	return &agentapi.Down{Message: &agentapi.Down_Names{Names: &agentapi.Names{Version: fmt.Sprint(len(names)), Names: names}}}
}

func name(dns, vip string, ports ...uint32) *agentapi.Name {
	return &agentapi.Name{DnsName: dns, Vip: vip, Ports: ports}
}

// A task with IPv6 has each name in that form too, also when it had the address
// later or has it no more; the name counts once.
func TestNamesOfATaskWithIPv6(t *testing.T) {
	a, envoy := newAgent(t, nil)
	has := false
	a.has = func() (ipv4, ipv6 bool) { return false, has }
	a.hear(list(name("api.prod", "127.128.1.1", 80)))
	envoy.set(func(f *fakeAdmin) { f.listeners = []string{"egress-127.128.1.1-80"} })
	both := []string{"api.prod 127.128.1.1", "api.prod ::ffff:127.128.1.1"}
	for _, x := range []struct {
		has  bool
		want []string
	}{{false, both[:1]}, {true, both}, {false, both}} {
		has = x.has
		a.turn(t)
		if got := a.file(t); !slices.Equal(got, x.want) {
			t.Errorf("with IPv6 %t: %v, want %v", x.has, got, x.want)
		}
		if s := a.Status(); s.Names != 1 {
			t.Errorf("%+v", s)
		}
	}
	a.hear(list())
	a.turn(t)
	if got := a.file(t); len(got) != 0 {
		t.Errorf("a name that is gone: %v", got)
	}
}

func TestANameIsWrittenOnceEnvoyServesIt(t *testing.T) {
	a, envoy := newAgent(t, nil)
	if n := a.turn(t); n != nil {
		t.Errorf("without a list: %v", n)
	}
	a.hear(list(name("api.prod", "127.128.1.1", 80, 81), name("db.prod", "127.128.1.2", 5432)))
	envoy.set(func(f *fakeAdmin) { f.listeners = []string{"egress-127.128.1.2-5432"} })
	if n := a.turn(t); !slices.Equal(n.GetWaiting(), []string{"api.prod"}) || n.GetVersion() != "2" {
		t.Errorf("%v", n)
	}
	if got := a.file(t); !slices.Equal(got, []string{"db.prod 127.128.1.2"}) {
		t.Error(got)
	}
	if s := a.Status(); s.Ready || s.Names != 1 || len(s.Waiting) != 1 {
		t.Errorf("%+v", s)
	}
	envoy.set(func(f *fakeAdmin) { f.listeners = append(f.listeners, "egress-127.128.1.1-81") })
	if n := a.turn(t); len(n.GetWaiting()) != 0 {
		t.Errorf("one of its ports is served: %v", n)
	}
	both := []string{"api.prod 127.128.1.1", "db.prod 127.128.1.2"}
	if got := a.file(t); !slices.Equal(got, both) {
		t.Error(got)
	}

	// Envoy goes away: what stands, stays, and new names wait.
	envoy.set(func(f *fakeAdmin) { f.listeners, f.state = nil, "INITIALIZING" })
	a.hear(list(name("api.prod", "127.128.1.1", 80, 81), name("db.prod", "127.128.1.2", 5432), name("new.prod", "127.128.1.3", 80)))
	a.turn(t)
	if got := a.file(t); !slices.Equal(got, both) {
		t.Error(got)
	}
	a.hear(list(name("api.prod", "127.128.1.1", 80)))
	a.turn(t)
	if got := a.file(t); !slices.Equal(got, both[:1]) {
		t.Errorf("a name that is gone stands: %v", got)
	}
}

func TestNamesComeBackWhenTheFileIsMadeAnew(t *testing.T) {
	a, envoy := newAgent(t, nil)
	envoy.set(func(f *fakeAdmin) { f.listeners = []string{"egress-127.128.1.2-5432"} })
	a.hear(list(name("db.prod", "127.128.1.2", 5432)))
	a.turn(t)
	if err := os.WriteFile(a.cfg.HostsFile, []byte("127.0.0.1 localhost\n10.0.0.1 me\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.turn(t)
	if got := a.file(t); len(got) != 1 {
		t.Error(got)
	}
}

func TestNamesThatCannotBeServedSayWhy(t *testing.T) {
	a, envoy := newAgent(t, func(c *Config) { c.Declaration.ContainerPorts = []uint16{8080} })
	envoy.set(func(f *fakeAdmin) {
		f.listeners = []string{"egress-127.128.1.1-81"}
		f.refused = `{"name":"egress-127.128.1.2-80","error_state":{"details":"cannot bind '127.128.1.2:80': Permission denied"}}`
	})
	a.hear(list(name("api.prod", "127.128.1.1", 81, 8080), name("low.prod", "127.128.1.2", 80), name("own.prod", "127.128.1.3", 8080), name("localhost", "127.128.1.4", 81)))
	n := a.turn(t)
	want := []string{
		"api.prod:8080: a container of this task uses port 8080: call another port, or give the sidecar NET_ADMIN for the redirect wiring",
		"low.prod:80: egress-127.128.1.2-80: cannot bind '127.128.1.2:80': Permission denied",
		"own.prod:8080: a container of this task uses port 8080: call another port, or give the sidecar NET_ADMIN for the redirect wiring",
	}
	if d := cmp.Diff(want, n.GetRefused()); d != "" {
		t.Error(d)
	}
	if got := a.file(t); !slices.Equal(got, []string{"api.prod 127.128.1.1"}) {
		t.Error(got)
	}
	if h := a.st.health.GetEnvoyError(); !strings.Contains(h, "Permission denied") {
		t.Errorf("the control plane is told %q", h)
	}
}

func TestAPortIsHealthyWhenApplicationAndListenerAre(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	a, envoy := newAgent(t, func(c *Config) {
		c.Declaration.Ports = []declare.Port{{PortName: "web", DiscoveryName: "web", Protocol: mesh.HTTP, ContainerPort: port, IngressPort: 15010}}
	})
	state := func() agentapi.Health_State {
		a.turn(t)
		return a.st.health.GetPorts()["web"]
	}
	if s := state(); s != agentapi.Health_UNHEALTHY {
		t.Errorf("without a listener: %s", s)
	}
	envoy.set(func(f *fakeAdmin) { f.listeners = []string{"ingress-web"} })
	if s := state(); s != agentapi.Health_HEALTHY {
		t.Errorf("with both: %s", s)
	}
	l.Close()
	if s := state(); s != agentapi.Health_HEALTHY {
		t.Errorf("after one refused connection: %s", s)
	}
	if s := state(); s != agentapi.Health_UNHEALTHY {
		t.Errorf("after two: %s", s)
	}
	a.hear(&agentapi.Down{Message: &agentapi.Down_Registration{Registration: &agentapi.Registration{PortName: "web", Error: "the alias is taken: choose another"}}})
	if got := a.Status().Unserved(); len(got) != 1 || !strings.Contains(got[0], "the alias is taken: choose another") {
		t.Error(got)
	}
}

func TestConfigNamesEveryProblem(t *testing.T) {
	_, err := New(Config{Wiring: "magic", Task: "a b", State: "rel", DrainTime: time.Millisecond, Declaration: declare.Task{
		Ports: []declare.Port{{PortName: "web", IngressPort: 15001}},
	}})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"declaration: serviceConnectConfiguration", "wiring: \"magic\"", "task: \"a b\"", "state: \"rel\"", "xds: is missing", "agent: is missing", "join: is missing", "drain-time: 1ms", "ingressPortOverride 15001"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("lacks %q:\n%v", want, err)
		}
	}
}
