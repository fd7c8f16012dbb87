package translate

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"patchbay/mesh"
	"patchbay/mesh/policy"
	"patchbay/xds/bootstrap"
	"patchbay/xds/views"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// scene is the model part of a golden file, in the mesh's own words.
type scene struct {
	Wiring   mesh.Wiring
	Blocked  []uint16
	Tap      bool
	Local    bool // what the service's own tasks get besides
	Service  *mesh.Service
	Meta     *bootstrap.NodeMeta
	Bundles  map[string]*mesh.Bundle
	Policies map[string]*policy.Policy
	Identity Identity
}

func (s scene) resources() []Resource {
	v := views.Of("demo", bootstrap.NodeMeta{Wiring: s.Wiring, ContainerPorts: s.Blocked, Policies: s.Policies, Tap: s.Tap})
	out := Shared(v, s.Bundles)
	if s.Service != nil {
		out = append(out, Service(v, s.Service)...)
		if s.Local {
			out = append(out, Local(s.Service), Crowd(bootstrap.LocalCrowd("demo/web"), map[string]int{"use1-az1": 2, "use1-az2": 1}))
		}
	}
	if s.Meta != nil {
		n := mesh.Node{Workload: mesh.Workload{Namespace: "demo", Name: "backend", DiscoveryNames: []string{"backend", "echo"}}, Task: "b1"}
		out = append(out, Node(n, *s.Meta, func(name mesh.ServiceName) *mesh.Leaf {
			return &mesh.Leaf{Service: name, ChainPEM: []byte("CHAIN"), KeyPEM: []byte("KEY")}
		}, s.Identity, views.Tracing{})...)
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
			got := &txtar.Archive{Comment: a.Comment, Files: slices.Clone(a.Files[:1])}
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

func named(name string, p mesh.Protocol) *mesh.Service {
	return &mesh.Service{Name: mesh.ServiceName{Namespace: "demo", DiscoveryName: name}, Protocol: p}
}

func endpoint(i int, tls bool) mesh.Endpoint {
	return mesh.Endpoint{InstanceID: fmt.Sprint(i), Addr: netip.MustParseAddrPort(fmt.Sprintf("10.0.0.%d:15010", i)), Health: mesh.Healthy, Weight: 1, TLS: tls}
}

// Every view of every service is written in one order, whatever order the
// names have.
func TestOrderAndUniqueness(t *testing.T) {
	s := named("b", mesh.HTTP)
	s.Aliases = []mesh.Alias{
		{DNSName: "a", Port: 9, VIP: netip.MustParseAddr("127.128.9.9")},
		{DNSName: "b", Port: 10, VIP: netip.MustParseAddr("127.128.1.1")},
		{DNSName: "b", Port: 9, VIP: netip.MustParseAddr("127.128.1.1")},
		{DNSName: "unassigned", Port: 9},
	}
	got := Service(views.View{Namespace: "demo", Wiring: mesh.Redirect}, s)
	var names []string
	for _, r := range got {
		names = append(names, short(r.TypeURL)+" "+r.Name)
	}
	want := []string{
		"Cluster b.demo", "ClusterLoadAssignment b.demo",
		"Listener egress-127.128.1.1-10", "Listener egress-127.128.1.1-9", "Listener egress-127.128.9.9-9",
		"RouteConfiguration egress-127.128.1.1-10", "RouteConfiguration egress-127.128.1.1-9", "RouteConfiguration egress-127.128.9.9-9",
	}
	if d := cmp.Diff(want, names); d != "" {
		t.Error(d)
	}
}

func TestHealthZonesAndWeights(t *testing.T) {
	s := named("b", mesh.TCP)
	s.Endpoints = []mesh.Endpoint{
		{Addr: netip.MustParseAddrPort("10.0.0.9:1"), Zone: "z2", Health: mesh.Healthy, Weight: 1},
		{Addr: netip.MustParseAddrPort("10.0.0.1:1"), Zone: "z2", Health: mesh.Unhealthy, Weight: 7},
		{Addr: netip.MustParseAddrPort("[fd00::1]:1"), Zone: "z1", Health: mesh.Unknown, Weight: 1},
		{Addr: netip.MustParseAddrPort("10.0.0.5:1"), Weight: 1},
	}
	var got []string
	for _, l := range assignment(views.View{}, s).Message.(*endpointv3.ClusterLoadAssignment).Endpoints {
		for _, e := range l.LbEndpoints {
			got = append(got, fmt.Sprint(l.GetLocality().GetZone(), " ", e.GetEndpoint().Address.GetSocketAddress().Address, " ", e.HealthStatus, " ", e.GetLoadBalancingWeight().GetValue()))
		}
	}
	if d := cmp.Diff([]string{" 10.0.0.5 UNKNOWN 0", "z1 fd00::1 UNKNOWN 0", "z2 10.0.0.1 UNHEALTHY 7", "z2 10.0.0.9 HEALTHY 0"}, got); d != "" {
		t.Error(d)
	}
}

func TestNoEndpointIsAnEmptyAssignment(t *testing.T) {
	r := assignment(views.View{}, named("b", mesh.TCP))
	if m := r.Message.(*endpointv3.ClusterLoadAssignment); m.ClusterName != "b.demo" || len(m.Endpoints) != 0 {
		t.Errorf("%v", m)
	}
}

// A service that we do not run has no ingress of ours: an application that
// speaks HTTP/1.1 would not understand HTTP/2.
func TestForeignServicesAreSpokenToInTheirOwnVersion(t *testing.T) {
	for p, h2 := range map[mesh.Protocol]bool{mesh.HTTP: false, mesh.HTTP2: true, mesh.GRPC: true} {
		s := named("b", p)
		s.Foreign = true
		var o httpv3.HttpProtocolOptions
		if err := cluster(views.View{Namespace: "demo"}, s).Message.(*clusterv3.Cluster).TypedExtensionProtocolOptions[httpOptionsKey].UnmarshalTo(&o); err != nil {
			t.Fatal(err)
		}
		if got := o.GetExplicitHttpConfig().GetHttp2ProtocolOptions() != nil; got != h2 {
			t.Errorf("%s: HTTP/2 is %v", p, got)
		}
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
	}, Identity{}, views.Tracing{})
	if len(got) != 0 {
		t.Errorf("got %d resources", len(got))
	}
}

func TestBlockedPortsHaveNoListener(t *testing.T) {
	a := mesh.Alias{DNSName: "b.demo", Port: 8080, VIP: netip.MustParseAddr("127.128.1.1")}
	s := &mesh.Service{Name: mesh.ServiceName{Namespace: "demo", DiscoveryName: "b"}, Protocol: mesh.HTTP, Aliases: []mesh.Alias{a}}
	v := views.View{Namespace: "demo", Wiring: mesh.Bind, Blocked: "8080,9090"}
	for _, r := range Service(v, s) {
		if r.TypeURL == ListenerType || r.TypeURL == RouteType {
			t.Errorf("%s was made", r.Name)
		}
	}
}
