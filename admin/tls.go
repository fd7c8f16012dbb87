package admin

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"
)

// Files are the PEM files of an interface that is served with TLS.
type Files struct {
	Cert, Key string // of the server; read again when they change
	// ClientCA has the CAs whose certificates callers may show instead of the
	// token; empty: the token is the only way.
	ClientCA string
}

// TLS is what serves the interface with TLS 1.3. A caller's certificate is
// verified if it shows one, and is as good as the token: see [Options].
func TLS(f Files) (*tls.Config, error) {
	c := &served{files: f}
	if _, err := c.certificate(nil); err != nil {
		return nil, fmt.Errorf("admin.tls: %w", err)
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: c.certificate, NextProtos: []string{"h2", "http/1.1"}}
	if f.ClientCA == "" {
		return cfg, nil
	}
	text, err := os.ReadFile(f.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("admin.tls.clientCAFile: %w", err)
	}
	cfg.ClientCAs, cfg.ClientAuth = x509.NewCertPool(), tls.VerifyClientCertIfGiven
	if !cfg.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("admin.tls.clientCAFile: %s holds no certificate; allowed: certificates of CAs, in PEM", f.ClientCA)
	}
	return cfg, nil
}

// served is the newest pair of the files that could be read: a renewal that is
// half written leaves the one before in use.
type served struct {
	files Files

	mu   sync.Mutex
	now  *tls.Certificate
	from [2]time.Time // when the files were changed that it is from
}

func (s *served) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var from [2]time.Time
	for i, file := range []string{s.files.Cert, s.files.Key} {
		if info, err := os.Stat(file); err == nil {
			from[i] = info.ModTime()
		}
	}
	if s.now != nil && from == s.from {
		return s.now, nil
	}
	pair, err := tls.LoadX509KeyPair(s.files.Cert, s.files.Key)
	if err != nil && s.now == nil {
		return nil, err
	}
	if err == nil {
		s.now, s.from = &pair, from
	}
	return s.now, nil
}
