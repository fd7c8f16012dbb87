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
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"patchbay/mesh"
)

// Lives of the control channel's certificates. Backdate covers clocks that
// differ a little, as smallstep's default does.
const (
	NodeLife   = 24 * time.Hour
	serverLife = 24 * time.Hour
	caLife     = 10 * 365 * 24 * time.Hour
	backdate   = time.Minute
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
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("control channel's CA: %w", err)
	}
	unlock, err := lock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("control channel's CA: %w", err)
	}
	defer unlock()
	certFile, keyFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key")
	if _, err := os.Stat(certFile); errors.Is(err, os.ErrNotExist) {
		if err := createCA(certFile, keyFile, trustDomain); err != nil {
			return nil, fmt.Errorf("make the control channel's CA: %w", err)
		}
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("control channel's CA in %s: %w", dir, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("control channel's CA in %s: not a P-256 CA", dir)
	}
	if got := pair.Leaf.Subject.CommonName; got != caName(trustDomain) {
		return nil, fmt.Errorf("control channel's CA in %s is that of %q, the trust domain is %q: use another data directory, or set trustDomain back", dir, got, trustDomain)
	}
	return &Signer{trustDomain: trustDomain, ca: pair.Leaf, key: key}, nil
}

func caName(trustDomain string) string { return "patchbay control channel of " + trustDomain }

// createCA writes the key first: a certificate without its key would look
// complete.
func createCA(certFile, keyFile, trustDomain string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: caName(trustDomain)},
		NotBefore:             time.Now().Add(-backdate),
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
	if err := writeFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600); err != nil {
		return err
	}
	return writeFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
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
// the CSR is used: the names are those that the caller has authorised.
func (s *Signer) SignNode(n mesh.Node, csrDER []byte) (*x509.Certificate, error) {
	if err := ValidNode(n); err != nil {
		return nil, err
	}
	pub, err := csrKey(csrDER)
	if err != nil {
		return nil, err
	}
	return s.leaf(pub, &x509.Certificate{
		URIs:        []*url.URL{NodeURI(s.trustDomain, n)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		NotAfter:    time.Now().Add(NodeLife),
	})
}

func (s *Signer) leaf(pub crypto.PublicKey, template *x509.Certificate) (*x509.Certificate, error) {
	template.NotBefore = time.Now().Add(-backdate)
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

// csrKey checks a CSR's own signature and returns its key.
func csrKey(der []byte) (*ecdsa.PublicKey, error) {
	if len(der) > maxCSR {
		return nil, fmt.Errorf("the CSR has %d bytes; allowed: %d", len(der), maxCSR)
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
		DNSNames:    []string{ControlName(s.trustDomain)},
		URIs:        []*url.URL{{Scheme: "spiffe", Host: s.trustDomain, Path: "/control"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotAfter:    time.Now().Add(serverLife),
	})
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}, nil
}

// writeFile replaces a file as a whole, or not at all, also across a crash.
func writeFile(path string, content []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// lock holds an advisory lock on a file until the returned function is called.
func lock(path string) (func(), error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
}
