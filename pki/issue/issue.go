// Package issue is what package pki and its issuers (stepca, privateca) say to
// each other: what a certificate must say, how fast an issuer may be asked, and
// whether its answer is what was asked for.
//
// It owns that contract, and what every certificate of a service must say. It
// must not know any CA, nor when a certificate is due.
//
// Start reading at [Issuer], then [Accept].
package issue

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"patchbay/mesh"
)

// Issuer signs certificates of services. Implementations are safe for
// concurrent use, connect when they are first needed, and do not retry:
// whoever calls decides when to try again.
type Issuer interface {
	// Issue returns a new leaf, with r's key or a new one. It has verified that
	// the certificate says what r asked for, no less and no more. Leaf.Issuer
	// is left empty: an issuer does not know its name.
	Issue(ctx context.Context, r Request) (*mesh.Leaf, error)
	// Roots returns the roots that callers must trust for this issuer's
	// leaves, as PEM; at least one.
	Roots(ctx context.Context) ([]byte, error)
}

// ErrThrottled is matched by what [Issuer.Issue] returns when it was asked too
// often: nothing is wrong, but whoever asks should ask less.
var ErrThrottled = errors.New("the issuer is asked too often")

// Limits are what an issuer wants of whoever drives it. Zero fields: as the
// options of package pki and the rotator's own rules say.
type Limits struct {
	Rate     float64 // certificates a second, at most
	Parallel int     // certificates asked for at once
	// A leaf is renewed at a random point between these parts of its life.
	RenewFrom, RenewTo float64
}

// Limited is an [Issuer] that has limits of its own.
type Limited interface{ Limits() Limits }

// Request says what a service's certificate must say.
type Request struct {
	Service  mesh.ServiceName
	Names    []string      // DNS names, sorted, no duplicates; none: see [ForWorkload]
	URI      string        // SPIFFE ID
	Lifetime time.Duration // 0: the issuer's own
	Prepared *Prepared     // nil: a new key
}

// Prepared is the key of a certificate to be, with its request. Whoever asks
// an issuer with the same one asks for the same certificate.
type Prepared struct {
	Key *ecdsa.PrivateKey
	CSR *x509.CertificateRequest
}

// Token names p to an issuer that gives one certificate for one token: 36 hex
// digits, the longest that AWS Private CA takes.
func (p *Prepared) Token() string {
	sum := sha256.Sum256(p.CSR.Raw)
	return hex.EncodeToString(sum[:])[:36]
}

// NewRequest asks for all names under which s is called, and its SPIFFE ID.
func NewRequest(trustDomain string, s *mesh.Service) Request {
	names := []string{s.Name.String()}
	for _, a := range s.Aliases {
		names = append(names, a.DNSName)
	}
	slices.Sort(names)
	return Request{
		Service: s.Name,
		Names:   slices.Compact(names),
		URI:     "spiffe://" + trustDomain + "/service/" + s.Name.Namespace + "/" + s.Name.DiscoveryName,
	}
}

// ForWorkload asks for a certificate to call with: the SPIFFE ID of w and no
// DNS name, so that nobody can pass for a service with it.
func ForWorkload(trustDomain string, w mesh.Workload) Request {
	return Request{Service: w.CertificateName(), URI: w.SPIFFEID(trustDomain)}
}

// Subject is what a certificate may have as its common name.
func (r Request) Subject() string {
	if w, ok := r.Service.OfWorkload(); ok {
		return w.Name
	}
	return r.Service.DiscoveryName
}

// SANs are all subject alternative names of r.
func (r Request) SANs() []string { return append(slices.Clone(r.Names), r.URI) }

// Accept makes a leaf of an issuer's answer (the leaf first), or says all that
// is in it and was not asked for. key belongs to the request, life is the
// lifetime that was asked for at the time issued. Self-signed roots in the
// chain are left out: whoever verifies has its own.
func Accept(r Request, chain []*x509.Certificate, key *ecdsa.PrivateKey, life time.Duration, roots []*x509.Certificate, issued time.Time) (*mesh.Leaf, error) {
	chain = withoutRoots(slices.Clone(chain))
	if len(chain) == 0 {
		return nil, errors.New("the issuer answered without a certificate")
	}
	if err := verify(chain, r, key.Public(), life, roots, time.Now()); err != nil {
		return nil, fmt.Errorf("the issuer answered with a certificate that was not asked for: %w", err)
	}
	return newLeaf(r.Service, chain, key, issued)
}

// Prepare is r's own prepared key, or a new one: P-256, and a request that
// carries SANs only.
func (r Request) Prepare() (*Prepared, error) {
	if r.Prepared != nil {
		return r.Prepared, nil
	}
	uri, err := url.Parse(r.URI)
	if err != nil {
		return nil, fmt.Errorf("SPIFFE ID of %s: %w", r.Service, err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("key of %s: %w", r.Service, err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: r.Names, URIs: []*url.URL{uri}}, key)
	if err != nil {
		return nil, fmt.Errorf("certificate request of %s: %w", r.Service, err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("certificate request of %s: %w", r.Service, err)
	}
	return &Prepared{key, csr}, nil
}

// newLeaf puts a verified chain and its key together.
func newLeaf(service mesh.ServiceName, chain []*x509.Certificate, key crypto.PrivateKey, issued time.Time) (*mesh.Leaf, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("key of %s: %w", service, err)
	}
	return &mesh.Leaf{
		Service:   service,
		ChainPEM:  EncodeCertificates(chain),
		KeyPEM:    pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		Serial:    chain[0].SerialNumber.Text(16),
		IssuedAt:  issued,
		NotBefore: chain[0].NotBefore,
		NotAfter:  chain[0].NotAfter,
	}, nil
}

// EncodeCertificates is certs as PEM, in their order.
func EncodeCertificates(certs []*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// ParseCertificates reads all certificates of a PEM text; at least one.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("a PEM block of type %q; allowed: CERTIFICATE", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(out)+1, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no PEM certificate in %d bytes", len(text))
	}
	return out, nil
}
