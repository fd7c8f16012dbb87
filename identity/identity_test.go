package identity

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"patchbay/agentapi"
	"patchbay/identity/join"
	"patchbay/identity/registered"
	"patchbay/mesh"
)

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

// a proof of the backend's second key, which says what change makes of it.
func (s *stand) forge(t *testing.T, by *join.Dir, csrDER []byte, change func(*join.Claims)) string {
	t.Helper()
	now := time.Now()
	c := join.Claims{Claims: jwt.Claims{
		Issuer: "demo/backend", Audience: jwt.Audience{join.Audience(domain)}, ID: rand.Text(),
		IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(join.ProofLife)),
	}, CSR: join.Digest(csrDER)}
	change(&c)
	proof, err := by.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	return proof
}

func TestRefusals(t *testing.T) {
	s := newStand(t)
	der, _ := csr(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaCSR, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	stranger := *s.joins["frontend"]
	stranger.KeyID = s.joins["backend"].KeyID
	proof := func(change func(*join.Claims)) *agentapi.EnrolRequest {
		return &agentapi.EnrolRequest{Proof: s.forge(t, s.joins["backend"], der, change), Namespace: "demo", Workload: "backend", Task: "t1", CsrDer: der}
	}
	request := func(change func(*agentapi.EnrolRequest)) *agentapi.EnrolRequest {
		r := proof(func(*join.Claims) {})
		change(r)
		return r
	}
	withCSR := func(csrDER []byte) *agentapi.EnrolRequest {
		return request(func(r *agentapi.EnrolRequest) {
			r.CsrDer, r.Proof = csrDER, s.forge(t, s.joins["backend"], csrDER, func(*join.Claims) {})
		})
	}
	at := func(d time.Duration) *jwt.NumericDate { return jwt.NewNumericDate(time.Now().Add(d)) }
	good := proof(func(*join.Claims) {})
	if _, err := s.enrol(t, good); err != nil {
		t.Fatalf("the forger's good proof: %v", err)
	}
	for name, c := range map[string]struct {
		r    *agentapi.EnrolRequest
		code codes.Code
		text string
	}{
		"used before":     {good, codes.Unauthenticated, "used before"},
		"expired":         {proof(func(c *join.Claims) { c.IssuedAt, c.Expiry = at(-13*time.Minute), at(-8*time.Minute) }), codes.Unauthenticated, "expired 8 min ago: compare the clocks"},
		"from the future": {proof(func(c *join.Claims) { c.IssuedAt, c.Expiry = at(6*time.Minute), at(8*time.Minute) }), codes.Unauthenticated, "compare the clocks"},
		"too long":        {proof(func(c *join.Claims) { c.Expiry = at(time.Hour) }), codes.Unauthenticated, "allowed: 10m"},
		"without expiry":  {proof(func(c *join.Claims) { c.Expiry = nil }), codes.Unauthenticated, "expiry"},
		"without id":      {proof(func(c *join.Claims) { c.ID = "" }), codes.Unauthenticated, "jti"},
		"other audience":  {proof(func(c *join.Claims) { c.Audience = jwt.Audience{"x"} }), codes.Unauthenticated, "audience"},
		"other issuer":    {proof(func(c *join.Claims) { c.Issuer = "demo/frontend" }), codes.PermissionDenied, "another workload"},
		"another CSR":     {proof(func(c *join.Claims) { c.CSR = join.Digest([]byte("x")) }), codes.Unauthenticated, "another certificate request"},
		"other key":       {request(func(r *agentapi.EnrolRequest) { r.Proof = s.forge(t, &stranger, der, func(*join.Claims) {}) }), codes.Unauthenticated, "signature"},
		"other workload":  {request(func(r *agentapi.EnrolRequest) { r.Workload = "frontend" }), codes.PermissionDenied, "another workload"},
		"stolen":          {request(func(r *agentapi.EnrolRequest) { r.CsrDer, _ = csr(t) }), codes.Unauthenticated, "another certificate request"},
		"bad task":        {request(func(r *agentapi.EnrolRequest) { r.Task = "../x" }), codes.InvalidArgument, "task"},
		"RSA key":         {withCSR(rsaCSR), codes.InvalidArgument, "P-256"},
		"large CSR":       {withCSR(make([]byte, maxCSR+1)), codes.InvalidArgument, "the CSR has 8193 bytes; allowed: 1 to 8192"},
		"huge CSR":        {withCSR(make([]byte, 2<<20)), codes.ResourceExhausted, "larger than max"},
		"huge proof":      {request(func(r *agentapi.EnrolRequest) { r.Proof += strings.Repeat("x", maxProof) }), codes.Unauthenticated, "allowed: 8192"},
		"nonsense":        {&agentapi.EnrolRequest{Proof: "a.b.c"}, codes.Unauthenticated, "JWS"},
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

// TestClocks: a task whose clock is five minutes off can join, and can talk to
// the control plane.
func TestClocks(t *testing.T) {
	s := newStand(t)
	for _, off := range []time.Duration{-5 * time.Minute, 5*time.Minute - 2*time.Second} {
		r, _ := s.request(t, "backend")
		r.Proof = s.forge(t, s.joins["backend"], r.GetCsrDer(), func(c *join.Claims) {
			c.IssuedAt, c.Expiry = jwt.NewNumericDate(time.Now().Add(off)), jwt.NewNumericDate(time.Now().Add(off+join.ProofLife))
		})
		resp, err := s.enrol(t, r)
		if err != nil {
			t.Errorf("%v off: %v", off, err)
			continue
		}
		node, err := x509.ParseCertificate(resp.GetChainDer()[0])
		if err != nil {
			t.Fatal(err)
		}
		own, err := s.signer.server()
		if err != nil {
			t.Fatal(err)
		}
		for _, cert := range []*x509.Certificate{node, own.Leaf} {
			if _, err := cert.Verify(x509.VerifyOptions{Roots: s.signer.Pool(), CurrentTime: time.Now().Add(off), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
				t.Errorf("%v off: %v", off, err)
			}
		}
	}
}

// TestOneProofTwoControlPlanes: replicas that share a data directory know of
// each other's proofs, also when they are asked at the same moment.
func TestOneProofTwoControlPlanes(t *testing.T) {
	s := newStand(t)
	first := s.addr
	s.serve(t)
	for range 5 {
		r, _ := s.request(t, "backend")
		var ok atomic.Int32
		var both sync.WaitGroup
		for _, addr := range []string{first, s.addr} {
			conn := s.dialTo(t, addr, nil)
			both.Go(func() {
				if _, err := agentapi.NewEnrolmentClient(conn).Enrol(t.Context(), r); err == nil {
					ok.Add(1)
				} else if !strings.Contains(err.Error(), "used before") {
					t.Error(err)
				}
			})
		}
		both.Wait()
		if ok.Load() != 1 {
			t.Errorf("one proof was good %d times", ok.Load())
		}
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
		"TLS 1.2":           {RootCAs: s.signer.Pool(), ServerName: join.ServerName(domain), MaxVersion: tls.VersionTLS12},
		"another host name": {RootCAs: s.signer.Pool(), ServerName: "patchbay"},
	} {
		if conn, err := tls.Dial("tcp", s.addr, c); err == nil {
			conn.Close()
			t.Errorf("%s: accepted", name)
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
	w := registered.New(registered.Dir(data), slog.New(slog.DiscardHandler))
	f.Add(proof, der)
	f.Add("a.b.c", []byte("x"))
	f.Fuzz(func(t *testing.T, p string, c []byte) {
		csrKey(c)
		// Base64 has several spellings of one signature, so p may differ from
		// proof; what it proves may not.
		k, claims, err := verifyProof(w, domain, p, c, time.Now())
		if err == nil && (k.Workload.String() != "d/w" || claims.CSR != join.Digest(der) || !bytes.Equal(c, der)) {
			t.Fatalf("accepted %q as %v", p, claims)
		}
	})
}

// TestADamagedRecordOfProofs is said; a line that a crash cut off is none.
func TestADamagedRecordOfProofs(t *testing.T) {
	for text, want := range map[string]bool{"9999999999 a\n99999": false, "9999999999 a\n\x00\x01garbage\n9999999999 b\n": true} {
		data := t.TempDir()
		must(t, os.MkdirAll(ControlDir(data), 0o700))
		must(t, os.WriteFile(filepath.Join(ControlDir(data), "used-proofs"), []byte(text), 0o600))
		var said strings.Builder
		_, err := NewServer(data, nil, nil, slog.New(slog.NewTextHandler(&said, nil)))
		must(t, err)
		if strings.Contains(said.String(), "level=ERROR") != want {
			t.Errorf("%q: said %q", text, &said)
		}
	}
}
