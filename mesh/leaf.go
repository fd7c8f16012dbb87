package mesh

import (
	"bytes"
	"crypto/x509"
	"log/slog"
	"time"
)

// Leaf is the certificate and private key of a service, or of a workload that
// calls: then Service is [Workload.CertificateName]. It prints and logs without
// its key; only code that encodes an SDS secret may read KeyPEM.
type Leaf struct {
	Service   ServiceName
	Issuer    string // name of the issuer, see [ServiceTLS]
	ChainPEM  []byte // leaf first, then intermediates; never a self-signed root
	KeyPEM    []byte // PKCS #8
	Serial    string // lower-case hex, as openssl prints it but without leading zeros
	IssuedAt  time.Time
	NotBefore time.Time
	NotAfter  time.Time
}

// String names the leaf without its key.
func (l *Leaf) String() string {
	if l == nil {
		return "leaf(none)"
	}
	return "leaf(" + l.Service.String() + " serial " + l.Serial + " until " + l.NotAfter.UTC().Format(time.RFC3339) + ")"
}

// GoString is String: %#v must not print the key either.
func (l *Leaf) GoString() string { return l.String() }

// LogValue is the leaf without its key.
func (l *Leaf) LogValue() slog.Value { return slog.StringValue(l.String()) }

// MarshalJSON is the leaf without its key.
func (l *Leaf) MarshalJSON() ([]byte, error) { return []byte(`"` + l.String() + `"`), nil }

// Equal reports whether both carry the same chain and key.
func (l *Leaf) Equal(o *Leaf) bool {
	if l == nil || o == nil {
		return l == o
	}
	return l.Service == o.Service && bytes.Equal(l.ChainPEM, o.ChainPEM) && bytes.Equal(l.KeyPEM, o.KeyPEM)
}

// Bundle is what callers trust for services of one issuer.
type Bundle struct {
	Issuer   string
	RootsPEM []byte // PEM certificates, sorted by DER, no duplicates
}

// Equal reports whether both trust the same roots under the same name.
func (b *Bundle) Equal(o *Bundle) bool {
	if b == nil || o == nil {
		return b == o
	}
	return b.Issuer == o.Issuer && bytes.Equal(b.RootsPEM, o.RootsPEM)
}

// Pool is the bundle as crypto/x509 wants it.
func (b *Bundle) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(b.RootsPEM)
	return p
}
