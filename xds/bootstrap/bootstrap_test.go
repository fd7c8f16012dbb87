package bootstrap

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"patchbay/internal/envoytest"
	"patchbay/mesh"
)

func meta() NodeMeta {
	idle := int64(300)
	return NodeMeta{
		Version: "1", Wiring: mesh.Redirect, ContainerPorts: []uint16{8080},
		Ports: []Port{{PortName: "web", DiscoveryName: "backend", Protocol: mesh.HTTP, AppPort: 8080, ListenerPort: 15010, TLS: &PortTLS{"default"}, IdleSeconds: &idle}},
	}
}

func TestNodeMetaRoundTrip(t *testing.T) {
	s, err := meta().Struct()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeMeta(s)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(meta(), got); d != "" {
		t.Error(d)
	}
}

func TestDecodeMetaListsEveryProblem(t *testing.T) {
	decode := func(m any) error {
		t.Helper()
		s, err := structpb.NewStruct(obj{"patchbay": m})
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeMeta(s)
		if err == nil {
			t.Fatalf("accepted: %v", m)
		}
		if d := cmp.Diff(NodeMeta{}, got); d != "" {
			t.Errorf("refused, but something was returned: %s", d)
		}
		return err
	}
	port := obj{"portName": "web", "discoveryName": "web", "protocol": "http", "appPort": 8080, "listenerPort": 15010}
	with := func(key string, v any) []any {
		p := maps.Clone(port)
		p[key] = v
		return []any{p}
	}
	for name, test := range map[string]struct {
		meta any
		want []string
	}{
		"rules": {obj{"wiring": "magic", "containerPorts": []any{0}, "ports": []any{
			obj{"portName": "A", "discoveryName": "-x", "protocol": "udp", "appPort": 0, "listenerPort": 0, "tls": obj{"issuer": ""}, "idleSeconds": -1, "perRequestSeconds": 1 << 40},
		}}, []string{"wiring: \"magic\"", "containerPorts: 0", ".portName", ".discoveryName", ".protocol", ".appPort", ".listenerPort", ".tls.issuer", ".idleSeconds", ".perRequestSeconds"}},
		"types and keys": {obj{"wiring": 1, "identity": "other", "ipv6": "yes", "containerPorts": []any{70000}, "ports": []any{
			obj{"appPort": -1, "listenerPort": 1.5, "tls": obj{"issuer": 3, "key": "x"}, "host": "::1", "idleSeconds": 0.5}, "web",
		}}, []string{"wiring: 1;", "identity: unknown key", "ipv6:", "containerPorts:", "ports[0].appPort: -1", "ports[0].listenerPort: 1.5", "tls.issuer: 3", "tls.key: unknown key", "ports[0].host: unknown key", "ports[0].idleSeconds: 0.5", "ports[1]: not an object"}},
		"not an object":       {"bind", []string{"not an object"}},
		"not a list":          {obj{"wiring": "bind", "ports": obj{}}, []string{"ports: not a list"}},
		"tls not an object":   {obj{"wiring": "bind", "ports": with("tls", true)}, []string{"ports[0].tls: not an object"}},
		"the same port twice": {obj{"wiring": "bind", "ports": []any{port, port}}, []string{"ports[1].portName", "ports[1].listenerPort"}},
		"app's address":       {obj{"wiring": "none", "exclusive": true, "ports": with("appAddress", "10.0.0")}, []string{"ports[0].appAddress: \"10.0.0\"; allowed: the IP address"}},
		"egress's port":       {obj{"wiring": "bind", "ports": with("listenerPort", 15001)}, []string{"ports[0].listenerPort: 15001"}},
		"the app's port":      {obj{"wiring": "bind", "ports": with("listenerPort", 8080)}, []string{"ports[0].listenerPort: 8080"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := decode(test.meta)
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in: %v", want, err)
				}
			}
			if got := len(strings.Split(err.Error(), "\n")); got != len(test.want) {
				t.Errorf("%d problems, want %d: %v", got, len(test.want), err)
			}
		})
	}
	if _, err := DecodeMeta(&structpb.Struct{}); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("no metadata: %v", err)
	}
}

func TestNullIsAbsent(t *testing.T) {
	s, _ := structpb.NewStruct(obj{"patchbay": obj{"version": nil, "wiring": "bind", "ports": []any{
		obj{"portName": "web", "discoveryName": "web", "protocol": "tcp", "appPort": 1, "listenerPort": 2, "tls": nil, "idleSeconds": nil},
	}}})
	m, err := DecodeMeta(s)
	if err != nil || m.Ports[0].TLS != nil || m.Ports[0].IdleSeconds != nil {
		t.Errorf("%+v, %v", m, err)
	}
}

// The real Envoy judges every form of the file.
func TestEnvoyAcceptsBootstrap(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"address":  func(*Config) {},
		"replicas": func(c *Config) { c.XDS = []HostPort{{"10.0.0.1", 18000}, {"fd00::2", 18000}} },
		"name":     func(c *Config) { c.XDS[0].Host = "patchbay" },
		"plain":    func(c *Config) { c.TLSDir, c.Zone = "", "" },
	} {
		t.Run(name, func(t *testing.T) {
			c := config(t.TempDir())
			change(&c)
			if c.TLSDir != "" {
				writeSDS(t, c.TLSDir)
			}
			b, err := c.JSON()
			if err != nil {
				t.Fatal(err)
			}
			envoytest.Validate(t, b)
		})
	}
}

func config(dir string) Config {
	return Config{
		NodeID: "demo/backend/b1", NodeCluster: "demo/backend", Zone: "use1-az1", Meta: meta(),
		XDS: []HostPort{{"127.0.0.1", 18000}}, TLSDir: dir, ServerName: "control.demo.patchbay", AdminSocket: filepath.Join(dir, "admin.sock"),
	}
}

func writeSDS(t *testing.T, dir string) {
	t.Helper()
	for file, content := range SDSFiles(dir) {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBootstrapListsEveryProblem(t *testing.T) {
	_, err := Config{XDS: []HostPort{{}}, TLSDir: "tls", AdminSocket: "/" + strings.Repeat("x", 107)}.JSON()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"node id", "node cluster", `xDS address ""`, "admin socket", "certificate directory", "control plane's name"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in: %v", want, err)
		}
	}
}

func TestBootstrapIsStable(t *testing.T) {
	a, _ := config("/tls").JSON()
	b, err := config("/tls").JSON()
	if err != nil || string(a) != string(b) {
		t.Errorf("two of one configuration differ: %v", err)
	}
}

func TestStrictMetadata(t *testing.T) {
	for text, want := range map[string][]string{
		`{"wiring": "bind", "profile": "strict", "names": {"api.prod": "127.255.0.1", "db": "127.255.0.2"}}`: nil,
		`{"wiring": "bind", "profile": "live"}`:                                                                           nil,
		`{"wiring": "bind", "profile": "loose"}`:                                                                          {`profile: "loose"; allowed: live, strict`},
		`{"wiring": "bind", "names": {"api.prod": "127.255.0.1"}}`:                                                        {"names: 1; allowed: with profile strict only"},
		`{"wiring": "bind", "profile": "strict", "policies": {"api": {}}}`:                                                {"policies: 1; allowed: with profile live only"},
		`{"wiring": "bind", "profile": "strict", "names": {"a b": "127.255.0.1", "api": "10.0.0.1", "b": "127.255.0.1"}}`: {`names: "a b"; allowed: DNS names`, "names.api: 10.0.0.1; allowed: an address of 127.255.0.0/16", "names.b: 127.255.0.1 is that of a b"},
		`{"wiring": "bind", "profile": "strict", "names": {"api": "no"}}`:                                                 {"names: "},
	} {
		s := &structpb.Struct{}
		if err := protojson.Unmarshal([]byte(`{"patchbay": `+text+`}`), s); err != nil {
			t.Fatal(err)
		}
		_, err := DecodeMeta(s)
		if (err == nil) != (want == nil) {
			t.Errorf("%s: %v", text, err)
		}
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v\nlacks %s", text, err, w)
			}
		}
	}
}
