package push

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"go.step.sm/crypto/minica"
)

// serverName is the name in the certificate that both ends of the control
// channel show: they are one CA's, for one run.
const serverName = "control.bench"

type certs struct {
	pair  tls.Certificate
	roots *x509.CertPool
}

// writeCerts makes a CA and one P-256 certificate for servers and clients.
func writeCerts(dir string) error {
	ca, err := minica.New()
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	leaf, err := ca.Sign(&x509.Certificate{
		DNSNames: []string{serverName}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, PublicKey: crypto.PublicKey(key.Public()),
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	for name, b := range map[string][]byte{
		"cert.pem": append(block("CERTIFICATE", leaf.Raw), block("CERTIFICATE", ca.Intermediate.Raw)...),
		"key.pem":  block("PRIVATE KEY", pkcs8),
		"ca.pem":   block("CERTIFICATE", ca.Root.Raw),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func readCerts(dir string) (certs, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return certs{}, err
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return certs{}, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return certs{}, fmt.Errorf("%s holds no certificate", dir)
	}
	return certs{pair, roots}, nil
}
