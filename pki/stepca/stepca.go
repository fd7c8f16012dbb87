// Package stepca issues certificates of services from a smallstep authority,
// through smallstep's own client.
//
// It owns how to reach and to convince a step-ca. It must not know when a
// certificate is due nor where it goes: that is package pki.
//
// Start reading at [CA.Issue].
package stepca

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/smallstep/certificates/api"
	"github.com/smallstep/certificates/ca"

	"patchbay/mesh"
	"patchbay/pki/issue"
)

// DefaultLifetime is the life of a leaf from step-ca: its own default,
// and its maximum unless the authority's claims say otherwise.
const DefaultLifetime = 24 * time.Hour

// backdate is how long before its issue a certificate begins to be valid, so
// that clocks may be so far apart: an authority's own default is a minute. It is
// a part of the life that is asked for, so that the longest one that an authority
// gives stays the same; certificates of less than backdateFrom have what the
// authority adds by itself.
const (
	backdate     = 5 * time.Minute
	backdateFrom = time.Hour
)

// Options say where a step-ca is and how to prove to it who asks. Files
// are read at each connect, so they may appear, and change, later.
type Options struct {
	URL             string        // https; its host must be one of the authority's dnsNames, or it refuses our tokens
	Fingerprint     string        // SHA-256 of its root in hex; pins what answers at URL
	FingerprintFile string        // the same in a file; one of both
	Provisioner     string        // name of its JWK provisioner
	Password        []byte        // that decrypts the provisioner's key
	PasswordFile    string        // the same in a file; one of both
	Lifetime        time.Duration // of a leaf; 0: DefaultLifetime
	Timeout         time.Duration // of one call; 0: 10 s
}

// problems lists all that is wrong with o.
func (o Options) problems() error {
	var all []error
	if u, err := url.Parse(o.URL); err != nil || u.Scheme != "https" || u.Host == "" {
		all = append(all, fmt.Errorf("url: %q; allowed: https://HOST:PORT, where HOST is one of the authority's dnsNames", o.URL))
	}
	if (o.Fingerprint == "") == (o.FingerprintFile == "") {
		all = append(all, errors.New("fingerprint, fingerprintFile: give one of them"))
	}
	if o.Fingerprint != "" {
		if _, err := fingerprint(o.Fingerprint); err != nil {
			all = append(all, err)
		}
	}
	if o.Provisioner == "" {
		all = append(all, errors.New("provisioner: missing; allowed: the name of a JWK provisioner of the authority"))
	}
	if (len(o.Password) == 0) == (o.PasswordFile == "") {
		all = append(all, errors.New("passwordFile: missing; allowed: a file with the provisioner's password"))
	}
	if o.Lifetime != 0 && (o.Lifetime < time.Minute || o.Lifetime > 90*24*time.Hour) {
		all = append(all, fmt.Errorf("lifetime: %s; allowed: 1m to 2160h, within the authority's claims", o.Lifetime))
	}
	return errors.Join(all...)
}

func fingerprint(text string) (string, error) {
	s := strings.ToLower(strings.TrimSpace(text))
	if b, err := hex.DecodeString(s); err != nil || len(b) != 32 {
		return "", fmt.Errorf("fingerprint: %q; allowed: 64 hex digits (SHA-256 of the root certificate)", s)
	}
	return s, nil
}

// CA issues from a smallstep authority through smallstep's own client.
// It is safe for concurrent use.
type CA struct {
	o    Options
	lock chan struct{} // held while connecting; its token guards conn
	conn *connection
}

// connection is what one connect yields. Decrypting the provisioner's key takes
// 600,000 rounds of PBKDF2, so it is kept.
type connection struct {
	*ca.Provisioner
	roots []*x509.Certificate
}

// New checks o, all problems at once, and touches nothing outside.
func New(o Options) (*CA, error) {
	if err := o.problems(); err != nil {
		return nil, fmt.Errorf("step-ca: %w", err)
	}
	o.Lifetime = cmp.Or(o.Lifetime, DefaultLifetime)
	o.Timeout = cmp.Or(o.Timeout, 10*time.Second)
	s := &CA{o: o, lock: make(chan struct{}, 1)}
	s.lock <- struct{}{}
	return s, nil
}

// Issue implements [issue.Issuer].
func (s *CA) Issue(ctx context.Context, r issue.Request) (*mesh.Leaf, error) {
	leaf, err := s.issue(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("certificate of %s from step-ca %s: %w", r.Service, s.o.URL, err)
	}
	return leaf, nil
}

func (s *CA) issue(ctx context.Context, r issue.Request) (*mesh.Leaf, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	p, err := r.Prepare()
	if err != nil {
		return nil, err
	}
	token, err := conn.Token(r.Subject(), r.SANs()...)
	if err != nil {
		return nil, fmt.Errorf("one-time token: %w", err)
	}
	life := cmp.Or(r.Lifetime, s.o.Lifetime)
	req := &api.SignRequest{CsrPEM: api.CertificateRequest{CertificateRequest: p.CSR}, OTT: token}
	req.NotAfter.SetDuration(life)
	if life >= backdateFrom {
		req.NotBefore.SetDuration(-backdate) // by the authority's clock; the life counts from there
		life -= backdate
	}
	issued := time.Now()
	resp, err := conn.SignWithContext(ctx, req)
	if err != nil {
		s.forget(conn, err)
		return nil, fmt.Errorf("sign: %w", err)
	}
	chain := certificates(resp.CertChainPEM)
	leaf, err := issue.Accept(r, chain, p.Key, life, conn.roots, issued)
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); unknown {
		// The authority may have changed its root since we connected.
		roots, err := s.roots(ctx, conn)
		if err != nil {
			return nil, err
		}
		return issue.Accept(r, chain, p.Key, life, roots, issued)
	}
	return leaf, err
}

// Roots implements [issue.Issuer].
func (s *CA) Roots(ctx context.Context) ([]byte, error) {
	conn, err := s.connect(ctx)
	if err == nil {
		var roots []*x509.Certificate
		if roots, err = s.roots(ctx, conn); err == nil {
			return issue.EncodeCertificates(roots), nil
		}
	}
	return nil, fmt.Errorf("roots of step-ca %s: %w", s.o.URL, err)
}

func (s *CA) roots(ctx context.Context, conn *connection) ([]*x509.Certificate, error) {
	resp, err := conn.RootsWithContext(ctx)
	if err != nil {
		s.forget(conn, err)
		return nil, err
	}
	return listed(resp)
}

func listed(resp *api.RootsResponse) ([]*x509.Certificate, error) {
	out := certificates(resp.Certificates)
	if len(out) == 0 {
		return nil, errors.New("it lists no root")
	}
	return out, nil
}

// certificates leaves out what the library could decode to nothing.
func certificates(in []api.Certificate) []*x509.Certificate {
	out := make([]*x509.Certificate, 0, len(in))
	for _, c := range in {
		if c.Certificate != nil {
			out = append(out, c.Certificate)
		}
	}
	return out
}

// forget drops a connection that can't recover by itself: the authority has
// another root, or does not know our provisioner's key any more.
func (s *CA) forget(conn *connection, err error) {
	coded, refused := errors.AsType[interface {
		error
		StatusCode() int
	}](err)
	_, stranger := errors.AsType[*tls.CertificateVerificationError](err)
	if !stranger && !(refused && coded.StatusCode() == http.StatusUnauthorized) {
		return
	}
	<-s.lock
	if s.conn == conn {
		s.conn = nil
	}
	s.lock <- struct{}{}
}

// connect returns the connection, made if there is none. Of several callers
// one connects and the others wait for it.
func (s *CA) connect(ctx context.Context) (*connection, error) {
	select {
	case <-s.lock:
	case <-ctx.Done():
		return nil, fmt.Errorf("connect: %w", ctx.Err())
	}
	defer func() { s.lock <- struct{}{} }()
	if s.conn != nil {
		return s.conn, nil
	}
	conn, err := s.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	s.conn = conn
	return conn, nil
}
