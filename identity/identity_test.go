package identity

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"patchbay/agentapi"
	"patchbay/identity/join"
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
	w := NewWorkloads(IdentitiesDir(s.data), slog.New(slog.DiscardHandler))
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
	c := &tls.Config{RootCAs: s.signer.Pool(), ServerName: ControlName(domain), MinVersion: tls.VersionTLS13}
	if cert != nil {
		c.Certificates = []tls.Certificate{*cert}
	}
	conn, err := grpc.NewClient(s.addr, grpc.WithTransportCredentials(credentials.NewTLS(c)))
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

func (s *stand) certificate(t *testing.T, workload string) *tls.Certificate {
	t.Helper()
	r, key := s.request(t, workload)
	resp, err := s.enrol(t, r)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: resp.GetChainDer(), PrivateKey: key}
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

func TestEnrolThenConnect(t *testing.T) {
	s := newStand(t)
	r, key := s.request(t, "backend")
	resp, err := s.enrol(t, r)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(resp.GetChainDer()[0])
	if err != nil {
		t.Fatal(err)
	}
	if len(cert.DNSNames) != 0 || cert.Subject.CommonName != "" || cert.IsCA || cert.URIs[0].String() != "spiffe://test.patchbay/node/demo/backend/t1" {
		t.Errorf("certificate: DNS %v CN %q CA %v URI %v", cert.DNSNames, cert.Subject.CommonName, cert.IsCA, cert.URIs)
	}
	conn := s.dial(t, &tls.Certificate{Certificate: resp.GetChainDer(), PrivateKey: key})
	got, err := connect(t, conn)
	if err != nil || got != "demo/backend/t1api,backend" {
		t.Errorf("connected as %q: %v", got, err)
	}
	der, _ := csr(t)
	if again, err := agentapi.NewEnrolmentClient(conn).Renew(t.Context(), &agentapi.RenewRequest{CsrDer: der}); err != nil || again.GetNodeId() != "demo/backend/t1" {
		t.Errorf("renew: %v %v", again, err)
	}
	if strings.Contains(s.log.String(), "PRIVATE KEY") || strings.Contains(s.log.String(), r.GetProof()) {
		t.Error("the log holds a key or a proof")
	}
}

func TestRefusals(t *testing.T) {
	s := newStand(t)
	forge := func(workload string, change func(*join.Claims), keyFile string) *agentapi.EnrolRequest {
		r, _ := s.request(t, workload)
		now := time.Now()
		c := join.Claims{Claims: jwt.Claims{
			Issuer: "demo/" + workload, Audience: jwt.Audience{join.Audience(domain)}, ID: rand.Text(),
			IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(time.Minute)),
		}, CSR: join.Digest(r.GetCsrDer())}
		change(&c)
		text, err := os.ReadFile(keyFile)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		key, _ := x509.ParsePKCS8PrivateKey(block.Bytes)
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: s.joins["backend"].KeyID}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.Proof, err = jwt.Signed(signer).Claims(c).Serialize(); err != nil {
			t.Fatal(err)
		}
		return r
	}
	// A second join directory of the backend, whose key file the forgers hold.
	out := filepath.Join(t.TempDir(), "backend2")
	second, err := MakeJoin(JoinRequest{Data: s.data, TrustDomain: domain, Workload: mesh.Workload{Namespace: "demo", Name: "backend", DiscoveryNames: []string{"api", "backend"}}, Out: out})
	if err != nil {
		t.Fatal(err)
	}
	s.joins["backend"].KeyID = second.Info.KeyID
	own := filepath.Join(out, join.KeyFile)
	otherOut := filepath.Join(t.TempDir(), "f2")
	if _, err := MakeJoin(JoinRequest{Data: s.data, TrustDomain: domain, Workload: mesh.Workload{Namespace: "demo", Name: "frontend"}, Out: otherOut}); err != nil {
		t.Fatal(err)
	}
	ago := func(d time.Duration) *jwt.NumericDate { return jwt.NewNumericDate(time.Now().Add(-d)) }
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaCSR, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	good := forge("backend", func(*join.Claims) {}, own)
	if _, err := s.enrol(t, good); err != nil {
		t.Fatalf("the forger's good proof: %v", err)
	}
	for name, c := range map[string]struct {
		r    *agentapi.EnrolRequest
		code codes.Code
		text string
	}{
		"used before":     {good, codes.Unauthenticated, "used before"},
		"expired":         {forge("backend", func(c *join.Claims) { c.IssuedAt, c.Expiry = ago(13*time.Minute), ago(8*time.Minute) }, own), codes.Unauthenticated, "expired 8 min"},
		"from the future": {forge("backend", func(c *join.Claims) { c.IssuedAt, c.Expiry = ago(-6*time.Minute), ago(-8*time.Minute) }, own), codes.Unauthenticated, "clocks"},
		"too long":        {forge("backend", func(c *join.Claims) { c.Expiry = ago(-time.Hour) }, own), codes.Unauthenticated, "allowed: 10m"},
		"without expiry":  {forge("backend", func(c *join.Claims) { c.Expiry = nil }, own), codes.Unauthenticated, "expiry"},
		"without id":      {forge("backend", func(c *join.Claims) { c.ID = "" }, own), codes.Unauthenticated, "jti"},
		"other audience":  {forge("backend", func(c *join.Claims) { c.Audience = jwt.Audience{"x"} }, own), codes.Unauthenticated, "audience"},
		"other issuer":    {forge("backend", func(c *join.Claims) { c.Issuer = "demo/frontend" }, own), codes.PermissionDenied, "another workload"},
		"other key":       {forge("backend", func(*join.Claims) {}, filepath.Join(otherOut, join.KeyFile)), codes.Unauthenticated, "signature"},
		"another CSR":     {forge("backend", func(c *join.Claims) { c.CSR = join.Digest([]byte("x")) }, own), codes.Unauthenticated, "another certificate request"},
		"another workload": {func() *agentapi.EnrolRequest {
			r := forge("backend", func(*join.Claims) {}, own)
			r.Workload = "frontend"
			return r
		}(), codes.PermissionDenied, "another workload"},
		"bad task": {func() *agentapi.EnrolRequest {
			r := forge("backend", func(*join.Claims) {}, own)
			r.Task = "../x"
			return r
		}(), codes.InvalidArgument, "task"},
		"RSA key": {func() *agentapi.EnrolRequest {
			r := forge("backend", func(c *join.Claims) { c.CSR = join.Digest(rsaCSR) }, own)
			r.CsrDer = rsaCSR
			return r
		}(), codes.InvalidArgument, "P-256"},
		"nonsense": {&agentapi.EnrolRequest{Proof: "a.b.c"}, codes.Unauthenticated, "JWS"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.enrol(t, c.r)
			if status.Code(err) != c.code || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v, want %v with %q", err, c.code, c.text)
			}
		})
	}
	if !strings.Contains(s.log.String(), "refused on the control channel") || !strings.Contains(s.log.String(), "used before") {
		t.Error("the server's side says nothing of the refusals")
	}
}

func TestUsedProofsSurviveARestart(t *testing.T) {
	s := newStand(t)
	r, _ := s.request(t, "backend")
	if _, err := s.enrol(t, r); err != nil {
		t.Fatal(err)
	}
	s.serve(t)
	if _, err := s.enrol(t, r); status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "used before") {
		t.Fatalf("after a restart: %v", err)
	}
	s.joins["late"] = makeJoin(t, s.data, "late")
	r, _ = s.request(t, "late")
	if _, err := s.enrol(t, r); err != nil {
		t.Fatalf("a workload that was registered later: %v", err)
	}
}

func TestWhoMayConnect(t *testing.T) {
	s := newStand(t)
	foreign, err := OpenSigner(t.TempDir(), domain)
	if err != nil {
		t.Fatal(err)
	}
	der, key := csr(t)
	node := mesh.Node{Workload: mesh.Workload{Namespace: "demo", Name: "backend"}, Task: "t1"}
	made := func(by *Signer, n mesh.Node) *tls.Certificate {
		cert, err := by.SignNode(n, s.joins["backend"].KeyID, der)
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
	}
	pub, _ := csrKey(der)
	old, err := sign(&x509.Certificate{URIs: []*url.URL{nodeURI(domain, node)}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, s.signer.ca, pub, s.signer.key)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cert *tls.Certificate
		ok   bool
	}{
		"own":             {made(s.signer, node), true},
		"none":            {nil, false},
		"foreign CA":      {made(foreign, node), false},
		"unknown":         {made(s.signer, mesh.Node{Workload: mesh.Workload{Namespace: "demo", Name: "ghost"}, Task: "t"}), false},
		"expired":         {&tls.Certificate{Certificate: [][]byte{old}, PrivateKey: key}, false},
		"control plane's": {func() *tls.Certificate { c, _ := s.signer.server(); return c }(), false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := connect(t, s.dial(t, c.cert))
			if (err == nil) != c.ok {
				t.Errorf("connected as %q, %v", got, err)
			}
		})
	}
	for name, c := range map[string]*tls.Config{
		"TLS 1.2":           {RootCAs: s.signer.Pool(), ServerName: ControlName(domain), MaxVersion: tls.VersionTLS12},
		"another host name": {RootCAs: s.signer.Pool(), ServerName: "patchbay"},
	} {
		if conn, err := tls.Dial("tcp", s.addr, c); err == nil {
			conn.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestBrokenIdentityFileKeepsItsWorkload(t *testing.T) {
	s := newStand(t)
	w := NewWorkloads(IdentitiesDir(s.data), slog.New(slog.DiscardHandler))
	if err := w.Load(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(IdentitiesDir(s.data), "backend@demo.json"), []byte(`{"namespace": "demo", "workload": "backend", "discoveryNames": ["-"], "keys": []}`), 0o600); err != nil {
		t.Fatal(err)
	}
	err := w.Load()
	if err == nil || !strings.Contains(err.Error(), "backend@demo.json: discoveryName") || !strings.Contains(err.Error(), "keys: is empty") {
		t.Errorf("the error is %v", err)
	}
	if got, err := w.find("demo", "backend", s.joins["backend"].KeyID); err != nil || len(got.DiscoveryNames) != 2 {
		t.Errorf("backend is %v %v", got, err)
	}
	os.Remove(filepath.Join(IdentitiesDir(s.data), "backend@demo.json"))
	if err := w.Load(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.find("demo", "backend", s.joins["backend"].KeyID); err == nil {
		t.Error("a removed workload is still registered")
	}
}

func TestMakeJoinIsIdempotent(t *testing.T) {
	r := JoinRequest{Data: t.TempDir(), TrustDomain: domain, Workload: mesh.Workload{Namespace: "demo", Name: "w", DiscoveryNames: []string{"b", "a"}}, Out: filepath.Join(t.TempDir(), "j")}
	first, err := MakeJoin(r)
	if err != nil || len(first.Changed) != 5 {
		t.Fatal(first.Changed, err)
	}
	if again, err := MakeJoin(r); err != nil || len(again.Changed) > 0 || again.Info.KeyID != first.Info.KeyID {
		t.Errorf("again: %v %v", again, err)
	}
	if st, err := os.Stat(filepath.Join(r.Out, join.KeyFile)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v %v", st, err)
	}
	r.Workload.DiscoveryNames = []string{"a"}
	if other, err := MakeJoin(r); err != nil || len(other.Changed) != 2 || other.Info.KeyID != first.Info.KeyID {
		t.Errorf("other names: %v %v", other, err)
	}
	_, err = MakeJoin(JoinRequest{TrustDomain: "a b", Workload: mesh.Workload{DiscoveryNames: []string{"-"}}})
	for _, want := range []string{"namespace", "trust domain", "discoveryName", "data:", "out:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("nothing says %q: %v", want, err)
		}
	}
}

func TestCheckNode(t *testing.T) {
	n := mesh.Node{Workload: mesh.Workload{Namespace: "demo", Name: "b"}, Task: "1"}
	for _, c := range []struct {
		id, cluster string
		ok          bool
	}{{"", "", true}, {"demo/b/1", "demo/b", true}, {"demo/b/2", "", false}, {"", "demo/c", false}} {
		if err := CheckNode(n, c.id, c.cluster); (err == nil) != c.ok {
			t.Errorf("%q %q: %v", c.id, c.cluster, err)
		}
	}
}

func FuzzProof(f *testing.F) {
	data := f.TempDir()
	if _, err := MakeJoin(JoinRequest{Data: data, TrustDomain: domain, Workload: mesh.Workload{Namespace: "d", Name: "w"}, Out: filepath.Join(data, "j")}); err != nil {
		f.Fatal(err)
	}
	d, err := join.Load(filepath.Join(data, "j"))
	if err != nil {
		f.Fatal(err)
	}
	der, _ := csr(f)
	proof, _ := d.Proof(der)
	w := NewWorkloads(IdentitiesDir(data), slog.New(slog.DiscardHandler))
	f.Add(proof, der)
	f.Add("a.b.c", []byte("x"))
	f.Fuzz(func(t *testing.T, p string, c []byte) {
		csrKey(c)
		// Base64 has several spellings of one signature, so p may differ from
		// proof; what it proves may not.
		k, claims, err := verifyProof(w, domain, p, c, time.Now())
		if err == nil && (k.workload.String() != "d/w" || claims.CSR != join.Digest(der) || !bytes.Equal(c, der)) {
			t.Fatalf("accepted %q as %v", p, claims)
		}
	})
}
