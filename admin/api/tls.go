package api

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
)

// Files are PEM files for a control plane at https://.
type Files struct {
	CA        string // verifies it; empty: the system's roots
	Cert, Key string // shown to it instead of a token; empty: none
}

// Use has the client use f. Call it before the first question.
func (c *Client) Use(f Files) error {
	if f == (Files{}) {
		return nil
	}
	if (f.Cert == "") != (f.Key == "") {
		return errors.New("a client certificate and its key go together; allowed: both or none")
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS13}
	if f.CA != "" {
		text, err := os.ReadFile(f.CA)
		if err != nil {
			return fmt.Errorf("CA of the control plane: %w", err)
		}
		if cfg.RootCAs = x509.NewCertPool(); !cfg.RootCAs.AppendCertsFromPEM(text) {
			return fmt.Errorf("CA of the control plane: %s holds no certificate", f.CA)
		}
	}
	if f.Cert != "" {
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return fmt.Errorf("client certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	c.http.Transport.(*http.Transport).TLSClientConfig = cfg //nolint:forcetypeassert // New made it
	return nil
}
