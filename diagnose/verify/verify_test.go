package verify

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/xml"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"patchbay/internal/awsfake/pca"
	"patchbay/internal/awsfake/wire"
	"patchbay/internal/testca"
	"patchbay/mesh"
	"patchbay/pki/issue"
	"patchbay/pki/privateca"
)

// issued is a certificate like a service's, with changes.
func issued(ca *testca.CA, change func(*x509.Certificate), key crypto.Signer) tls.Certificate {
	c := &x509.Certificate{
		SerialNumber: big.NewInt(0xabc), DNSNames: []string{"backend.demo"}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(c)
	}
	return tls.Certificate{Certificate: [][]byte{ca.Sign(c, key.Public()).Raw}, PrivateKey: key}
}

func p256(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// serve answers HTTP on a port; with c, below TLS.
func serve(t *testing.T, c *tls.Config) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if c != nil {
		l = tls.NewListener(l, c)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }), ReadHeaderTimeout: time.Minute}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return addr
}

func TestTellsBadPortsFromAGoodOne(t *testing.T) {
	ca, foreign := testca.New(t), testca.New(t)
	config := func(cert tls.Certificate, change func(*tls.Config)) *tls.Config {
		c := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}
		if change != nil {
			change(c)
		}
		return c
	}
	issue := func(a *testca.CA, change func(*x509.Certificate)) tls.Certificate {
		return issued(a, change, p256(t))
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weakCert := issued(ca, nil, weak)
	// As ECS Service Connect has it: AWS Private CA with a P-384 root and a
	// subordinate below it, all signed with SHA-512, a leaf of P-256 for seven days.
	ecs, month, trusted := privateCA(t)
	lone := ecs
	lone.Certificate = lone.Certificate[:1]
	roots := ca.Pool()
	roots.AppendCertsFromPEM(trusted)
	for _, c := range []struct {
		name   string
		addr   string
		serial string
		failed []string
	}{
		{"good", serve(t, config(issue(ca, nil), nil)), "abc", nil},
		{"as ECS", serve(t, config(ecs, nil)), "", nil},
		{"as ECS, without its intermediate", serve(t, config(lone, nil)), "", []string{"chain"}},
		{"as ECS, for a month", serve(t, config(month, nil)), "", []string{"life"}},
		{"plain", serve(t, nil), "", []string{"tls13", "plain"}},
		{"TLS 1.2 too", serve(t, config(issue(ca, nil), func(c *tls.Config) { c.MinVersion = tls.VersionTLS12 })), "", []string{"older"}},
		{"TLS 1.2 alone", serve(t, config(issue(ca, nil), func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 })), "", []string{"tls13", "older"}},
		{"TLS 1.0 too", serve(t, config(issue(ca, nil), func(c *tls.Config) { c.MinVersion = tls.VersionTLS10 })), "", []string{"older"}},
		{"wrong SAN", serve(t, config(issue(ca, func(c *x509.Certificate) { c.DNSNames = []string{"other.demo"} }), nil)), "", []string{"san"}},
		{"expired", serve(t, config(issue(ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }), nil)), "", []string{"validity"}},
		{"not yet valid", serve(t, config(issue(ca, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), nil)), "", []string{"validity"}},
		{"foreign CA", serve(t, config(issue(foreign, nil), nil)), "", []string{"chain"}},
		{"long-lived", serve(t, config(issue(ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(30 * 24 * time.Hour) }), nil)), "", []string{"life"}},
		{"for clients alone", serve(t, config(issue(ca, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), nil)), "", []string{"usage"}},
		{"older serial", serve(t, config(issue(ca, nil), nil)), "abd", []string{"serial"}},
		{"weak key", serve(t, config(weakCert, nil)), "", []string{"key"}},
		{"nobody", "127.0.0.1:1", "", []string{"reachable"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := Judge(Probe(t.Context(), c.addr, "backend.demo", false), Expect{Name: "backend.demo", Roots: roots, Serial: c.serial}, time.Now())
			var failed []string
			for _, x := range e.Checks {
				if x.Outcome == Fail {
					failed = append(failed, x.ID)
				}
				if x.Detail == "" {
					t.Errorf("%s has no detail", x.ID)
				}
			}
			if !slices.Equal(failed, c.failed) || e.OK != (c.failed == nil) {
				t.Errorf("failed: %v, want %v\n%+v", failed, c.failed, e.Checks)
			}
		})
	}
}

// privateCA gives two certificates of the service by AWS Private CA, over its
// protocol: one for seven days from a short-lived subordinate, one for a month
// from a general one; with what callers trust.
func privateCA(t *testing.T) (week, month tls.Certificate, roots []byte) {
	t.Helper()
	p := pca.New(pca.Options{Polls: 1})
	h := httptest.NewServer(wire.New(wire.Options{}, p.API()))
	t.Cleanup(h.Close)
	spec := pca.Spec{KeyAlgorithm: "EC_secp384r1", SigningAlgorithm: "SHA512WITHECDSA"}
	root, err := p.Make(spec)
	if err != nil {
		t.Fatal(err)
	}
	spec.Parent = root
	get := func(short bool, life time.Duration) tls.Certificate {
		spec.ShortLived = short
		arn, err := p.Make(spec)
		if err != nil {
			t.Fatal(err)
		}
		ca, err := privateca.New(aws.Config{Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("x", "y", "")}, privateca.Options{ARN: arn, Endpoint: h.URL, Lifetime: life})
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := ca.Issue(t.Context(), issue.NewRequest("mesh.test", &mesh.Service{Name: mesh.ServiceName{Namespace: "demo", DiscoveryName: "backend"}}))
		if err != nil {
			t.Fatal(err)
		}
		if roots, err = ca.Roots(t.Context()); err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(leaf.ChainPEM, leaf.KeyPEM)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := x509.ParseCertificate(pair.Certificate[0])
		if err != nil || signed.SignatureAlgorithm != x509.ECDSAWithSHA512 || len(pair.Certificate) != 2 {
			t.Fatalf("%v: %s, a chain of %d", err, signed.SignatureAlgorithm, len(pair.Certificate))
		}
		return pair
	}
	return get(true, DefaultMaxLife), get(false, 30*24*time.Hour), roots
}

// TestAuditLog: the log must tell of this serial, with this key, for this name.
func TestAuditLog(t *testing.T) {
	ca, k := testca.New(t), p256(t)
	cert := issued(ca, nil, k)
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	spki := hex.EncodeToString(sum[:])
	o := Probe(t.Context(), serve(t, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}), "backend.demo", false)
	for name, c := range map[string]struct {
		log  Log
		want string // "" passes
	}{
		"good":          {Log{Issued: map[string]Issued{"abc": {[]string{"backend.demo"}, spki}}}, ""},
		"other serial":  {Log{Issued: map[string]Issued{"abd": {[]string{"backend.demo"}, spki}}}, "not of abc"},
		"other key":     {Log{Issued: map[string]Issued{"abc": {[]string{"backend.demo"}, "00"}}}, "for another key"},
		"other service": {Log{Issued: map[string]Issued{"abc": {[]string{"other.demo"}, spki}}}, "for other.demo"},
		"edited":        {Log{Problem: "line 3", Issued: map[string]Issued{"abc": {[]string{"backend.demo"}, spki}}}, "line 3"},
	} {
		e := Judge(o, Expect{Name: "backend.demo", Roots: ca.Pool(), Log: &c.log}, time.Now())
		i := slices.IndexFunc(e.Checks, func(c Check) bool { return c.ID == "audit" })
		if i < 0 || e.OK != (c.want == "") || !strings.Contains(e.Checks[i].Detail, c.want) {
			t.Errorf("%s: %+v", name, e.Checks)
		}
	}
}

// TestSilenceIsPlainText: a port of a tcp service that takes plain text may
// say nothing at first.
func TestSilenceIsPlainText(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
		}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if got := plain(conn, "x", true); got.Refused || !strings.Contains(got.Detail, "silent") {
		t.Errorf("%+v", got)
	}
}

func TestReport(t *testing.T) {
	ca := testca.New(t)
	e := Judge(Probe(t.Context(), serve(t, nil), "backend.demo", false), Expect{Name: "backend.demo", Roots: ca.Pool()}, time.Now())
	r, err := NewReport("backend.demo", "patchbay test", time.Now(), []Endpoint{e})
	if err != nil || r.OK || r.Failed() != 2 || len(r.Digest) != 64 {
		t.Fatalf("%v %+v", err, r)
	}
	if empty, err := NewReport("backend.demo", "", time.Now(), nil); err != nil || empty.OK {
		t.Error("nothing was verified, and it is fine?")
	}
	var b bytes.Buffer
	if err := JUnit(&b, []Report{r}); err != nil {
		t.Fatal(err)
	}
	var got testsuites
	if err := xml.Unmarshal(b.Bytes(), &got); err != nil || len(got.Suites) != 1 || got.Suites[0].Failures != 2 || got.Suites[0].Skipped != 3 || got.Suites[0].Tests != 7 {
		t.Errorf("%v\n%s", err, b.String())
	}
}

// TestAPortThatAsksForACertificate is a good one: an auditor has none, and sees
// all the same whose port it is.
func TestAPortThatAsksForACertificate(t *testing.T) {
	ca, k := testca.New(t), p256(t)
	cert := issued(ca, nil, k)
	for _, asks := range []tls.ClientAuthType{tls.VerifyClientCertIfGiven, tls.RequireAndVerifyClientCert} {
		address := serve(t, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, ClientAuth: asks, ClientCAs: ca.Pool()})
		o := Probe(t.Context(), address, "backend.demo", false)
		if got := Judge(o, Expect{Name: "backend.demo", Roots: ca.Pool()}, time.Now()); !got.OK || o.Modern.Asks != (asks == tls.RequireAndVerifyClientCert) {
			t.Errorf("%v: asks %v, %+v", asks, o.Modern.Asks, got.Checks)
		}
		for _, want := range []Callers{Asked, AskedBut} {
			got := Judge(o, Expect{Name: "backend.demo", Roots: ca.Pool(), Callers: want}, time.Now())
			i := slices.IndexFunc(got.Checks, func(c Check) bool { return c.ID == "callers" })
			outcome := map[Callers]Outcome{Asked: Fail, AskedBut: Skipped}[want]
			if o.Modern.Asks {
				outcome = Pass
			}
			if i < 0 || got.Checks[i].Outcome != outcome {
				t.Errorf("%v, %v: %+v; want %s", asks, want, got.Checks, outcome)
			}
		}
	}
}
