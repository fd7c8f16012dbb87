package pki

import (
	"crypto/x509"
	"net"
	"strings"
	"testing"
	"time"

	"patchbay/internal/testca"
	"patchbay/pki/issue"
)

func TestVerifyRefusesWhatWasNotAskedFor(t *testing.T) {
	good, other := testca.Named(t, "good"), testca.Named(t, "other")
	r := issue.NewRequest("mesh.test", svc("a", "x"))
	life := time.Hour
	for _, c := range []struct {
		name, want string
		change     func(c *x509.Certificate, s *testca.CA)
	}{
		{"as asked", "", func(*x509.Certificate, *testca.CA) {}},
		{"common name of the token's subject", "", func(c *x509.Certificate, _ *testca.CA) { c.Subject.CommonName = "a" }},
		{"another common name", "common name", func(c *x509.Certificate, _ *testca.CA) { c.Subject.CommonName = "b" }},
		{"a name more", "DNS names", func(c *x509.Certificate, _ *testca.CA) { c.DNSNames = append(c.DNSNames, "b.prod") }},
		{"a name less", "DNS names", func(c *x509.Certificate, _ *testca.CA) { c.DNSNames = c.DNSNames[1:] }},
		{"wildcard", "DNS names", func(c *x509.Certificate, _ *testca.CA) { c.DNSNames[0] = "*.prod" }},
		{"no SPIFFE ID", "URIs", func(c *x509.Certificate, _ *testca.CA) { c.URIs = nil }},
		{"another's SPIFFE ID", "URIs", func(c *x509.Certificate, _ *testca.CA) { c.URIs[0].Path = "/service/prod/b" }},
		{"an IP address", "IP addresses", func(c *x509.Certificate, _ *testca.CA) { c.IPAddresses = []net.IP{{10, 0, 0, 1}} }},
		{"a CA", "may sign", func(c *x509.Certificate, _ *testca.CA) { c.IsCA = true }},
		{"signs certificates", "may sign", func(c *x509.Certificate, _ *testca.CA) { c.KeyUsage |= x509.KeyUsageCertSign }},
		{"no digitalSignature", "digitalSignature", func(c *x509.Certificate, _ *testca.CA) { c.KeyUsage = x509.KeyUsageKeyEncipherment }},
		{"client only", "serverAuth", func(c *x509.Certificate, _ *testca.CA) { c.ExtKeyUsage[0] = x509.ExtKeyUsageClientAuth }},
		{"longer", "it ends at", func(c *x509.Certificate, _ *testca.CA) { c.NotAfter = c.NotAfter.Add(time.Hour) }},
		{"shorter", "it ends at", func(c *x509.Certificate, _ *testca.CA) { c.NotAfter = c.NotAfter.Add(-life / 2) }},
		{"already over", "it ends at", func(c *x509.Certificate, _ *testca.CA) { c.NotAfter = time.Now().Add(-time.Minute) }},
		{"not yet", "it begins at", func(c *x509.Certificate, _ *testca.CA) { c.NotBefore = time.Now().Add(time.Minute) }},
		{"long ago", "it begins at", func(c *x509.Certificate, _ *testca.CA) { c.NotBefore = time.Now().Add(-24 * time.Hour) }},
		{"another issuer", "its chain", func(_ *x509.Certificate, s *testca.CA) { *s = *other }},
	} {
		t.Run(c.name, func(t *testing.T) {
			key, csr := prepared(r)
			s := *good
			tmpl := leafTemplate(csr, life)
			c.change(tmpl, &s)
			cert := s.Sign(tmpl, csr.PublicKey)
			_, err := issue.Accept(r, []*x509.Certificate{cert, s.Cert}, key, life, []*x509.Certificate{good.Cert}, time.Now())
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v; want %q", err, c.want)
			}
		})
	}
	key, csr := prepared(r)
	foreign, _ := prepared(r)
	cert := good.Sign(leafTemplate(csr, life), csr.PublicKey)
	if _, err := issue.Accept(r, []*x509.Certificate{cert}, foreign, life, []*x509.Certificate{good.Cert}, time.Now()); err == nil || !strings.Contains(err.Error(), "another key") {
		t.Errorf("another key: %v", err)
	}
	leaf, err := issue.Accept(r, []*x509.Certificate{cert, good.Cert}, key, life, []*x509.Certificate{good.Cert}, time.Now())
	if err != nil || len(must(issue.ParseCertificates(leaf.ChainPEM))) != 1 {
		t.Errorf("the self-signed root was not left out: %v", err)
	}
}
