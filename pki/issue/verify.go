package issue

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// maxBackdate is how far before its issue a certificate may begin to be
// valid: AWS Private CA takes 60 minutes, step-ca one.
const maxBackdate = 61 * time.Minute

// verify refuses a chain (leaf first) that is not what was asked for, with
// all reasons at once. life is the lifetime asked for; the issuer's clock may
// differ from ours by 5 minutes, and by half of the lifetime at most.
func verify(chain []*x509.Certificate, r Request, key crypto.PublicKey, life time.Duration, roots []*x509.Certificate, now time.Time) error {
	leaf := chain[0]
	var all []error
	wrong := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	if pub, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || !pub.Equal(key) {
		wrong("it is for another key")
	}
	names := slices.Sorted(slices.Values(leaf.DNSNames))
	if !slices.Equal(names, r.Names) {
		wrong("DNS names are %q, asked for %q", names, r.Names)
	}
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != r.URI {
		wrong("URIs are %q, asked for %q", leaf.URIs, r.URI)
	}
	if len(leaf.IPAddresses) > 0 || len(leaf.EmailAddresses) > 0 {
		wrong("it names IP addresses %v and e-mail addresses %q that nobody asked for", leaf.IPAddresses, leaf.EmailAddresses)
	}
	// A step-ca with its default template makes the token's subject the CN.
	if cn := leaf.Subject.CommonName; cn != "" && cn != r.Subject() {
		wrong("its common name is %q, asked for none", cn)
	}
	if leaf.IsCA || leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		wrong("it may sign certificates")
	}
	if leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		wrong("its key usage lacks digitalSignature")
	}
	use, word := x509.ExtKeyUsageServerAuth, "serverAuth"
	if _, calls := r.Service.OfWorkload(); calls {
		use, word = x509.ExtKeyUsageClientAuth, "clientAuth"
	}
	if !slices.Contains(leaf.ExtKeyUsage, use) {
		wrong("its extended key usage lacks %s: does the issuer's template give it?", word)
	}
	skew := min(5*time.Minute, life/2)
	if end := now.Add(life); leaf.NotAfter.Before(end.Add(-skew)) || leaf.NotAfter.After(end.Add(skew)) {
		wrong("it ends at %s, asked for %s from now (%s)", leaf.NotAfter, life, end)
	}
	if leaf.NotBefore.After(now) || leaf.NotBefore.Before(now.Add(-maxBackdate-skew)) {
		wrong("it begins at %s and it is %s: do the clocks differ?", leaf.NotBefore, now)
	}
	if _, err := Anchors(chain, roots, now); err != nil {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// Anchors finds the roots to which a leaf's chain leads; at least one, or an
// error.
func Anchors(chain, roots []*x509.Certificate, now time.Time) ([]*x509.Certificate, error) {
	opts := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, // verify has looked
	}
	for _, c := range roots {
		opts.Roots.AddCert(c)
	}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	found, err := chain[0].Verify(opts)
	if err != nil {
		return nil, fmt.Errorf("its chain: %w", err)
	}
	out := make([]*x509.Certificate, 0, len(found))
	for _, path := range found {
		out = append(out, path[len(path)-1])
	}
	return out, nil
}

// withoutRoots drops self-signed certificates: who verifies has its own.
func withoutRoots(chain []*x509.Certificate) []*x509.Certificate {
	return slices.DeleteFunc(chain, func(c *x509.Certificate) bool {
		return bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignatureFrom(c) == nil
	})
}
