package translate

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"patchbay/mesh"
	"patchbay/xds/bootstrap"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// scene is the model part of a golden file, in the mesh's own words.
type scene struct {
	Wiring  mesh.Wiring
	Blocked []uint16
	Service *mesh.Service
	Meta    *bootstrap.NodeMeta
	Bundles map[string]*mesh.Bundle
}

func (s scene) resources() []Resource {
	v := View{Namespace: "demo", Wiring: s.Wiring, Blocked: BlockedPorts(s.Blocked)}
	out := Shared(v, s.Bundles)
	if s.Service != nil {
		out = append(out, Service(v, s.Service)...)
	}
	if s.Meta != nil {
		n := mesh.Node{Workload: mesh.Workload{Namespace: "demo", Name: "backend", DiscoveryNames: []string{"backend", "echo"}}, Task: "b1"}
		out = append(out, Node(n, *s.Meta, func(name mesh.ServiceName) *mesh.Leaf {
			return &mesh.Leaf{Service: name, ChainPEM: []byte("CHAIN"), KeyPEM: []byte("KEY")}
		})...)
	}
	return out
}

func TestGolden(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txtar")
	if len(files) == 0 {
		t.Fatal("no golden files")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var s scene
			dec := json.NewDecoder(bytes.NewReader(a.Files[0].Data))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&s); err != nil {
				t.Fatalf("model: %v", err)
			}
			got := &txtar.Archive{Comment: a.Comment, Files: a.Files[:1]}
			for _, r := range s.resources() {
				validate(t, r)
				got.Files = append(got.Files, txtar.File{Name: short(r.TypeURL) + " " + r.Name, Data: indented(t, r.Message)})
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(string(txtar.Format(a)), string(txtar.Format(got))); d != "" {
				t.Errorf("differs (run with -update and read the diff):\n%s", d)
			}
		})
	}
}

func short(typeURL string) string { return filepath.Ext(typeURL)[1:] }

// indented is protojson made stable: its white space varies by design.
func indented(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", " "); err != nil {
		t.Fatal(err)
	}
	out.WriteByte('\n')
	return out.Bytes()
}

func validate(t testing.TB, r Resource) {
	t.Helper()
	if err := r.Message.(interface{ ValidateAll() error }).ValidateAll(); err != nil {
		t.Errorf("%s %q: %v", short(r.TypeURL), r.Name, err)
	}
	named, _ := r.Message.(interface{ GetName() string })
	if r.TypeURL != EndpointType && named.GetName() != r.Name {
		t.Errorf("%s %q is called %q inside", short(r.TypeURL), r.Name, named.GetName())
	}
}

func endpoint(i int, tls bool) mesh.Endpoint {
	return mesh.Endpoint{InstanceID: fmt.Sprint(i), Addr: netip.MustParseAddrPort(fmt.Sprintf("10.0.0.%d:15010", i)), Health: mesh.Healthy, Weight: 1, TLS: tls}
}

// Without a trusted CA and a SAN, Envoy verifies nothing; without both bounds
// it speaks TLS 1.2. No cluster may leave us so.
func TestEveryTLSClusterVerifies(t *testing.T) {
	n := 0
	for _, p := range []mesh.Protocol{mesh.HTTP, mesh.HTTP2, mesh.GRPC, mesh.TCP} {
		for _, declared := range []*mesh.ServiceTLS{nil, {Issuer: "default"}, {Issuer: "x", Only: true}} {
			s := &mesh.Service{Name: mesh.ServiceName{Namespace: "demo", DiscoveryName: "b"}, Protocol: p, TLS: declared, Endpoints: []mesh.Endpoint{endpoint(1, true), endpoint(2, false)}}
			text := string(indented(t, cluster(s).Message))
			for _, want := range []string{`"exact": "b.demo"`, `"sni": "b.demo"`, `"name": "bundle/`, `"tlsMinimumProtocolVersion": "TLSv1_3"`, `"tlsMaximumProtocolVersion": "TLSv1_3"`} {
				if !bytes.Contains([]byte(text), []byte(want)) {
					t.Errorf("%s, declared %v: no %s in\n%s", p, declared, want, text)
				}
			}
			n++
		}
	}
	if n != 12 {
		t.Fatal(n)
	}
}

// A changed endpoint must not touch the cluster: Envoy would warm it again.
func TestClusterIsFreeOfEndpoints(t *testing.T) {
	s := &mesh.Service{Name: mesh.ServiceName{Namespace: "demo", DiscoveryName: "b"}, Protocol: mesh.HTTP, TLS: &mesh.ServiceTLS{Issuer: "default"}}
	before := cluster(s).Message
	s.Endpoints = []mesh.Endpoint{endpoint(1, true), endpoint(2, false)}
	if after := cluster(s).Message; !proto.Equal(before, after) {
		t.Error("the cluster changed with its endpoints")
	}
}

func TestLockedServiceDropsPlainEndpoints(t *testing.T) {
	s := &mesh.Service{Name: mesh.ServiceName{Namespace: "demo", DiscoveryName: "b"}, TLS: &mesh.ServiceTLS{Issuer: "default", Only: true}, Endpoints: []mesh.Endpoint{endpoint(1, true), endpoint(2, false)}}
	text := string(indented(t, Endpoints(s).Message))
	if !bytes.Contains([]byte(text), []byte("10.0.0.1")) || bytes.Contains([]byte(text), []byte("10.0.0.2")) {
		t.Errorf("endpoints: %s", text)
	}
}

func TestNodeGetsOnlyWhatItsWorkloadOffers(t *testing.T) {
	n := mesh.Node{Workload: mesh.Workload{Namespace: "demo", Name: "w", DiscoveryNames: []string{"mine"}}, Task: "t"}
	meta := bootstrap.NodeMeta{Wiring: mesh.Redirect, Ports: []bootstrap.Port{
		{PortName: "theirs", DiscoveryName: "theirs", Protocol: mesh.TCP, AppPort: 1, ListenerPort: 2, TLS: &bootstrap.PortTLS{Issuer: "default"}},
	}}
	got := Node(n, meta, func(mesh.ServiceName) *mesh.Leaf {
		t.Error("a foreign service's leaf was asked for")
		return &mesh.Leaf{KeyPEM: []byte("KEY")}
	})
	if len(got) != 0 {
		t.Errorf("got %d resources", len(got))
	}
}

func TestBlockedPortsHaveNoListener(t *testing.T) {
	a := mesh.Alias{DNSName: "b.demo", Port: 8080, VIP: netip.MustParseAddr("127.128.1.1")}
	s := &mesh.Service{Name: mesh.ServiceName{Namespace: "demo", DiscoveryName: "b"}, Protocol: mesh.HTTP, Aliases: []mesh.Alias{a}}
	v := View{Namespace: "demo", Wiring: mesh.Bind, Blocked: BlockedPorts([]uint16{9090, 8080, 9090})}
	if v.Blocked != "8080,9090" {
		t.Errorf("blocked is %q", v.Blocked)
	}
	for _, r := range Service(v, s) {
		if r.TypeURL == ListenerType || r.TypeURL == RouteType {
			t.Errorf("%s was made", r.Name)
		}
	}
	if got := Unserved(v, s); len(got) != 1 || got[0] != a {
		t.Errorf("unserved: %v", got)
	}
}

// Whatever name mesh accepts, Envoy's own rules accept the result.
func FuzzNames(f *testing.F) {
	f.Add("backend", "backend.prod", uint16(80), int64(15))
	f.Add("_x", "a..b", uint16(65535), int64(0))
	f.Fuzz(func(t *testing.T, name, alias string, port uint16, timeout int64) {
		if !mesh.ValidDiscoveryName(name) || !mesh.ValidDNSName(alias) || port == 0 || timeout < 0 || timeout > 1e6 {
			return
		}
		d := time.Duration(timeout) * time.Second
		s := &mesh.Service{
			Name: mesh.ServiceName{Namespace: "demo", DiscoveryName: name}, Protocol: mesh.GRPC, TLS: &mesh.ServiceTLS{Issuer: "default"},
			Aliases:   []mesh.Alias{{DNSName: alias, Port: port, VIP: netip.MustParseAddr("127.128.1.1")}},
			Timeouts:  mesh.Timeouts{Idle: &d, PerRequest: &d},
			Endpoints: []mesh.Endpoint{endpoint(1, true)},
		}
		for _, r := range Service(View{Namespace: "demo", Wiring: mesh.Redirect}, s) {
			validate(t, r)
		}
	})
}
