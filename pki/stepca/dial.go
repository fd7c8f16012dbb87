package stepca

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/smallstep/certificates/ca"
)

func init() {
	// smallstep's client would otherwise show the client certificate that it
	// finds in the home directory of whoever runs us.
	ca.DisableIdentity = true
}

// dial pins the authority's root by its fingerprint and unlocks the
// provisioner's key.
func (s *CA) dial(ctx context.Context) (*connection, error) {
	ctx, stop := context.WithTimeout(ctx, s.o.Timeout)
	defer stop()
	sum, password, err := s.credentials()
	if err != nil {
		return nil, err
	}
	root, err := s.pinnedRoot(ctx, sum)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	transport := newTransport(&tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool})
	type result struct {
		p   *ca.Provisioner
		err error
	}
	done := make(chan result, 1)
	go func() { // the library takes no context here; its calls end by their own timeout
		p, err := ca.NewProvisioner(s.o.Provisioner, "", s.o.URL, password, ca.WithTransport(transport), ca.WithTimeout(s.o.Timeout))
		done <- result{p, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, fmt.Errorf("key of provisioner %q: %w", s.o.Provisioner, r.err)
		}
		resp, err := r.p.RootsWithContext(ctx)
		if err != nil {
			return nil, err
		}
		roots, err := listed(resp)
		if err != nil {
			return nil, err
		}
		return &connection{r.p, roots}, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("key of provisioner %q: %w", s.o.Provisioner, ctx.Err())
	}
}

// pinnedRoot fetches the root that has the fingerprint sum; what answers need
// not be trusted for that.
func (s *CA) pinnedRoot(ctx context.Context, sum string) (*x509.Certificate, error) {
	client, err := ca.NewClient(s.o.URL, ca.WithTransport(newTransport(nil)))
	if err != nil {
		return nil, err
	}
	resp, err := client.RootWithContext(ctx, sum)
	if err != nil {
		return nil, fmt.Errorf("root with fingerprint %s: %w", sum, err)
	}
	return resp.RootPEM.Certificate, nil
}

func (s *CA) credentials() (sum string, password []byte, err error) {
	sum, password = s.o.Fingerprint, s.o.Password
	if s.o.FingerprintFile != "" {
		b, err := os.ReadFile(s.o.FingerprintFile)
		if err != nil {
			return "", nil, fmt.Errorf("fingerprint: %w", err)
		}
		sum = string(b)
	}
	if sum, err = fingerprint(sum); err != nil {
		return "", nil, err
	}
	if s.o.PasswordFile != "" {
		b, err := os.ReadFile(s.o.PasswordFile)
		if err != nil {
			return "", nil, fmt.Errorf("password of the provisioner: %w", err)
		}
		password = []byte(strings.TrimRight(string(b), "\r\n"))
	}
	return sum, password, nil
}

func newTransport(c *tls.Config) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = c
	return t
}
