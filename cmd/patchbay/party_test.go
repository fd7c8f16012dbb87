package main

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awscredentials "github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"

	"patchbay/discovery/cloud"
	"patchbay/identity"
	"patchbay/identity/join"
	"patchbay/mesh"
	"patchbay/xds/bootstrap"
	"patchbay/xds/delta/wire"
)

// party is a task with its node certificate, on a tapped wire.
type party struct {
	p      *plane
	member *join.Member
	tap    wiretap
	out    string              // its join directory
	state  string              // its state directory
	keys   []*ecdsa.PrivateKey // its own secrets: join key and node key
}

func (p *plane) party(workload, task string, names ...string) *party {
	p.t.Helper()
	out, state := filepath.Join(p.t.TempDir(), "join"), p.t.TempDir()
	if _, err := identity.MakeJoin(identity.JoinRequest{Data: p.cfg.Data, Workload: mesh.Workload{Namespace: "demo", Name: workload, DiscoveryNames: names}, Out: out}); err != nil {
		p.t.Fatal(err)
	}
	m := join.New(join.Config{Dir: out, Control: join.NewAddresses(p.cfg.Agent.Listen), Task: task, State: state, Log: slog.New(slog.DiscardHandler)})
	if err := m.Join(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	y := &party{p: p, member: m, tap: newWiretap(m.Credentials()), out: out, state: state}
	for _, file := range []string{filepath.Join(out, join.KeyFile), filepath.Join(state, "current", "key.pem")} {
		y.keys = append(y.keys, keyIn(p.t, file))
	}
	return y
}

func keyIn(t *testing.T, file string) *ecdsa.PrivateKey {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return parseECKey(t, text)
}

func (y *party) dial(addr string) *grpc.ClientConn {
	y.p.t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(y.tap), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(y.tap)))
	if err != nil {
		y.p.t.Fatal(err)
	}
	y.p.t.Cleanup(func() { conn.Close() })
	return conn
}

// ads is an incremental ADS stream.
type ads struct {
	discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	t *testing.T
}

func (y *party) ads() ads {
	y.p.t.Helper()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(y.dial(y.p.cfg.XDS.Listen)).DeltaAggregatedResources(y.p.t.Context())
	if err != nil {
		y.p.t.Fatal(err)
	}
	return ads{stream, y.p.t}
}

// node is what an honest Envoy of the party says of itself.
func (y *party) node(ports ...bootstrap.Port) *corev3.Node {
	y.p.t.Helper()
	meta, err := bootstrap.NodeMeta{Version: "test", Wiring: mesh.Bind, Ports: ports}.Struct()
	if err != nil {
		y.p.t.Fatal(err)
	}
	n := y.member.Node()
	return &corev3.Node{Id: n.ID(), Cluster: n.Workload.String(), Metadata: meta}
}

func (a ads) ask(node *corev3.Node, names ...string) {
	a.t.Helper()
	// What a stream that was ended says is heard by receiving.
	if err := a.Send(&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: wire.SecretType, ResourceNamesSubscribe: names}); err != nil && !errors.Is(err, io.EOF) {
		a.t.Fatal(err)
	}
}

// until takes what comes until every name was answered, and says which were
// there.
func (a ads) until(names ...string) map[string]*discoveryv3.Resource {
	a.t.Helper()
	have, open := map[string]*discoveryv3.Resource{}, slices.Clone(names)
	for len(open) > 0 {
		r, err := a.Recv()
		if err != nil {
			a.t.Fatal(err)
		}
		answered := r.GetRemovedResources()
		for _, resource := range r.GetResources() {
			have[resource.GetName()] = resource
			answered = append(answered, resource.GetName())
		}
		open = slices.DeleteFunc(open, func(n string) bool { return slices.Contains(answered, n) })
		if err := a.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}); err != nil {
			a.t.Fatal(err)
		}
	}
	return have
}

// ended is how the control plane ended the stream; anything that it sends
// before is a failure.
func (a ads) ended() error {
	a.t.Helper()
	r, err := a.Recv()
	if err == nil {
		a.t.Errorf("it was told %v", r)
	}
	return err
}

func leafKey(t *testing.T, r *discoveryv3.Resource) *ecdsa.PrivateKey {
	t.Helper()
	secret := &tlsv3.Secret{}
	if err := r.GetResource().UnmarshalTo(secret); err != nil {
		t.Fatal(err)
	}
	return parseECKey(t, secret.GetTlsCertificate().GetPrivateKey().GetInlineBytes())
}

// rotate makes a new leaf now, as an operator would.
func (p *plane) rotate(service string) {
	p.t.Helper()
	token, err := os.ReadFile(filepath.Join(p.cfg.Data, "admin-token"))
	if err != nil {
		p.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, "http://"+p.cfg.Admin.Listen+"/api/v1/rotate?service="+service, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		p.t.Fatalf("rotate: %s", body)
	}
}

// instances are those that the registry itself has of a service.
func (p *plane) instances(service string) []string {
	p.t.Helper()
	client := cloud.NewClient(aws.Config{Region: "us-east-1", Credentials: awscredentials.NewStaticCredentialsProvider("x", "y", "")}, cloud.ClientOptions{Endpoint: "http://" + p.cfg.Registry.Listen})
	out, err := client.DiscoverInstances(p.t.Context(), &servicediscovery.DiscoverInstancesInput{NamespaceName: aws.String("demo"), ServiceName: aws.String(service)})
	if err != nil {
		p.t.Fatal(err)
	}
	var found []string
	for _, i := range out.Instances {
		found = append(found, fmt.Sprint(*i.InstanceId, i.Attributes))
	}
	slices.Sort(found)
	return found
}
