package bench

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net"
	"time"

	"go.step.sm/crypto/minica"
)

// CA signs certificates for one run. Leaf and CA keys are P-256.
type CA struct {
	RootPEM []byte
	ca      *minica.CA
}

// NewCA makes a CA that nobody else has.
func NewCA() (*CA, error) {
	ca, err := minica.New()
	if err != nil {
		return nil, err
	}
	return &CA{block("CERTIFICATE", ca.Root.Raw), ca}, nil
}

// Issue signs a leaf for 127.0.0.1 and DNS names, in PEM, good for servers and
// clients.
func (c *CA) Issue(names ...string) (chain, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	leaf, err := c.ca.Sign(&x509.Certificate{
		DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, PublicKey: k.Public(),
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, nil, err
	}
	return append(block("CERTIFICATE", leaf.Raw), block("CERTIFICATE", c.ca.Intermediate.Raw)...), block("PRIVATE KEY", pkcs8), nil
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
