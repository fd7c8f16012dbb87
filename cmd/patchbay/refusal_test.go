package main

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3" // these are known to the registry of services
	_ "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/service/endpoint/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/service/extension/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/service/health/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/service/listener/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/service/route/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/emptypb"

	"patchbay/agentapi"
	"patchbay/identity"
	"patchbay/mesh"
	"patchbay/xds/bootstrap"
)

const victimLeaf = "leaf/backend.demo"

// TestAnImpostorIsRefused is a task with a good certificate of its own that
// tries, on the ports that serve opens, to be or to get what is another's.
// What it receives is recorded, and must not hold one private key.
func TestAnImpostorIsRefused(t *testing.T) {
	p := startPlane(t)
	p.offerTLS() // the service backend, with a leaf
	victim := p.party("backend", "v1", "backend")
	owner := victim.ads()
	owner.ask(victim.node(tlsOffer()), victimLeaf)
	secrets := append([]*ecdsa.PrivateKey{keyIn(t, filepath.Join(identity.ControlDir(p.cfg.Data), "ca.key"))}, victim.keys...)
	secrets = append(secrets, leafKey(t, owner.leaf()))
	before := p.instances("backend")

	impostor := p.party("web", "i1", "web")
	t.Run("xds", func(t *testing.T) { impostor.triesNodes(t) })
	t.Run("secrets", func(t *testing.T) {
		thief := impostor.ads()
		thief.ask(impostor.node(), "*", victimLeaf, "leaf/unknown.demo", "bundle/default")
		if got := thief.until(victimLeaf, "leaf/unknown.demo", "bundle/default"); len(got) != 1 || got["bundle/default"] == nil {
			t.Errorf("it was given %v", got)
		}
		// A stream that is open when the key changes hears nothing of it.
		p.rotate("backend.demo")
		secrets = append(secrets, leafKey(t, owner.leaf()))
		thief.ask(nil, "leaf/unknown2.demo")
		if got := thief.until("leaf/unknown2.demo"); len(got) != 0 {
			t.Errorf("after the rotation it was given %v", got)
		}
		legacy := impostor.ads() // a wildcard as Envoy says it: no names at all
		legacy.ask(impostor.node())
		legacy.ask(nil, victimLeaf)
		if got := legacy.until(victimLeaf); len(got) != 0 {
			t.Errorf("the wildcard was given %v", got)
		}
	})
	t.Run("services", func(t *testing.T) { impostor.triesServices(t) })
	t.Run("registration", func(t *testing.T) { impostor.triesToRegister(t) })
	if after := p.instances("backend"); !slices.Equal(before, after) {
		t.Errorf("backend's instances were %v, are %v", before, after)
	}

	log, err := os.ReadFile(p.log)
	if err != nil {
		t.Fatal(err)
	}
	impostor.tap.book.Write(log) // nor may the log
	for i, key := range secrets {
		if impostor.tap.holds(t, key) {
			t.Errorf("private key %d of %d crossed the wire", i, len(secrets))
		}
	}
	for i, key := range secrets[3:] {
		if !victim.tap.holds(t, key) {
			t.Errorf("the tap has missed leaf key %d, which its owner was sent", i)
		}
	}
	for _, want := range []string{"the request claims", "may offer"} {
		if !strings.Contains(string(log), want) {
			t.Errorf("the control plane's log does not say %q", want)
		}
	}
}

// leaf takes what comes until the victim's leaf does.
func (a ads) leaf() *discoveryv3.Resource {
	a.t.Helper()
	for {
		if r := a.until(victimLeaf)[victimLeaf]; r != nil {
			return r
		}
	}
}

func tlsOffer() bootstrap.Port {
	return bootstrap.Port{PortName: "web", DiscoveryName: "backend", Protocol: mesh.HTTP, AppPort: 8080, ListenerPort: 15010, TLS: &bootstrap.PortTLS{Issuer: "default"}}
}

func (y *party) triesNodes(t *testing.T) {
	t.Helper()
	claim := func(id, cluster string) *corev3.Node {
		n := y.node()
		n.Id, n.Cluster = id, cluster
		return n
	}
	own := y.node()
	for what, c := range map[string]struct {
		nodes []*corev3.Node
		want  string
	}{
		"another workload's identity": {[]*corev3.Node{claim("demo/backend/v1", "demo/backend")}, "the request claims"},
		"another task's identity":     {[]*corev3.Node{claim("demo/web/i2", "demo/web")}, "the request claims"},
		"another cluster":             {[]*corev3.Node{claim(own.GetId(), "demo/backend")}, "the request claims"},
		"no node":                     {[]*corev3.Node{nil}, "node"},
		"a foreign port":              {[]*corev3.Node{y.node(tlsOffer())}, "may offer"},
		"a changed node":              {[]*corev3.Node{own, claim("demo/backend/v1", "demo/backend")}, "the request claims"},
	} {
		t.Run(what, func(t *testing.T) {
			a := y.ads()
			for i, n := range c.nodes {
				if i > 0 { // in mid-stream: the first was good
					a.until("leaf/unknown.demo")
				}
				a.ask(n, "leaf/unknown.demo", victimLeaf)
			}
			if err := a.ended(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("ended with %v", err)
			} else if code := status.Code(err); code != codes.PermissionDenied && code != codes.InvalidArgument {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

// triesServices calls every method of every service that Envoy's API has, on
// both ports.
func (y *party) triesServices(t *testing.T) {
	t.Helper()
	unary := 0
	for port, conn := range map[string]*grpc.ClientConn{"xds": y.dial(y.p.cfg.XDS.Listen), "agent": y.dial(y.p.cfg.Agent.Listen)} {
		protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
			for i := range f.Services().Len() {
				for j := range f.Services().Get(i).Methods().Len() {
					m := f.Services().Get(i).Methods().Get(j)
					if !strings.HasPrefix(string(f.Package()), "envoy.") || port == "xds" && m.Name() == "DeltaAggregatedResources" {
						continue
					}
					if !m.IsStreamingServer() && !m.IsStreamingClient() {
						unary++
					}
					name := fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
					if err := call(t.Context(), conn, name); status.Code(err) != codes.Unimplemented {
						t.Errorf("%s on the %s port: %v", name, port, err)
					}
				}
			}
			return true
		})
	}
	if unary < 2*8 {
		t.Errorf("only %d unary methods were tried", unary)
	}
	// Without a certificate nothing but Enrol is open, and the xDS port is shut.
	nobody := y.member.ClientTLS()
	nobody.GetClientCertificate = nil
	for addr, methods := range map[string]map[string]codes.Code{
		y.p.cfg.Agent.Listen: {
			agentapi.Agent_Connect_FullMethodName:   codes.Unauthenticated,
			agentapi.Enrolment_Renew_FullMethodName: codes.Unauthenticated,
			agentapi.Enrolment_Enrol_FullMethodName: codes.Unauthenticated, // an empty proof
		},
		y.p.cfg.XDS.Listen: {discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResources_FullMethodName: codes.Unavailable},
	} {
		conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(credentials.NewTLS(nobody)))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for method, want := range methods {
			if err := call(t.Context(), conn, method); status.Code(err) != want {
				t.Errorf("%s without a certificate: %v", method, err)
			}
		}
	}
}

// call sends one empty message. On the wire a unary call is the same.
func call(ctx context.Context, conn *grpc.ClientConn, method string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	if err := s.SendMsg(&emptypb.Empty{}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	s.CloseSend()
	return s.RecvMsg(&emptypb.Empty{})
}

func (y *party) triesToRegister(t *testing.T) {
	t.Helper()
	stream, err := agentapi.NewAgentClient(y.dial(y.p.cfg.Agent.Listen)).Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	k := &task{stream: stream}
	alias := func(name string) []*agentapi.ClientAlias { return []*agentapi.ClientAlias{{DnsName: name, Port: 8080}} }
	ports := []*agentapi.Port{
		{PortName: "own", DiscoveryName: "web", AppProtocol: "http", ContainerPort: 8081, IngressPort: 15011, ClientAliases: alias("web.demo")},
		{PortName: "theirs", DiscoveryName: "backend", AppProtocol: "http", ContainerPort: 8080, IngressPort: 15010, Tls: &agentapi.Tls{Issuer: "default"}, ClientAliases: alias("backend.demo")},
	}
	send(t, k, &agentapi.Up{Message: &agentapi.Up_Hello{Hello: &agentapi.Hello{AgentVersion: "test", EnvoyVersion: "1.40.0", Wiring: "bind", Ports: ports}}})
	send(t, k, &agentapi.Up{Message: &agentapi.Up_Health{Health: &agentapi.Health{EnvoyReady: true, Ports: map[string]agentapi.Health_State{
		"own": agentapi.Health_HEALTHY, "theirs": agentapi.Health_HEALTHY,
	}}}})
	got := map[string]*agentapi.Registration{}
	for len(got) < 2 {
		r := receive(t, k, (*agentapi.Down).GetRegistration)
		got[r.GetPortName()] = r
	}
	if r := got["theirs"]; r.GetRegistered() || !strings.Contains(r.GetError(), `demo/web may not offer "backend"`) {
		t.Errorf("another workload's service: %v", r)
	}
	if !got["own"].GetRegistered() {
		t.Errorf("its own service: %v", got["own"])
	}
}
