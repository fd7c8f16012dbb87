// Package testca is a CA that ends with the test, for tests about those who use
// certificates.
//
// It must not know how certificates are ordered: tests of that have a real
// authority, package devca's or package pca's. Start reading at [New].
package testca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"
)

// CA signs certificates for tests. It is safe for concurrent use.
type CA struct {
	Cert    *x509.Certificate
	Key     *ecdsa.PrivateKey
	RootPEM []byte
}

// life is that of a root: none ends before its test, in whose time a day can
// pass in a moment.
const life = 10 * 365 * 24 * time.Hour

// New makes a CA that nobody else has.
func New(t testing.TB) *CA {
	t.Helper()
	return Named(t, "test root")
}

// Named is New with the name of the root's subject.
func Named(t testing.TB, name string) *CA {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	c := &CA{Cert: template, Key: newKey(t)}
	c.Cert = c.Sign(template, c.Key.Public())
	c.RootPEM = encode("CERTIFICATE", c.Cert.Raw)
	return c
}

// Sign makes what template says, whatever it says, for a public key. It panics
// if that can't be encoded.
func (c *CA) Sign(template *x509.Certificate, public any) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, template, c.Cert, public, c.Key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return cert
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Issue signs a leaf for DNS names, IP addresses and SPIFFE IDs, in PEM.
func (c *CA) Issue(t testing.TB, names ...string) (chain, key []byte) {
	t.Helper()
	return c.IssueUntil(t, time.Now().Add(time.Hour), names...)
}

// IssueUntil is Issue with an end.
func (c *CA) IssueUntil(t testing.TB, end time.Time, names ...string) (chain, key []byte) {
	t.Helper()
	return c.issue(t, end, "", names)
}

// IssueTo is Issue with a common name.
func (c *CA) IssueTo(t testing.TB, commonName string, names ...string) (chain, key []byte) {
	t.Helper()
	return c.issue(t, time.Now().Add(time.Hour), commonName, names)
}

func (c *CA) issue(t testing.TB, end time.Time, commonName string, names []string) (chain, key []byte) {
	t.Helper()
	k := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: commonName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: end,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if !strings.Contains(n, "://") {
			template.DNSNames = append(template.DNSNames, n)
		} else if u, err := url.Parse(n); err != nil {
			t.Fatal(err)
		} else {
			template.URIs = append(template.URIs, u)
		}
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return encode("CERTIFICATE", c.Sign(template, k.Public()).Raw), encode("PRIVATE KEY", pkcs8)
}

// Expired is a certificate that has been good until a minute ago.
func (c *CA) Expired(t testing.TB, names ...string) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(c.IssueUntil(t, time.Now().Add(-time.Minute), names...))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// Certificate is Issue for crypto/tls.
func (c *CA) Certificate(t testing.TB, names ...string) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(c.Issue(t, names...))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// Pool trusts the CA.
func (c *CA) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c.Cert)
	return p
}
