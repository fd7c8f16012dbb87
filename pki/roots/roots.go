// Package roots says which roots of trust to keep: those that an issuer lists,
// and those that it listed before until nothing needs them any more.
//
// It owns that rule. It must not know where they are published or stored.
// Start reading at [Merge].
package roots

import (
	"bytes"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"patchbay/mesh"
	"patchbay/pki/issue"
)

// keepMissing is how long a root stays trusted, at least, after its issuer no
// longer lists it. It stays longer when a leaf from before expires later.
const keepMissing = 24 * time.Hour

// Root is one that the mesh trusts for an issuer.
type Root struct {
	Cert    *x509.Certificate
	Since   time.Time // first published; zero: with the first bundle
	Missing time.Time // when the issuer ceased to list it; zero: it does
	Until   time.Time // when a missing one is dropped
}

// Equal reports whether a and b are one root in one state.
func (a Root) Equal(b Root) bool {
	return a.Cert.Equal(b.Cert) && a.Since.Equal(b.Since) && a.Missing.Equal(b.Missing) && a.Until.Equal(b.Until)
}

// Usable reads an issuer's answer: CA certificates that have not expired.
func Usable(text []byte, now time.Time) ([]*x509.Certificate, error) {
	certs, err := issue.ParseCertificates(text)
	if err != nil {
		return nil, err
	}
	certs = slices.DeleteFunc(certs, func(c *x509.Certificate) bool { return !c.IsCA || now.After(c.NotAfter) })
	if len(certs) == 0 {
		return nil, errors.New("none of its roots is a CA certificate that is still valid")
	}
	return certs, nil
}

// Merge is what to trust after an issuer listed its roots: those, and the
// ones before them until every leaf has expired that may stem from them, also
// those that other replicas serve. leaves are the issuer's, as far as known.
func Merge(old []Root, listed []*x509.Certificate, leaves []*mesh.Leaf, now time.Time) []Root {
	var out []Root
	find := func(in []Root, c *x509.Certificate) int {
		return slices.IndexFunc(in, func(v Root) bool { return v.Cert.Equal(c) })
	}
	for _, c := range listed {
		if find(out, c) >= 0 {
			continue
		}
		v := Root{Cert: c}
		if i := find(old, c); i >= 0 {
			v.Since = old[i].Since
		} else if len(old) > 0 {
			v.Since = now
		}
		out = append(out, v)
	}
	for _, v := range old {
		if find(out, v.Cert) >= 0 {
			continue
		}
		if v.Missing.IsZero() {
			v.Missing, v.Until = now, now.Add(keepMissing)
		}
		for _, l := range leaves {
			if !l.IssuedAt.After(v.Missing) && l.NotAfter.After(v.Until) {
				v.Until = l.NotAfter
			}
		}
		if now.Before(v.Until) {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b Root) int { return bytes.Compare(a.Cert.Raw, b.Cert.Raw) })
	return out
}

// Certificates are those of roots, in their order.
func Certificates(roots []Root) []*x509.Certificate {
	out := make([]*x509.Certificate, len(roots))
	for i, v := range roots {
		out[i] = v.Cert
	}
	return out
}
