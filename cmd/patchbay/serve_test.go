package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"patchbay/agentapi"
	"patchbay/cmd/patchbay/cli"
	"patchbay/config"
	"patchbay/controlplane"
	"patchbay/identity"
	"patchbay/identity/join"
	"patchbay/internal/devca"
	"patchbay/internal/envoytest"
	"patchbay/mesh"
	"patchbay/xds/bootstrap"
)

const testDomain = "test.patchbay"

// The exit codes, by short names.
const (
	exitDone, exitFailed, exitUsage = cli.Done, cli.Failed, cli.Misused
	exitProblems                    = cli.Problems
)

// plane is a control plane in this process, with the real step-ca authority.
type plane struct {
	t   *testing.T
	cfg config.Config
	log string // file
	end func() // of the control plane
}

// handedOut are the ports that freePort gave to somebody.
var handedOut sync.Map

// freePort finds a port of 127.0.0.1 that nobody has. It lies below the range
// from which the system gives ports to clients, so that none of these takes it
// before it is used, and above those that a sidecar or a control plane has by
// default, which a task may not choose.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 20000 + mathrand.IntN(10000)
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			continue
		}
		l.Close()
		if _, given := handedOut.LoadOrStore(port, true); !given {
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// running runs f until stop is called, or the test ends, and waits for it.
func running(t *testing.T, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func startPlane(t *testing.T, tweak ...func(*config.Config)) *plane {
	t.Helper()
	dir := t.TempDir()
	ca := devca.Options{Dir: filepath.Join(dir, "ca"), Names: []string{"127.0.0.1"}, Listen: "127.0.0.1:" + strconv.Itoa(freePort(t))}
	if _, err := devca.Init(t.Context(), ca); err != nil {
		t.Fatal(err)
	}
	client, err := devca.LoadClient(ca.Dir)
	if err != nil {
		t.Fatal(err)
	}
	running(t, func(ctx context.Context) error { return devca.Run(ctx, ca, slog.New(slog.DiscardHandler)) })
	address := func() string { return "127.0.0.1:" + strconv.Itoa(freePort(t)) }
	cfg := config.Default()
	cfg.TrustDomain, cfg.Namespaces, cfg.CreateNamespaces, cfg.Data = testDomain, []string{"demo"}, true, filepath.Join(dir, "data")
	cfg.Registry = &config.Registry{Listen: address()}
	cfg.XDS.Listen, cfg.Agent.Listen, cfg.Admin.Listen = address(), address(), address()
	cfg.Issuers = map[string]config.Issuer{"default": {StepCA: &config.StepCA{
		URL: client.URL, Fingerprint: client.Fingerprint, Provisioner: client.Provisioner, PasswordFile: client.PasswordFile, Lifetime: time.Hour,
	}}}
	for _, f := range tweak {
		f(&cfg)
	}
	logFile, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		logFile.Close()
		if text, _ := os.ReadFile(logFile.Name()); t.Failed() {
			t.Logf("control plane:\n%s", text)
		}
	})
	p := &plane{t: t, cfg: cfg, log: logFile.Name()}
	p.serve(slog.New(slog.NewTextHandler(logFile, nil)))
	return p
}

// serve is a control plane.
func serve(ctx context.Context, cfg config.Config, log *slog.Logger) error {
	return controlplane.Run(ctx, controlplane.Options{Config: cfg, Version: version(), Replica: cli.HostName(), Log: log})
}

// serve runs the control plane and waits until it is ready.
func (p *plane) serve(log *slog.Logger) {
	p.t.Helper()
	cfg := p.cfg
	p.end = running(p.t, func(ctx context.Context) error { return serve(ctx, cfg, log) })
	envoytest.Eventually(p.t, 10*time.Second, func() error {
		resp, err := http.Get("http://" + cfg.Admin.Listen + "/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
			return fmt.Errorf("not ready: %s", body)
		}
		return nil
	})
}

// task is the agent's part of a task, by hand.
type task struct {
	id     string
	dir    string
	stream agentapi.Agent_ConnectClient
	envoy  *envoytest.Envoy
	clock  time.Duration // by how much its Envoy's is wrong
}

// join enrols a task and writes what its Envoy needs.
func (p *plane) join(workload string, names ...string) (*task, *agentapi.EnrolResponse) {
	return p.joinAs(workload, "t1", names...)
}

func (p *plane) joinAs(workload, name string, names ...string) (*task, *agentapi.EnrolResponse) {
	t := p.t
	t.Helper()
	out := filepath.Join(t.TempDir(), "join")
	if _, err := identity.MakeJoin(identity.JoinRequest{Data: p.cfg.Data, TrustDomain: testDomain, Workload: mesh.Workload{Namespace: "demo", Name: workload, DiscoveryNames: names}, Out: out}); err != nil {
		t.Fatal(err)
	}
	d, err := join.Load(out)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	proof, err := d.Proof(csr)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(d.CA)
	trust := &tls.Config{RootCAs: roots, ServerName: join.ServerName(testDomain), MinVersion: tls.VersionTLS13}
	resp, err := agentapi.NewEnrolmentClient(p.dial(trust)).Enrol(t.Context(), &agentapi.EnrolRequest{Proof: proof, Namespace: "demo", Workload: workload, Task: name, CsrDer: csr})
	if err != nil {
		t.Fatal(err)
	}
	trust = trust.Clone()
	trust.Certificates = []tls.Certificate{{Certificate: resp.GetChainDer(), PrivateKey: key}}
	stream, err := agentapi.NewAgentClient(p.dial(trust)).Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := map[string][]byte{
		bootstrap.CertFile: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: resp.GetChainDer()[0]}),
		bootstrap.KeyFile:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		bootstrap.CAFile:   resp.GetCaPem(),
	}
	maps.Copy(files, bootstrap.SDSFiles(dir))
	for name, content := range files {
		os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700)
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &task{id: resp.GetNodeId(), dir: dir, stream: stream}, resp
}

func (p *plane) dial(c *tls.Config) *grpc.ClientConn {
	p.t.Helper()
	conn, err := grpc.NewClient(p.cfg.Agent.Listen, grpc.WithTransportCredentials(credentials.NewTLS(c)))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	return conn
}

// start runs the task's Envoy.
func (p *plane) start(k *task, meta bootstrap.NodeMeta) {
	p.t.Helper()
	host, portText, _ := net.SplitHostPort(p.cfg.XDS.Listen)
	port, _ := strconv.ParseUint(portText, 10, 16)
	b, err := bootstrap.Config{
		NodeID: k.id, NodeCluster: k.id[:strings.LastIndexByte(k.id, '/')], Meta: meta, XDS: []bootstrap.HostPort{{Host: host, Port: uint16(port)}},
		TLSDir: k.dir, ServerName: join.ServerName(testDomain), AdminSocket: filepath.Join(k.dir, "admin.sock"),
	}.JSON()
	if err != nil {
		p.t.Fatal(err)
	}
	k.envoy = envoytest.StartAt(p.t, k.clock, b, filepath.Join(k.dir, "admin.sock"))
	k.envoy.Ready(p.t)
}

// TestRequestThroughTwoEnvoys is the whole path: enrolment, registration,
// discovery, a leaf of the real authority, incremental xDS, and a plain
// request that crosses two real Envoys over TLS 1.3.
func TestRequestThroughTwoEnvoys(t *testing.T) {
	p := startPlane(t)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	defer app.Close()
	appPort := uint16(app.Listener.Addr().(*net.TCPAddr).Port)
	ingress := uint16(freePort(t))

	backend, _ := p.join("backend", "backend")
	hello := &agentapi.Hello{AgentVersion: "test", EnvoyVersion: "1.40.0", Wiring: "bind", Ports: []*agentapi.Port{{
		PortName: "web", DiscoveryName: "backend", AppProtocol: "http", ContainerPort: uint32(appPort), IngressPort: uint32(ingress),
		ClientAliases: []*agentapi.ClientAlias{{DnsName: "backend.demo", Port: uint32(appPort)}}, Tls: &agentapi.Tls{Issuer: "default"},
	}}, ContainerPorts: []uint32{uint32(appPort)}}
	send(t, backend, &agentapi.Up{Message: &agentapi.Up_Hello{Hello: hello}})
	p.start(backend, bootstrap.NodeMeta{Version: "test", Wiring: mesh.Bind, ContainerPorts: []uint16{appPort}, Ports: []bootstrap.Port{{
		PortName: "web", DiscoveryName: "backend", Protocol: mesh.HTTP, AppPort: appPort, ListenerPort: ingress, TLS: &bootstrap.PortTLS{Issuer: "default"},
	}}})
	send(t, backend, &agentapi.Up{Message: &agentapi.Up_Health{Health: &agentapi.Health{EnvoyReady: true, Ports: map[string]agentapi.Health_State{"web": agentapi.Health_HEALTHY}}}})
	registered := receive(t, backend, (*agentapi.Down).GetRegistration)
	if !registered.GetRegistered() {
		t.Fatalf("not registered: %s", registered.GetError())
	}

	frontend, _ := p.join("frontend")
	send(t, frontend, &agentapi.Up{Message: &agentapi.Up_Hello{Hello: &agentapi.Hello{AgentVersion: "test", EnvoyVersion: "1.40.0", Wiring: "bind"}}})
	names := receive(t, frontend, (*agentapi.Down).GetNames)
	for len(names.GetNames()) == 0 {
		names = receive(t, frontend, (*agentapi.Down).GetNames)
	}
	if n := names.GetNames()[0]; n.GetDnsName() != "backend.demo" {
		t.Fatalf("names: %v", names)
	}
	p.start(frontend, bootstrap.NodeMeta{Version: "test", Wiring: mesh.Bind})
	url := fmt.Sprintf("http://%s:%d/", names.GetNames()[0].GetVip(), appPort)
	envoytest.Eventually(t, 10*time.Second, func() error {
		resp, err := http.Get(url)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if body, _ := io.ReadAll(resp.Body); string(body) != "hello" {
			return fmt.Errorf("%s: %s", resp.Status, body)
		}
		return nil
	})
	stats := frontend.envoy.Stats(t)
	if stats["cluster.backend.demo.upstream_rq_total"] < 1 || stats["cluster.backend.demo.ssl.versions.TLSv1.3"] < 1 {
		t.Errorf("the caller's Envoy counted %v requests, %v TLS 1.3 connections", stats["cluster.backend.demo.upstream_rq_total"], stats["cluster.backend.demo.ssl.versions.TLSv1.3"])
	}
	if got := backend.envoy.Stats(t)["http.ingress.downstream_rq_total"]; got < 1 {
		t.Errorf("the server's Envoy counted %v requests", got)
	}
	dump, err := frontend.envoy.Get("/config_dump")
	if err != nil || strings.Contains(dump, "leaf/") {
		t.Errorf("a client-only task was given a leaf (%v)", err)
	}
	checkPort(t, fmt.Sprintf("127.0.0.1:%d", ingress))
}

// checkPort holds the ingress port against what is promised of it.
func checkPort(t *testing.T, addr string) {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the chain is looked at below
	if err != nil {
		t.Fatal(err)
	}
	leaf := conn.ConnectionState().PeerCertificates[0]
	conn.Close()
	if leaf.VerifyHostname("backend.demo") != nil || leaf.Subject.CommonName != "" || leaf.IsCA || len(leaf.URIs) != 1 || time.Until(leaf.NotAfter) > time.Hour {
		t.Errorf("leaf: DNS %v URI %v CN %q until %v", leaf.DNSNames, leaf.URIs, leaf.Subject.CommonName, leaf.NotAfter)
	}
	if conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}); err == nil { //nolint:gosec // it must be refused
		conn.Close()
		t.Error("TLS 1.2 was accepted")
	}
	if resp, err := http.Get("http://" + addr); err == nil {
		resp.Body.Close()
		t.Errorf("plain text was answered: %s", resp.Status)
	}
}

func send(t *testing.T, k *task, m *agentapi.Up) {
	t.Helper()
	if err := k.stream.Send(m); err != nil {
		t.Fatal(err)
	}
}

// receive reads until a message of the wanted kind comes.
func receive[M any](t *testing.T, k *task, get func(*agentapi.Down) *M) *M {
	t.Helper()
	for {
		m, err := k.stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if v := get(m); v != nil {
			return v
		}
	}
}
