package external

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patchbay/internal/testca"
	"patchbay/mesh"
)

func target(name string, p mesh.Protocol, alias mesh.Alias, tls *mesh.ExternalTLS, addresses ...mesh.HostPort) *mesh.Service {
	return Target{Name: mesh.ServiceName{Namespace: "prod", DiscoveryName: name}, Protocol: p, Alias: alias, Addresses: addresses, TLS: tls}.Service()
}

// TestDefaults: what a target is that says no more than it must.
func TestDefaults(t *testing.T) {
	api, ip := mesh.HostPort{Host: "api.example", Port: 443}, mesh.HostPort{Host: "10.0.0.1", Port: 5432}
	for name, c := range map[string]struct {
		got  *mesh.Service
		want mesh.External
	}{
		"api": {target("x", mesh.HTTP, mesh.Alias{}, &mesh.ExternalTLS{}, api),
			mesh.External{Discovery: "LOGICAL_DNS", Host: "api.example", TLS: &mesh.ExternalTLS{SNI: "api.example", Names: []string{"api.example"}, MinimumVersion: "1.2"}}},
		"an address before the name": {target("x", mesh.HTTP, mesh.Alias{DNSName: "y", Port: 1}, &mesh.ExternalTLS{}, mesh.HostPort{Host: "10.0.0.1", Port: 8443}, api),
			mesh.External{Discovery: "STRICT_DNS", Host: "api.example", TLS: &mesh.ExternalTLS{SNI: "api.example", Names: []string{"api.example"}, MinimumVersion: "1.2"}}},
		"plain on 443": {target("x", mesh.GRPC, mesh.Alias{DNSName: "y", Port: 1}, nil, api), mesh.External{Discovery: "LOGICAL_DNS", Host: "api.example:443"}},
		"database":     {target("x", "", mesh.Alias{}, &mesh.ExternalTLS{}, ip), mesh.External{Discovery: "STATIC", TLS: &mesh.ExternalTLS{Names: []string{"10.0.0.1"}, MinimumVersion: "1.2"}}},
		"several":      {target("x", mesh.TCP, mesh.Alias{}, nil, api, ip), mesh.External{Discovery: "STRICT_DNS"}},
	} {
		c.want.Addresses = c.got.External.Addresses
		if d := cmp.Diff(&c.want, c.got.External); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// TestSink: a target keeps its name, its alias and its VIP, whatever the
// registry says.
func TestSink(t *testing.T) {
	store, said := mesh.NewStore(), &strings.Builder{}
	s := &Sink{To: store, Log: slog.New(slog.NewTextHandler(said, nil)), Targets: []*mesh.Service{
		target("api", mesh.HTTP, mesh.Alias{DNSName: "api", Port: 80}, nil, mesh.HostPort{Host: "api.example", Port: 80}),
	}}
	registered := func(name, alias string) *mesh.Service {
		return &mesh.Service{Name: mesh.ServiceName{Namespace: "prod", DiscoveryName: name}, Protocol: mesh.HTTP, Created: time.Unix(1, 0), Aliases: []mesh.Alias{{DNSName: alias, Port: 80}}}
	}
	s.SetServices("prod", nil)
	vip := store.Snapshot().Services[0].Aliases[0].VIP
	if !vip.IsValid() {
		t.Fatal("no VIP")
	}
	taker := registered("web", "web")
	taker.Aliases[0].VIP = vip // the registrar has not heard of the target
	for range 2 {
		s.SetServices("prod", []*mesh.Service{registered("api", "other"), registered("thief", "api"), taker})
	}
	got := map[string]*mesh.Service{}
	for _, v := range store.Snapshot().Services {
		got[v.Name.DiscoveryName] = v
	}
	switch {
	case len(got) != 3 || got["api"].External == nil || got["api"].Aliases[0].VIP != vip:
		t.Errorf("the target is %+v", got["api"])
	case len(got["thief"].Aliases) != 0:
		t.Errorf("its alias is that of %+v", got["thief"])
	case got["web"].Aliases[0].VIP == vip:
		t.Error("two names have one VIP")
	case len(s.Conflicts("prod")) != 1 || strings.Count(said.String(), "level=ERROR") != 2:
		t.Errorf("%+v\n%s", s.Conflicts("prod"), said)
	}
	gen := store.Snapshot().Generation
	s.SetServices("prod", []*mesh.Service{registered("api", "other"), registered("thief", "api"), taker})
	if store.Snapshot().Generation != gen {
		t.Error("nothing has changed, and there is a new generation")
	}
	s.SetServices("dev", nil)
	if n := len(store.Snapshot().Namespace("dev")); n != 0 || !store.Snapshot().Synced["dev"] {
		t.Errorf("%d services in the other namespace", n)
	}
}

func TestRoots(t *testing.T) {
	dir, ca := t.TempDir(), testca.New(t)
	good, bad := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "bad.pem")
	for name, text := range map[string][]byte{good: ca.RootPEM, bad: []byte("x")} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	none := func(string) string { return "" }
	if b, err := Roots(good, none); err != nil || !bytes.Equal(b, ca.RootPEM) {
		t.Error(err)
	}
	if b, err := Roots("", func(string) string { return good }); err != nil || !bytes.Equal(b, ca.RootPEM) {
		t.Error(err)
	}
	if _, err := Roots(bad, none); err == nil || !strings.Contains(err.Error(), "no certificate") {
		t.Error(err)
	}
	if _, err := Roots(filepath.Join(dir, "missing"), none); err == nil {
		t.Error("a file that is not there is taken")
	}
}

// TestTheCollectorKeepsItsHost: a service of the registry whose alias is the
// host of tracing.collector loses it, also where no target is declared, and
// only that.
func TestTheCollectorKeepsItsHost(t *testing.T) {
	store, said := mesh.NewStore(), &strings.Builder{}
	s := &Sink{To: store, Log: slog.New(slog.NewTextHandler(said, nil)), Collector: "Otel.internal"}
	name := mesh.ServiceName{Namespace: "prod", DiscoveryName: "thief"}
	thief := &mesh.Service{Name: name, Protocol: mesh.HTTP, Aliases: []mesh.Alias{{DNSName: "otel.internal", Port: 4317}, {DNSName: "thief", Port: 80}}}
	for range 2 {
		s.SetServices("prod", []*mesh.Service{thief})
	}
	got := store.Snapshot().Service(name)
	if len(got.Aliases) != 1 || got.Aliases[0].DNSName != "thief" || len(thief.Aliases) != 2 {
		t.Errorf("%+v; the registry's %+v", got, thief)
	}
	if c := s.Conflicts("prod"); len(c) != 1 || c[0].Winner.String() != "tracing.collector" || c[0].Loser != name || strings.Count(said.String(), "level=ERROR") != 1 {
		t.Errorf("%+v\n%s", c, said)
	}
	thief = &mesh.Service{Name: name, Protocol: mesh.HTTP, Aliases: []mesh.Alias{{DNSName: "thief", Port: 80}}}
	if s.SetServices("prod", []*mesh.Service{thief}); len(s.Conflicts("prod")) != 0 {
		t.Error("it has let go, and the conflict stays")
	}
}
