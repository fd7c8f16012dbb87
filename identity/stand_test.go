package identity

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"patchbay/agentapi"
	"patchbay/identity/join"
	"patchbay/identity/registered"
	"patchbay/mesh"
)

const domain = "test.patchbay"

// stand is a control plane's port over real TLS, with two workloads.
type stand struct {
	data   string
	addr   string
	signer *Signer
	log    *syncBuffer
	joins  map[string]*join.Dir
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// who answers Connect with the node that the guard found, as an error text.
type who struct {
	agentapi.UnimplementedAgentServer
}

func (who) Connect(s grpc.BidiStreamingServer[agentapi.Up, agentapi.Down]) error {
	n, err := FromContext(s.Context())
	if err != nil {
		return err
	}
	return s.Send(&agentapi.Down{Message: &agentapi.Down_Welcome{Welcome: &agentapi.Welcome{ControlPlane: n.ID() + strings.Join(n.Workload.DiscoveryNames, ",")}}})
}

func makeJoin(t *testing.T, data, workload string, names ...string) *join.Dir {
	t.Helper()
	out := filepath.Join(t.TempDir(), workload)
	if _, err := MakeJoin(JoinRequest{Data: data, TrustDomain: domain, Workload: mesh.Workload{Namespace: "demo", Name: workload, DiscoveryNames: names}, Out: out}); err != nil {
		t.Fatal(err)
	}
	d, err := join.Load(out)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func newStand(t *testing.T) *stand {
	t.Helper()
	s := &stand{data: t.TempDir(), log: &syncBuffer{}, joins: map[string]*join.Dir{}}
	s.joins["backend"] = makeJoin(t, s.data, "backend", "api", "backend")
	s.joins["frontend"] = makeJoin(t, s.data, "frontend")
	s.serve(t)
	return s
}

func (s *stand) serve(t *testing.T) {
	t.Helper()
	var err error
	if s.signer, err = OpenSigner(ControlDir(s.data), domain); err != nil {
		t.Fatal(err)
	}
	w := registered.New(registered.Dir(s.data), slog.New(slog.DiscardHandler))
	if err := w.Load(); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(s.log, nil))
	server, err := NewServer(s.data, s.signer, w, log)
	if err != nil {
		t.Fatal(err)
	}
	g := NewGuard(s.signer, w, log)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	gs := grpc.NewServer(append(g.Options(), grpc.Creds(g.Credentials(true)))...)
	agentapi.RegisterEnrolmentServer(gs, server)
	agentapi.RegisterAgentServer(gs, who{})
	go gs.Serve(l)
	t.Cleanup(gs.Stop)
}

func (s *stand) dial(t *testing.T, cert *tls.Certificate) *grpc.ClientConn {
	t.Helper()
	return s.dialTo(t, s.addr, cert)
}

func (s *stand) dialTo(t *testing.T, addr string, cert *tls.Certificate) *grpc.ClientConn {
	t.Helper()
	c := &tls.Config{RootCAs: s.signer.Pool(), ServerName: join.ServerName(domain), MinVersion: tls.VersionTLS13}
	if cert != nil {
		c.Certificates = []tls.Certificate{*cert}
	}
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(credentials.NewTLS(c)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func csr(t testing.TB) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"victim.demo"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der, key
}

func (s *stand) enrol(t *testing.T, r *agentapi.EnrolRequest) (*agentapi.EnrolResponse, error) {
	t.Helper()
	return agentapi.NewEnrolmentClient(s.dial(t, nil)).Enrol(t.Context(), r)
}

// request is a good one of a workload, and its key.
func (s *stand) request(t *testing.T, workload string) (*agentapi.EnrolRequest, *ecdsa.PrivateKey) {
	t.Helper()
	der, key := csr(t)
	proof, err := s.joins[workload].Proof(der)
	if err != nil {
		t.Fatal(err)
	}
	return &agentapi.EnrolRequest{Proof: proof, Namespace: "demo", Workload: workload, Task: "t1", CsrDer: der}, key
}

func connect(t *testing.T, conn *grpc.ClientConn) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	stream, err := agentapi.NewAgentClient(conn).Connect(ctx)
	if err != nil {
		return "", err
	}
	m, err := stream.Recv()
	return m.GetWelcome().GetControlPlane(), err
}
