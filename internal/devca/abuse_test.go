package devca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/certificates/api"
	"github.com/smallstep/certificates/ca"
)

// asked is what the token of these tests allows.
var asked = []string{"backend.prod", "spiffe://mesh.test/service/prod/backend"}

func connect(t *testing.T, c Client) *ca.Provisioner {
	t.Helper()
	password, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ca.NewProvisioner(c.Provisioner, "", c.URL, password, ca.WithRootSHA256(c.Fingerprint))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.CloseIdleConnections)
	return p
}

func p256(t *testing.T) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func csr(t *testing.T, key crypto.Signer, change func(*x509.CertificateRequest)) api.CertificateRequest {
	t.Helper()
	tmpl := &x509.CertificateRequest{DNSNames: []string{asked[0]}, URIs: []*url.URL{{Scheme: "spiffe", Host: "mesh.test", Path: "/service/prod/backend"}}}
	if change != nil {
		change(tmpl)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, tmpl, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return api.CertificateRequest{CertificateRequest: parsed}
}

func token(t *testing.T, p *ca.Provisioner) string {
	t.Helper()
	tok, err := p.Token("backend", asked...)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestAbuse(t *testing.T) {
	p := connect(t, start(t, Options{}))
	t.Run("is refused", func(t *testing.T) { abuseIsRefused(t, p) })
	t.Run("a request for a CA is no CA", func(t *testing.T) { requestForACAIsNoCA(t, p) })
	t.Run("tokens work once and here only", func(t *testing.T) { tokensWorkOnceAndHereOnly(t, p) })
}

func abuseIsRefused(t *testing.T, p *ca.Provisioner) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	type request = x509.CertificateRequest
	for name, change := range map[string]func(*request){
		"a name more":        func(r *request) { r.DNSNames = append(r.DNSNames, "frontend.prod") },
		"a wildcard more":    func(r *request) { r.DNSNames = append(r.DNSNames, "*.prod") },
		"another name":       func(r *request) { r.DNSNames = []string{"frontend.prod"} },
		"another SPIFFE ID":  func(r *request) { r.URIs[0].Path = "/service/prod/frontend" },
		"an IP address more": func(r *request) { r.IPAddresses = []net.IP{{10, 0, 0, 1}} },
		"an e-mail more":     func(r *request) { r.EmailAddresses = []string{"a@b.test"} },
		"a common name":      func(r *request) { r.Subject = pkix.Name{CommonName: "frontend.prod"} },
	} {
		if _, err := p.SignWithContext(t.Context(), &api.SignRequest{CsrPEM: csr(t, p256(t), change), OTT: token(t, p)}); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	if _, err := p.SignWithContext(t.Context(), &api.SignRequest{CsrPEM: csr(t, weak, nil), OTT: token(t, p)}); err == nil {
		t.Error("RSA-1024: signed")
	}
	for name, life := range map[string]time.Duration{"too long": 169 * time.Hour, "in the past": -time.Hour} {
		r := &api.SignRequest{CsrPEM: csr(t, p256(t), nil), OTT: token(t, p)}
		r.NotAfter.SetDuration(life)
		if _, err := p.SignWithContext(t.Context(), r); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

func tokensWorkOnceAndHereOnly(t *testing.T, p *ca.Provisioner) {
	tok := token(t, p)
	sign := func(tok string) error {
		_, err := p.SignWithContext(t.Context(), &api.SignRequest{CsrPEM: csr(t, p256(t), nil), OTT: tok})
		return err
	}
	if err := sign(tok); err != nil {
		t.Fatal(err)
	}
	if err := sign(tok); err == nil {
		t.Error("a token was used twice")
	}
	other := connect(t, start(t, Options{}))
	if err := sign(token(t, other)); err == nil {
		t.Error("another authority's token was accepted")
	}
	p.SetAudience(strings.Replace(p.Audience(), "localhost", "elsewhere", 1))
	if err := sign(token(t, p)); err == nil {
		t.Error("a token for another audience was accepted")
	}
}

// A request's extensions are not passed on: the token decides.
func requestForACAIsNoCA(t *testing.T, p *ca.Provisioner) {
	basic, err := asn1.Marshal(struct{ CA bool }{true})
	if err != nil {
		t.Fatal(err)
	}
	usage, err := asn1.Marshal(asn1.BitString{Bytes: []byte{0x06}, BitLength: 7}) // keyCertSign, cRLSign
	if err != nil {
		t.Fatal(err)
	}
	r := csr(t, p256(t), func(r *x509.CertificateRequest) {
		r.ExtraExtensions = []pkix.Extension{
			{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: basic},
			{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Critical: true, Value: usage},
		}
	})
	resp, err := p.SignWithContext(t.Context(), &api.SignRequest{CsrPEM: r, OTT: token(t, p)})
	if err != nil {
		t.Fatal(err)
	}
	leaf := resp.ServerPEM.Certificate
	if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature || leaf.Subject.String() != "" {
		t.Errorf("CA %v, key usage %b, subject %q", leaf.IsCA, leaf.KeyUsage, leaf.Subject)
	}
	if !slices.Equal(leaf.DNSNames, asked[:1]) || len(leaf.URIs) != 1 {
		t.Errorf("names %v %v", leaf.DNSNames, leaf.URIs)
	}
}
