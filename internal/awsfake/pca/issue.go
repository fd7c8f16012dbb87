package pca

import (
	"bytes"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // the key identifier's form, RFC 5280 4.2.1.2
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"time"

	"patchbay/internal/awsfake/wire"
)

const templatePrefix = "arn:aws:acm-pca:::template/"

// template is what a certificate gets that does not come from the CSR.
type template struct {
	ca      bool
	pathLen int // -1: none
	self    bool
	usage   x509.KeyUsage
	eku     []x509.ExtKeyUsage
}

const leafUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment

const caUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign

// templates are those that the stand-in knows, by name.
var templates = map[string]template{
	"EndEntityCertificate/V1":              {usage: leafUsage, eku: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}},
	"EndEntityServerAuthCertificate/V1":    {usage: leafUsage, eku: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}},
	"EndEntityClientAuthCertificate/V1":    {usage: leafUsage, eku: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
	"RootCACertificate/V1":                 {ca: true, pathLen: -1, self: true, usage: caUsage},
	"SubordinateCACertificate_PathLen0/V1": {ca: true, pathLen: 0, usage: caUsage},
	"SubordinateCACertificate_PathLen1/V1": {ca: true, pathLen: 1, usage: caUsage},
	"SubordinateCACertificate_PathLen2/V1": {ca: true, pathLen: 2, usage: caUsage},
	"SubordinateCACertificate_PathLen3/V1": {ca: true, pathLen: 3, usage: caUsage},
}

// maxShortLived is the longest life of what a short-lived CA issues.
const maxShortLived = 7 * 24 * time.Hour

// backdate is how long before its issue a certificate begins to be valid.
const backdate = 60 * time.Minute

func (p *PCA) issue(c *wire.Call, in *issueIn) (*issueOut, error) {
	problems := wire.Required(in, "CertificateAuthorityArn", "Csr", "SigningAlgorithm", "Validity")
	if len(in.Csr) > 32768 {
		problems = append(problems, "Value at 'csr' failed to satisfy constraint: Member must have length less than or equal to 32768")
	}
	if len(in.IdempotencyToken) > 36 {
		problems = append(problems, fmt.Sprintf("Value '%s' at 'idempotencyToken' failed to satisfy constraint: Member must have length less than or equal to 36", in.IdempotencyToken))
	}
	if in.Validity != nil && in.Validity.Value < 1 {
		problems = append(problems, "Value at 'validity.value' failed to satisfy constraint: Member must have value greater than or equal to 1")
	}
	if len(problems) > 0 {
		return nil, wire.Invalid(problems...)
	}
	if in.TemplateArn == "" {
		in.TemplateArn = templatePrefix + "EndEntityCertificate/V1"
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	ca, err := p.find(c, in.CertificateAuthorityArn, "acm-pca:TemplateArn", in.TemplateArn)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	what := string(in.fingerprint())
	if old, ok := ca.tokens[c.Principal.Account+in.IdempotencyToken]; ok && in.IdempotencyToken != "" && now.Sub(old.at) < idempotency {
		if old.what != what {
			// What AWS does is not documented; nobody should rely on it.
			return nil, wire.Fail("InvalidArgsException", "The idempotency token was used for another request")
		}
		return &issueOut{old.arn}, nil
	}
	cert, err := p.certify(ca, in, now)
	if err != nil {
		return nil, err
	}
	arn := fmt.Sprintf("%s/certificate/%032x", ca.arn, cert.SerialNumber)
	ca.issued[arn] = &certificate{arn: arn, cert: cert, unseen: p.o.Unseen, polls: p.o.Polls}
	if in.IdempotencyToken != "" {
		ca.tokens[c.Principal.Account+in.IdempotencyToken] = made{arn, what, now}
	}
	return &issueOut{arn}, nil
}

// fingerprint is the request without its token.
func (in issueIn) fingerprint() []byte {
	in.IdempotencyToken = ""
	// The end of an ABSOLUTE validity moves with the clock of who asks again.
	v := *in.Validity
	if v.Type == "ABSOLUTE" {
		v.Value = 0
	}
	in.Validity = &v
	b, err := json.Marshal(in)
	if err != nil {
		panic(err)
	}
	return b
}

// certify makes the certificate, or says why not.
func (p *PCA) certify(ca *authority, in *issueIn, now time.Time) (*x509.Certificate, error) {
	t, known := templates[strings.TrimPrefix(in.TemplateArn, templatePrefix)]
	algorithm, legal := algorithms[in.SigningAlgorithm]
	switch {
	case !strings.HasPrefix(in.TemplateArn, templatePrefix) || !known:
		return nil, wire.Fail("InvalidArgsException", "%s is not a template of this stand-in", in.TemplateArn)
	case !legal || algorithm.family != family(ca.config.KeyAlgorithm):
		return nil, wire.Fail("InvalidArgsException", "The signing algorithm %s does not match the CA's key, which is %s", in.SigningAlgorithm, ca.config.KeyAlgorithm)
	case ca.status != active && (!t.self || ca.status != pending):
		return nil, wire.Fail("InvalidStateException", "The certificate authority %s is not in the correct state to issue certificates: it is %s", ca.arn, ca.status)
	case t.self != (ca.cert == nil) || t.self && ca.kind != root:
		return nil, wire.Fail("InvalidArgsException", "RootCACertificate/V1 is for a root CA's own certificate, once")
	case len(ca.issued) >= p.o.Quota:
		return nil, wire.Fail("LimitExceededException", "The CA has issued %d certificates; that is its quota", len(ca.issued))
	}
	csr, err := parseCSR(in.Csr)
	if err != nil {
		return nil, err
	}
	end, err := in.Validity.end(now)
	if err != nil {
		return nil, err
	}
	begin := now.Add(-backdate)
	if v := in.ValidityNotBefore; v != nil {
		if v.Type != "ABSOLUTE" {
			return nil, wire.Fail("InvalidArgsException", "ValidityNotBefore must be of type ABSOLUTE")
		}
		begin = time.Unix(v.Value, 0)
	}
	if err := ca.permits(begin, end, now); err != nil {
		return nil, err
	}
	return ca.sign(csr, t, algorithm.x509, begin, end)
}

// end is when a certificate with this validity expires.
func (v validity) end(now time.Time) (time.Time, error) {
	switch v.Type {
	case "ABSOLUTE":
		return time.Unix(v.Value, 0), nil
	case "DAYS":
		return now.AddDate(0, 0, int(v.Value)), nil
	case "MONTHS":
		return now.AddDate(0, int(v.Value), 0), nil
	case "YEARS":
		return now.AddDate(int(v.Value), 0, 0), nil
	case "END_DATE":
		for _, form := range []string{"20060102150405", "060102150405"} {
			if t, err := time.Parse(form, fmt.Sprint(v.Value)); err == nil {
				return t, nil
			}
		}
		return time.Time{}, wire.Fail("InvalidArgsException", "The validity %d is not of the form YYYYMMDDHHMMSS or YYMMDDHHMMSS", v.Value)
	}
	return time.Time{}, wire.Invalid(fmt.Sprintf("Value '%s' at 'validity.type' failed to satisfy constraint: Member must satisfy enum value set: [END_DATE, ABSOLUTE, DAYS, MONTHS, YEARS]", v.Type))
}

// permits holds a validity against the CA's own and its mode.
func (ca *authority) permits(begin, end, now time.Time) error {
	switch {
	case !end.After(now) || !end.After(begin):
		return wire.Fail("ValidationException", "The certificate would be valid from %s to %s: that is over, or never", begin.UTC().Format(time.RFC3339), end.UTC().Format(time.RFC3339))
	case ca.cert != nil && end.After(ca.cert.NotAfter):
		return wire.Fail("ValidationException", "The certificate validity specified exceeds the certificate authority validity")
	case ca.cert != nil && ca.mode == shortLived && end.Sub(now) > maxShortLived:
		return wire.Fail("ValidationException", "The CA issues short-lived certificates: their validity must not exceed 7 days")
	}
	return nil
}

func (ca *authority) sign(csr *x509.CertificateRequest, t template, algorithm x509.SignatureAlgorithm, begin, end time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(csr.PublicKey)
	if err != nil {
		return nil, wire.Fail("MalformedCSRException", "The key of the certificate signing request: %v", err)
	}
	id := sha1.Sum(spki) //nolint:gosec // see the import
	cert := &x509.Certificate{
		SerialNumber: serial, Subject: csr.Subject, RawSubject: csr.RawSubject, SubjectKeyId: id[:],
		DNSNames: csr.DNSNames, URIs: csr.URIs, IPAddresses: csr.IPAddresses, EmailAddresses: csr.EmailAddresses,
		NotBefore: begin, NotAfter: end, KeyUsage: t.usage, ExtKeyUsage: t.eku,
		BasicConstraintsValid: true, IsCA: t.ca, SignatureAlgorithm: algorithm,
	}
	if t.ca && t.pathLen >= 0 {
		cert.MaxPathLen, cert.MaxPathLenZero = t.pathLen, t.pathLen == 0
	}
	parent := ca.cert
	if t.self {
		if !samePublicKey(csr.PublicKey, ca.key.Public()) {
			return nil, wire.Fail("MalformedCSRException", "A root's certificate is for the CSR of the CA itself")
		}
		parent = cert
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, csr.PublicKey, ca.key)
	if err != nil {
		return nil, wire.Fail("MalformedCSRException", "%v", err)
	}
	return x509.ParseCertificate(der)
}

func samePublicKey(a, b any) bool {
	x, err1 := x509.MarshalPKIXPublicKey(a)
	y, err2 := x509.MarshalPKIXPublicKey(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

func (p *PCA) get(c *wire.Call, in *getIn) (*certificateOut, error) {
	if problems := wire.Required(in, "CertificateArn", "CertificateAuthorityArn"); len(problems) > 0 {
		return nil, wire.Invalid(problems...)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	ca, err := p.find(c, in.CertificateAuthorityArn)
	if err != nil {
		return nil, err
	}
	if !certARN.MatchString(in.CertificateArn) {
		return nil, wire.Fail("InvalidArnException", "%q is not the ARN of a certificate", in.CertificateArn)
	}
	cert := ca.issued[in.CertificateArn]
	switch {
	case cert == nil:
		return nil, wire.Fail("ResourceNotFoundException", "Could not find certificate %s", in.CertificateArn)
	case cert.unseen > 0:
		cert.unseen--
		return nil, wire.Fail("ResourceNotFoundException", "Could not find certificate %s", in.CertificateArn)
	case cert.polls > 0:
		cert.polls--
		return nil, wire.Fail("RequestInProgressException", "The request to issue certificate %s is still in progress. Try again later.", in.CertificateArn)
	}
	if cert.cert.Equal(ca.cert) || ca.cert == nil {
		return &certificateOut{Certificate: encode(cert.cert)}, nil
	}
	return &certificateOut{encode(cert.cert), encode(append([]*x509.Certificate{ca.cert}, ca.chain...)...)}, nil
}

func (p *PCA) revoke(c *wire.Call, in *revokeIn) (*nothing, error) {
	if problems := wire.Required(in, "CertificateAuthorityArn", "CertificateSerial", "RevocationReason"); len(problems) > 0 {
		return nil, wire.Invalid(problems...)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	ca, err := p.find(c, in.CertificateAuthorityArn)
	if err != nil {
		return nil, err
	}
	serial := strings.ToLower(strings.ReplaceAll(in.CertificateSerial, ":", ""))
	cert := ca.issued[fmt.Sprintf("%s/certificate/%032s", ca.arn, serial)]
	switch {
	case cert == nil:
		return nil, wire.Fail("ResourceNotFoundException", "Could not find certificate with serial %s", in.CertificateSerial)
	case cert.revoked != "":
		return nil, wire.Fail("RequestAlreadyProcessedException", "Certificate %s is already revoked", in.CertificateSerial)
	}
	cert.revoked = in.RevocationReason
	return &nothing{}, nil
}
