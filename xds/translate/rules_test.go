package translate

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"patchbay/mesh"
	"patchbay/xds/bootstrap"
	"patchbay/xds/transition"
	"patchbay/xds/views"
)

// The rules that hold for whatever leaves this package.

var (
	protocols    = []mesh.Protocol{mesh.HTTP, mesh.HTTP2, mesh.GRPC, mesh.TCP}
	declarations = []*mesh.ServiceTLS{nil, {Issuer: "default"}, {Issuer: "arn:x"}, {Issuer: "default", Only: true}}
	populations  = [][]mesh.Endpoint{nil, {endpoint(1, false)}, {endpoint(1, true)}, {endpoint(1, false), endpoint(2, true)}}
)

// everyService is every protocol, declaration and population.
func everyService() (all []*mesh.Service) {
	for _, p := range protocols {
		for _, d := range declarations {
			for _, e := range populations {
				s := named("b", p)
				s.TLS, s.Endpoints = d, e
				s.Aliases = []mesh.Alias{{DNSName: "b.demo", Port: 80, VIP: netip.MustParseAddr("127.128.1.1")}}
				all = append(all, s)
			}
		}
	}
	return all
}

func describe(s *mesh.Service) string {
	return fmt.Sprintf("%s, declared %+v, endpoints %v", s.Protocol, s.TLS, s.Endpoints)
}

// tlsOf is what a socket verifies; nil if it is plain.
func tlsOf(t *testing.T, s *corev3.TransportSocket) *tlsv3.UpstreamTlsContext {
	t.Helper()
	if s == nil || s.Name == "envoy.transport_sockets.raw_buffer" {
		return nil
	}
	c := &tlsv3.UpstreamTlsContext{}
	if err := s.GetTypedConfig().UnmarshalTo(c); err != nil {
		t.Fatal(err)
	}
	return c
}

// socketFor is the socket that Envoy uses for an endpoint of the cluster.
func socketFor(c *clusterv3.Cluster, e *endpointv3.LbEndpoint) *corev3.TransportSocket {
	if says := e.GetMetadata().GetFilterMetadata()["envoy.transport_socket_match"]; says != nil {
		for _, m := range c.TransportSocketMatches {
			if proto.Equal(m.Match, says) {
				return m.TransportSocket
			}
		}
	}
	return c.TransportSocket
}

func clusterOf(s *mesh.Service) *clusterv3.Cluster {
	return cluster(views.View{Namespace: "demo"}, s).Message.(*clusterv3.Cluster)
}

func endpointsOf(s *mesh.Service) (out []*endpointv3.LbEndpoint) {
	for _, l := range assignment(views.View{}, s).Message.(*endpointv3.ClusterLoadAssignment).Endpoints {
		out = append(out, l.LbEndpoints...)
	}
	return out
}

// speaks reports whether the endpoint's port speaks TLS, by its address.
func speaks(s *mesh.Service, e *endpointv3.LbEndpoint) bool {
	i := slices.IndexFunc(s.Endpoints, func(v mesh.Endpoint) bool {
		return v.Addr.Addr().String() == e.GetEndpoint().Address.GetSocketAddress().Address
	})
	return s.Endpoints[i].TLS
}

// Without a trusted CA and a SAN, Envoy verifies nothing; without both bounds
// it speaks TLS 1.2. No socket may leave us so.
func TestEveryTLSSocketVerifies(t *testing.T) {
	n := 0
	for _, s := range everyService() {
		c := clusterOf(s)
		sockets := []*corev3.TransportSocket{c.TransportSocket}
		for _, m := range c.TransportSocketMatches {
			sockets = append(sockets, m.TransportSocket)
		}
		for _, socket := range sockets {
			u := tlsOf(t, socket)
			if u == nil {
				continue
			}
			n++
			common := u.CommonTlsContext
			v := common.GetCombinedValidationContext()
			sans := v.GetDefaultValidationContext().GetMatchTypedSubjectAltNames()
			if len(sans) != 1 || sans[0].SanType != tlsv3.SubjectAltNameMatcher_DNS || sans[0].Matcher.GetExact() != "b.demo" {
				t.Errorf("%s: SANs %v", describe(s), sans)
			}
			trust := v.GetValidationContextSdsSecretConfig().GetName()
			if want := anyBundle; s.TLS != nil && trust != "bundle/"+s.TLS.Issuer || s.TLS == nil && trust != want {
				t.Errorf("%s: trusts %q", describe(s), trust)
			}
			if p := common.TlsParams; p.TlsMinimumProtocolVersion != tlsv3.TlsParameters_TLSv1_3 || p.TlsMaximumProtocolVersion != tlsv3.TlsParameters_TLSv1_3 {
				t.Errorf("%s: %v", describe(s), p)
			}
			if u.Sni != "b.demo" || u.AllowRenegotiation {
				t.Errorf("%s: %v", describe(s), u)
			}
		}
	}
	if n < 50 {
		t.Fatalf("only %d sockets were seen", n)
	}
}

// Each endpoint gets what it speaks, and a locked service calls nobody in
// plain text.
func TestEveryEndpointGetsItsSocket(t *testing.T) {
	for _, s := range everyService() {
		for _, e := range endpointsOf(s) {
			socket := tlsOf(t, socketFor(clusterOf(s), e))
			if (socket != nil) != speaks(s, e) {
				t.Errorf("%s: %v is called with %v", describe(s), e, socket)
			}
			if s.TLS != nil && s.TLS.Only && socket == nil {
				t.Errorf("%s: %v is called in plain text", describe(s), e)
			}
		}
	}
}

// For a moment an Envoy uses new endpoints with its old cluster. Whatever the
// two states, an endpoint that speaks TLS is never called in plain text.
func TestOldClusterWithNewEndpoints(t *testing.T) {
	pairs, between := 0, 0
	check := func(old, now *mesh.Service) {
		t.Helper()
		pairs++
		for _, e := range endpointsOf(now) {
			if speaks(now, e) && tlsOf(t, socketFor(clusterOf(old), e)) == nil {
				t.Errorf("from %s\n  to %s: %v is called in plain text", describe(old), describe(now), e)
			}
		}
	}
	for _, old := range everyService() {
		for _, now := range everyService() {
			if old.Protocol != now.Protocol {
				continue
			}
			states := []*mesh.Service{old, now}
			if i := transition.Interim(old, now); i != nil {
				between++
				states = []*mesh.Service{old, i, now}
				if d := cmp.Diff(old.Endpoints, i.Endpoints, cmp.Comparer(func(a, b mesh.Endpoint) bool { return a == b })); d != "" || len(endpointsOf(i)) != len(old.Endpoints) {
					t.Errorf("from %s to %s: the interim's endpoints: %s", describe(old), describe(now), d)
				}
			}
			for i := range states[1:] {
				check(states[i], states[i+1])
			}
		}
	}
	if pairs < 900 || between == 0 {
		t.Fatalf("%d pairs, %d interim states", pairs, between)
	}
}

// A changed endpoint must not touch the cluster: Envoy would warm it again.
func TestClusterIsFreeOfEndpoints(t *testing.T) {
	for _, declared := range declarations[1:] {
		s := named("b", mesh.HTTP)
		s.TLS = declared
		before := cluster(views.View{Namespace: "demo"}, s).Message
		for _, s.Endpoints = range populations {
			if after := cluster(views.View{Namespace: "demo"}, s).Message; !proto.Equal(before, after) {
				t.Errorf("the cluster changed with %s", describe(s))
			}
		}
	}
	s := named("b", mesh.HTTP)
	before := cluster(views.View{Namespace: "demo"}, s).Message
	s.Endpoints = populations[1]
	s.Endpoints[0].Weight, s.Endpoints[0].Health = 5, mesh.Unhealthy
	if after := cluster(views.View{Namespace: "demo"}, s).Message; !proto.Equal(before, after) {
		t.Error("the cluster of a plain service changed with an endpoint")
	}
}

// While all endpoints are as declared, their assignment carries no metadata.
func TestUniformAssignmentsAreShort(t *testing.T) {
	for _, tls := range []bool{false, true} {
		s := named("b", mesh.HTTP)
		if tls {
			s.TLS = &mesh.ServiceTLS{Issuer: "default"}
		}
		s.Endpoints = []mesh.Endpoint{endpoint(1, tls), endpoint(2, tls)}
		for _, e := range endpointsOf(s) {
			if e.Metadata != nil {
				t.Errorf("TLS %v: %v", tls, e)
			}
		}
	}
}

func TestValidAsEnvoyHasIt(t *testing.T) {
	for _, s := range everyService() {
		for _, w := range []mesh.Wiring{mesh.Redirect, mesh.Bind} {
			for _, r := range Service(views.View{Namespace: "demo", Wiring: w}, s) {
				validate(t, r)
			}
		}
	}
}

// Whatever name mesh accepts, Envoy's own rules accept the result.
func FuzzNames(f *testing.F) {
	f.Add("backend", "backend.prod", uint16(80), int64(15))
	f.Add("_x", "a..b", uint16(65535), int64(0))
	f.Fuzz(func(t *testing.T, name, alias string, port uint16, timeout int64) {
		if !mesh.ValidDiscoveryName(name) || !mesh.ValidDNSName(alias) || port == 0 || timeout < 0 || timeout > 2147483647 {
			return
		}
		d := time.Duration(timeout) * time.Second
		s := named(name, mesh.GRPC)
		s.TLS, s.Timeouts = &mesh.ServiceTLS{Issuer: "default"}, mesh.Timeouts{Idle: &d, PerRequest: &d}
		s.Aliases = []mesh.Alias{{DNSName: alias, Port: port, VIP: netip.MustParseAddr("127.128.1.1")}}
		s.Endpoints = []mesh.Endpoint{endpoint(1, true)}
		for _, r := range Service(views.View{Namespace: "demo", Wiring: mesh.Redirect}, s) {
			validate(t, r)
		}
		n := mesh.Node{Workload: mesh.Workload{Namespace: "demo", Name: "w", DiscoveryNames: []string{name}}, Task: "t"}
		meta := bootstrap.NodeMeta{Wiring: mesh.Bind, Ports: []bootstrap.Port{{
			PortName: name, DiscoveryName: name, Protocol: mesh.TCP, AppPort: port, ListenerPort: port, TLS: &bootstrap.PortTLS{Issuer: "default"}, IdleSeconds: &timeout,
		}}}
		for _, r := range Node(n, meta, func(mesh.ServiceName) *mesh.Leaf { return &mesh.Leaf{ChainPEM: []byte("C"), KeyPEM: []byte("K")} }, Identity{}, views.Tracing{}) {
			validate(t, r)
		}
	})
}

// TestNoEgress: a task that only serves has its ingress, and nothing of any
// service; its application may be at another address.
func TestNoEgress(t *testing.T) {
	meta := bootstrap.NodeMeta{Wiring: mesh.NoEgress, Ports: []bootstrap.Port{{PortName: "web", DiscoveryName: "b", Protocol: mesh.HTTP, AppPort: 8080, AppAddress: "172.17.0.3", ListenerPort: 15000}}}
	v := views.Of("demo", meta)
	for _, s := range everyService() {
		if r := Service(v, s); len(r) > 0 {
			t.Errorf("%s: %v", describe(s), r)
		}
	}
	if r := Shared(v, nil); len(r) > 0 {
		t.Errorf("shared: %v", r)
	}
	n := mesh.Node{Workload: mesh.Workload{Namespace: "demo", Name: "b", DiscoveryNames: []string{"b"}}, Task: "1"}
	for _, r := range Node(n, meta, func(mesh.ServiceName) *mesh.Leaf { return nil }, Identity{}, views.Tracing{}) {
		if c, ok := r.Message.(*clusterv3.Cluster); ok {
			a := c.GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints()[0].GetEndpoint().GetAddress().GetSocketAddress()
			if a.GetAddress() != "172.17.0.3" || a.GetPortValue() != 8080 {
				t.Errorf("the application is at %v", a)
			}
			return
		}
	}
	t.Error("no cluster of the application")
}

// TestExclusive: where other Envoys share the network namespace, no listener
// shares its port; where something else has a port of the ingress, that does not.
func TestExclusive(t *testing.T) {
	for _, exclusive := range []bool{false, true} {
		for _, wiring := range []mesh.Wiring{mesh.Redirect, mesh.Bind} {
			meta := bootstrap.NodeMeta{Wiring: wiring, Exclusive: exclusive, Ports: []bootstrap.Port{{PortName: "web", DiscoveryName: "b", Protocol: mesh.HTTP, AppPort: 8080, ListenerPort: 15000}}}
			only := meta
			only.Exclusive, only.ExclusiveIngress = false, exclusive
			if l := ingressListener(mesh.Ingress{PortName: "web", Protocol: mesh.HTTP}, only, Identity{}, views.Tracing{}).Message.(*listenerv3.Listener); (l.GetEnableReusePort() == nil) == exclusive {
				t.Errorf("%s, the ingress alone exclusive %v: %v", wiring, exclusive, l.GetEnableReusePort())
			}
			n := mesh.Node{Workload: mesh.Workload{Namespace: "demo", Name: "b", DiscoveryNames: []string{"b"}}, Task: "1"}
			all := slices.Concat(Service(views.Of("demo", meta), everyService()[0]), Shared(views.Of("demo", meta), nil), Node(n, meta, func(mesh.ServiceName) *mesh.Leaf { return nil }, Identity{}, views.Tracing{}))
			bound := 0
			for _, r := range all {
				l, ok := r.Message.(*listenerv3.Listener)
				if !ok || l.GetBindToPort() != nil {
					continue
				}
				bound++
				if shares := l.GetEnableReusePort() == nil; shares == exclusive {
					t.Errorf("%s, exclusive %v: %s has %v", wiring, exclusive, r.Name, l.GetEnableReusePort())
				}
			}
			if bound != 2 {
				t.Errorf("%s: %d listeners are bound", wiring, bound)
			}
		}
	}
}
