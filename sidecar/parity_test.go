package sidecar

import (
	"net"
	"slices"
	"strings"
	"testing"

	"patchbay/agentapi"
	"patchbay/declare"
	"patchbay/mesh"
)

func TestNamesOfAStrictTaskAreFrozen(t *testing.T) {
	a, envoy := newAgent(t, func(c *Config) { c.Profile = mesh.Strict })
	a.hear(list(name("db.prod", "127.128.1.2", 5432), name("api.prod", "127.128.1.1", 80)))
	if err := a.freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	envoy.set(func(f *fakeAdmin) {
		f.listeners = []string{"egress-127.255.0.1-80", "egress-127.255.0.2-5432", "egress-127.128.1.3-80"}
	})
	want := []string{"api.prod 127.255.0.1", "db.prod 127.255.0.2"}
	if n := a.turn(t); len(n.GetWaiting()) != 0 || !slices.Equal(a.file(t), want) {
		t.Errorf("%v, %v", n, a.file(t))
	}
	if m := a.meta(); m.Profile != mesh.Strict || len(m.Names) != 2 || m.Names["api.prod"].String() != "127.255.0.1" {
		t.Errorf("Envoy says %+v", m)
	}

	// Names come and go; the control plane hears that its list has arrived.
	a.hear(list(name("new.prod", "127.128.1.3", 80)))
	if n := a.turn(t); n.GetVersion() != "1" || !slices.Equal(a.file(t), want) {
		t.Errorf("%v, %v", n, a.file(t))
	}

	// An agent that was killed goes on with them, another task does not.
	a.set(func(s *state) { s.frozen = nil })
	if err := a.freeze(t.Context()); err != nil || len(a.frozen()) != 2 {
		t.Errorf("after a restart %v, %v", a.frozen(), err)
	}
	a.cfg.Task = "other"
	a.set(func(s *state) { s.frozen = nil })
	if err := a.freeze(t.Context()); err != nil || len(a.frozen()) != 1 {
		t.Errorf("another task has %v, %v", a.frozen(), err)
	}
	a.thaw()
	a.hear(list())
	a.set(func(s *state) { s.frozen = nil })
	if err := a.freeze(t.Context()); err != nil || len(a.frozen()) != 0 {
		t.Errorf("the names outlive their task: %v, %v", a.frozen(), err)
	}
}

// ECS's own rules for test traffic are no policy; the rest is.
func TestWhatAStrictTaskMayDeclare(t *testing.T) {
	for text, wrong := range map[string]int{
		`{"clientAliases": [{"port": 80, "testTrafficRules": {"header": {"name": "x-test", "value": {"exact": "1"}}}}]`: 0,
		`{"clientAliases": [{"port": 80}]`:                                             0,
		`{"clientAliases": [{"port": 80}], "timeout": {"perRequestTimeoutSeconds": 1}`: 0,
		`{"tls": {"issuerCertificateAuthority": {"awsPcaAuthorityArn": "default"}}`:    0,
	} {
		all := map[string]int{`{}`: 0, `{"web": {"rateLimit": {"requests": 5, "per": "1s"}}, "db": {"retries": {"max": 1}}}`: 2}
		if strings.Contains(text, "tls") {
			all[`{"web": {"mutualTls": {"mode": "required"}}}`] = 1
			all[`{"web": {"mutualTls": {"mode": "required"}, "authorization": {"rules": [{"from": ["batch"]}]}}}`] = 1
		}
		for policies, more := range all {
			d, err := declare.Parse([]byte(`{"serviceConnectConfiguration": {"enabled": true, "services": [` + text + `, "portName": "web"}]},
				"portMappings": [{"name": "web", "containerPort": 8080, "appProtocol": "http"}], "policies": ` + policies + `}`))
			if err != nil {
				t.Fatal(err)
			}
			lives, stays := (Config{Profile: mesh.Live, Declaration: d}).check(), (Config{Profile: mesh.Strict, Declaration: d}).check()
			if n := strings.Count(stays.Error(), "\n") - strings.Count(lives.Error(), "\n"); n != wrong+more {
				t.Errorf("%s and %s: %d more: %v", text, policies, n, stays)
			}
		}
	}
}

func TestADeadApplicationClosesItsIngress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	a, envoy := newAgent(t, func(c *Config) {
		c.CloseDead = true
		c.Declaration.Ports = []declare.Port{
			{PortName: "web", DiscoveryName: "web", Protocol: mesh.HTTP, ContainerPort: port, IngressPort: 15010},
			{PortName: "none", DiscoveryName: "none", Protocol: mesh.HTTP, ContainerPort: 1, IngressPort: 15011},
		}
	})
	var told [][]uint16
	a.shut = func(ports []uint16) error { told = append(told, ports); return nil }
	envoy.set(func(f *fakeAdmin) { f.listeners = []string{"ingress-web", "ingress-none"} })
	look := func() agentapi.Health_State {
		a.turn(t)
		a.closeDead(t.Context())
		return a.st.health.GetPorts()["web"]
	}
	look()
	look() // nothing has changed: nothing is told
	l.Close()
	look() // one refused connection is none
	if s := look(); s != agentapi.Health_UNHEALTHY {
		t.Error(s)
	}
	if l, err = net.Listen("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	look()
	a.reopen()
	want := [][]uint16{{15011}, {15010, 15011}, {15011}, nil}
	if !slices.EqualFunc(told, want, slices.Equal[[]uint16]) {
		t.Errorf("closed were %v, want %v", told, want)
	}
}

func TestWhatIsIntercepted(t *testing.T) {
	c := Config{Declaration: declare.Task{Ports: []declare.Port{{ContainerPort: 8080, IngressPort: 15010}, {ContainerPort: 9090, IngressPort: 15999}}}}
	if got := c.intercepted(); len(got) != 0 {
		t.Errorf("unasked: %v", got)
	}
	c.Intercept = true
	if got := c.intercepted(); len(got) != 2 || got[8080] != 15010 || got[9090] != 15999 {
		t.Errorf("%v", got)
	}
	for wrong, change := range map[string]func(*Config){
		"with wiring bind":                 func(c *Config) { c.Wiring = mesh.Bind },
		"with wiring auto, network bridge": func(c *Config) { c.Wiring, c.Network = Auto, "bridge" },
	} {
		x := c
		change(&x)
		if err := x.check(); err == nil || !strings.Contains(err.Error(), "intercept: "+wrong) {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}
