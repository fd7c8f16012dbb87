package bootstrap

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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
	s, _ := structpb.NewStruct(obj{"patchbay": obj{
		"wiring": "magic",
		"ports":  []any{obj{"portName": "A", "discoveryName": "-x", "protocol": "udp", "appPort": 0, "listenerPort": 0, "tls": obj{"issuer": ""}, "idleSeconds": -1}},
	}})
	_, err := DecodeMeta(s)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"wiring", "portName", "discoveryName", "protocol", "appPort", "listenerPort", "tls.issuer", "timeout"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %s: %v", want, err)
		}
	}
	if _, err := DecodeMeta(&structpb.Struct{}); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("no metadata: %v", err)
	}
	s, _ = structpb.NewStruct(obj{"patchbay": obj{"wiring": "bind", "identity": "other"}})
	if _, err := DecodeMeta(s); err == nil || !strings.Contains(err.Error(), "identity") {
		t.Errorf("an unknown key: %v", err)
	}
}

// The real Envoy judges both forms of the file.
func TestEnvoyAcceptsBootstrap(t *testing.T) {
	for name, host := range map[string]string{"address": "127.0.0.1", "name": "patchbay"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c := Config{
				NodeID: "demo/backend/b1", NodeCluster: "demo/backend", Zone: "use1-az1", Meta: meta(),
				XDS: []HostPort{{host, 18000}}, TLSDir: dir, ServerName: "control.demo.patchbay", AdminSocket: filepath.Join(dir, "admin.sock"),
			}
			for file, content := range SDSFiles(dir) {
				if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			b, err := c.JSON()
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "bootstrap.json")
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), envoytest.Binary(t), "--mode", "validate", "-c", file).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s\n%s", err, out, b)
			}
		})
	}
}

func TestBootstrapNeedsItsParts(t *testing.T) {
	if _, err := (Config{}).JSON(); err == nil {
		t.Fatal("an empty configuration was accepted")
	}
}
