package verify

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/xml"
	"io"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// authority signs certificates for the tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	return sign(t, nil, name, elliptic.P256(), x509.ECDSAWithSHA256)
}

func newRoot(t *testing.T, curve elliptic.Curve, with x509.SignatureAlgorithm) authority {
	t.Helper()
	return sign(t, nil, "root", curve, with)
}

// below is an intermediate.
func (a authority) below(t *testing.T, with x509.SignatureAlgorithm) authority {
	t.Helper()
	return sign(t, &a, "intermediate", a.key.Curve, with)
}

// sign makes an authority; without a parent it signs itself.
func sign(t *testing.T, parent *authority, name string, curve elliptic.Curve, with x509.SignatureAlgorithm) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(60 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SignatureAlgorithm: with,
	}
	by, its := c, key
	if parent != nil {
		by, its = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, key.Public(), its)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return authority{c, key}
}

func (a authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// issue makes a certificate like a service's, with changes.
func (a authority) issue(t *testing.T, change func(*x509.Certificate), key interface{ Public() any }) tls.Certificate {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(0xabc), DNSNames: []string{"backend.demo"}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// keyed lets both kinds of key be passed.
type ecKey struct{ *ecdsa.PrivateKey }

func (k ecKey) Public() any { return k.PrivateKey.Public() }

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
	ca, foreign := newAuthority(t, "ours"), newAuthority(t, "foreign")
	config := func(cert tls.Certificate, change func(*tls.Config)) *tls.Config {
		c := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}
		if change != nil {
			change(c)
		}
		return c
	}
	issue := func(a authority, change func(*x509.Certificate)) tls.Certificate {
		k := p256(t)
		cert := a.issue(t, change, ecKey{k})
		cert.PrivateKey = k
		return cert
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weakCert := ca.issue(t, nil, rsaKey{weak})
	weakCert.PrivateKey = weak
	// As ECS Service Connect has it: a P-384 root, an intermediate below it, all
	// signed with SHA-512, a leaf of P-256 for seven days.
	top := newRoot(t, elliptic.P384(), x509.ECDSAWithSHA512)
	between := top.below(t, x509.ECDSAWithSHA512)
	ecs := func(change func(*x509.Certificate)) tls.Certificate {
		k := p256(t)
		cert := between.issue(t, func(c *x509.Certificate) {
			c.SignatureAlgorithm, c.NotAfter = x509.ECDSAWithSHA512, c.NotBefore.Add(DefaultMaxLife)
			if change != nil {
				change(c)
			}
		}, ecKey{k})
		cert.PrivateKey, cert.Certificate = k, append(cert.Certificate, between.cert.Raw)
		return cert
	}
	lone := ecs(nil)
	lone.Certificate = lone.Certificate[:1]
	roots := ca.pool()
	roots.AddCert(top.cert)
	for _, c := range []struct {
		name   string
		addr   string
		serial string
		failed []string
	}{
		{"good", serve(t, config(issue(ca, nil), nil)), "abc", nil},
		{"as ECS", serve(t, config(ecs(nil), nil)), "abc", nil},
		{"as ECS, without its intermediate", serve(t, config(lone, nil)), "", []string{"chain"}},
		{"as ECS, for a month", serve(t, config(ecs(func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(30 * 24 * time.Hour) }), nil)), "", []string{"life"}},
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

type rsaKey struct{ *rsa.PrivateKey }

func (k rsaKey) Public() any { return k.PrivateKey.Public() }

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
	ca := newAuthority(t, "ours")
	e := Judge(Probe(t.Context(), serve(t, nil), "backend.demo", false), Expect{Name: "backend.demo", Roots: ca.pool()}, time.Now())
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
