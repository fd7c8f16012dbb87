package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"patchbay/identity/durable"
	"patchbay/identity/join"
	"patchbay/mesh"
)

// skew is how far the clock of a task may be off: proofs are judged with it,
// and the control channel's certificates begin that much earlier.
const skew = 5 * time.Minute

// Lives of the control channel's certificates.
const (
	NodeLife   = 24 * time.Hour
	serverLife = 24 * time.Hour
	caLife     = 10 * 365 * 24 * time.Hour
)

// Signer is the certificate authority of the control channel, and of nothing
// else. It is safe for concurrent use.
type Signer struct {
	trustDomain string
	ca          *x509.Certificate
	key         *ecdsa.PrivateKey
}

// OpenSigner loads the signer from dir, or makes it there: ca.pem and ca.key
// (0600). Several processes may call it at once; one of them makes it.
func OpenSigner(dir, trustDomain string) (*Signer, error) {
	s, _, err := openSigner(dir, trustDomain)
	return s, err
}

// openSigner reports besides whether it made the CA.
func openSigner(dir, trustDomain string) (s *Signer, made bool, err error) {
	if err := join.ValidTrustDomain(trustDomain); err != nil {
		return nil, false, fmt.Errorf("trust domain: %w", err)
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(dir), 0o700), durable.MakeDir(dir)); err != nil {
		return nil, false, fmt.Errorf("control channel's CA: %w", err)
	}
	unlock, err := durable.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, false, fmt.Errorf("control channel's CA: %w", err)
	}
	defer unlock()
	certFile, keyFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key")
	if _, err := os.Stat(certFile); errors.Is(err, os.ErrNotExist) {
		if err := createCA(certFile, keyFile, trustDomain); err != nil {
			return nil, false, fmt.Errorf("make the control channel's CA: %w", err)
		}
		made = true
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, false, fmt.Errorf("control channel's CA in %s: %w", dir, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() || !pair.Leaf.IsCA || len(pair.Leaf.URIs) != 1 {
		return nil, false, fmt.Errorf("control channel's CA in %s: allowed: a P-256 CA with the SPIFFE ID of its trust domain", dir)
	}
	if of := pair.Leaf.URIs[0].Host; of != trustDomain {
		return nil, false, fmt.Errorf("control channel's CA in %s is that of trust domain %q, not of %q: set the trust domain back, or use another data directory", dir, of, trustDomain)
	}
	if !time.Now().Before(pair.Leaf.NotAfter) {
		return nil, false, fmt.Errorf("control channel's CA in %s has expired at %s: remove the directory and make all join directories again", dir, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return &Signer{trustDomain: trustDomain, ca: pair.Leaf, key: key}, made, nil
}

// trustDomainOf is that of the CA in dir, or the default if there is none.
func trustDomainOf(dir string) (string, error) {
	file := filepath.Join(dir, "ca.pem")
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return DefaultTrustDomain, nil
	}
	if err != nil {
		return "", fmt.Errorf("control channel's CA: %w", err)
	}
	if block, _ := pem.Decode(text); block != nil {
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil && len(cert.URIs) == 1 {
			return cert.URIs[0].Host, nil
		}
	}
	return "", fmt.Errorf("control channel's CA: %s: allowed: a CA with the SPIFFE ID of its trust domain", file)
}

// TrustDomain is that of every name that the signer signs.
func (s *Signer) TrustDomain() string { return s.trustDomain }

// createCA writes the key first: a certificate without its key would look
// complete.
func createCA(certFile, keyFile, trustDomain string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "patchbay control channel of " + trustDomain},
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: trustDomain}},
		NotBefore:             time.Now().Add(-skew),
		NotAfter:              time.Now().Add(caLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := sign(template, template, key.Public(), key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600); err != nil {
		return err
	}
	return durable.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

func sign(template, parent *x509.Certificate, pub crypto.PublicKey, key *ecdsa.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	return x509.CreateCertificate(rand.Reader, template, parent, pub, key)
}

// CA is what clients of the control channel trust, PEM.
func (s *Signer) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.ca.Raw})
}

// Pool is CA for crypto/tls.
func (s *Signer) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(s.ca)
	return p
}

// SignNode issues a node certificate for the key of a CSR. Nothing else of
// the CSR is used: the names are those that the caller has authorised. KeyID
// is the join key that the node came with: the certificate is good for as long
// as that key is registered.
func (s *Signer) SignNode(n mesh.Node, keyID string, csrDER []byte) (*x509.Certificate, error) {
	if err := validNode(n); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	pub, err := csrKey(csrDER)
	if err != nil {
		return nil, err
	}
	return s.leaf(pub, &x509.Certificate{
		Subject:     pkix.Name{OrganizationalUnit: []string{join.KeyUnit(keyID)}},
		URIs:        []*url.URL{nodeURI(s.trustDomain, n)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		NotAfter:    time.Now().Add(NodeLife),
	})
}

func (s *Signer) leaf(pub crypto.PublicKey, template *x509.Certificate) (*x509.Certificate, error) {
	template.NotBefore = time.Now().Add(-skew)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.BasicConstraintsValid = true
	if template.NotAfter.After(s.ca.NotAfter) {
		template.NotAfter = s.ca.NotAfter
	}
	der, err := sign(template, s.ca, pub, s.key)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return x509.ParseCertificate(der)
}

// maxCSR is far above a P-256 CSR (about 250 bytes).
const maxCSR = 8 << 10

// csrKey checks a CSR's own signature and returns its key: all that is ever
// used of a CSR.
func csrKey(der []byte) (*ecdsa.PublicKey, error) {
	if len(der) == 0 || len(der) > maxCSR {
		return nil, fmt.Errorf("the CSR has %d bytes; allowed: 1 to %d", len(der), maxCSR)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("the CSR is malformed: %w", err)
	}
	pub, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, errors.New("the CSR's key is not P-256, the only kind allowed")
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the CSR is not signed by its own key: %w", err)
	}
	return pub, nil
}

// server issues a certificate of the control plane itself.
func (s *Signer) server() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	cert, err := s.leaf(key.Public(), &x509.Certificate{
		DNSNames:    []string{join.ServerName(s.trustDomain)},
		URIs:        []*url.URL{{Scheme: "spiffe", Host: s.trustDomain, Path: "/control"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotAfter:    time.Now().Add(serverLife),
	})
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}, nil
}

// ControlDir holds the control channel's CA and its record of used proofs.
func ControlDir(data string) string { return filepath.Join(data, "control") }
