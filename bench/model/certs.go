package model

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"

	"patchbay/bench"
)

// serverName is the name in the certificate that both ends of the control
// channel show: they are one CA's, for one run.
const serverName = "control.bench"

type certs struct {
	pair  tls.Certificate
	roots *x509.CertPool
}

// WriteCerts makes a CA and one P-256 certificate for servers and clients.
func WriteCerts(dir string) error {
	ca, err := bench.NewCA()
	if err != nil {
		return err
	}
	chain, key, err := ca.Issue(serverName)
	if err != nil {
		return err
	}
	for name, b := range map[string][]byte{"cert.pem": chain, "key.pem": key, "ca.pem": ca.RootPEM} {
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

// ServerTLS is mutual TLS with the files of [WriteCerts].
func ServerTLS(dir string) (*tls.Config, error) {
	c, err := readCerts(dir)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{c.pair}, ClientCAs: c.roots, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13}, nil
}
