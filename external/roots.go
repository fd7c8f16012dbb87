package external

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
)

// systemFiles are where distributions keep what they trust.
var systemFiles = []string{
	"/etc/ssl/certs/ca-certificates.crt",                // Debian, Alpine
	"/etc/pki/tls/certs/ca-bundle.crt",                  // Fedora, Amazon Linux
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // newer ones
	"/etc/ssl/cert.pem",                                 // BSD, macOS
}

// Roots reads a CA bundle: file, or, if that is empty, what this machine
// trusts ($SSL_CERT_FILE first). Sidecars are sent it; theirs are not asked.
func Roots(file string, getenv func(string) string) ([]byte, error) {
	files := []string{file}
	if file == "" {
		files = append([]string{getenv("SSL_CERT_FILE")}, systemFiles...)
	}
	for _, f := range files {
		if f == "" {
			continue
		}
		text, err := os.ReadFile(f)
		switch {
		case errors.Is(err, os.ErrNotExist) && file == "":
			continue
		case err != nil:
			return nil, err
		case !x509.NewCertPool().AppendCertsFromPEM(text):
			return nil, fmt.Errorf("%s holds no certificate in PEM", f)
		}
		return text, nil
	}
	return nil, fmt.Errorf("this machine has no bundle of roots (looked for %s); name one in tls.caFile", strings.Join(systemFiles, ", "))
}
