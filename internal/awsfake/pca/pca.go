// Package pca stands in for AWS Private CA: certificate authorities and the
// certificates that they issue, by AWS's rules (templates, validity, signing
// algorithms, idempotency, short-lived mode, shared CAs), with real keys.
//
// It owns what an operation means. It must not know the protocol (wire) nor
// patchbay.
//
// Start reading at [PCA.API], then issue.go.
package pca

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"regexp"
	"sync"
	"time"

	"patchbay/internal/awsfake/wire"
)

// Options of a [PCA].
type Options struct {
	// Polls is how many times GetCertificate answers RequestInProgressException
	// for a new certificate; Unseen how many times it first answers
	// ResourceNotFoundException, as a read that lags behind does.
	Polls, Unseen int
	// Quota is how many certificates a CA issues; 0: 1,000,000, AWS's.
	Quota int
}

// PCA holds the authorities of all accounts. It is safe for concurrent use.
type PCA struct {
	o Options

	mu    sync.Mutex
	cas   map[string]*authority // by ARN
	order []string              // ARNs as they were made
	made  map[string]made       // idempotency of CreateCertificateAuthority
}

// made is what an idempotency token stands for.
type made struct {
	arn  string
	what string // the request, to tell another one with the same token
	at   time.Time
}

// idempotency is how long AWS remembers a token.
const idempotency = 5 * time.Minute

// New has no authorities.
func New(o Options) *PCA {
	if o.Quota == 0 {
		o.Quota = 1_000_000
	}
	return &PCA{o: o, cas: map[string]*authority{}, made: map[string]made{}}
}

// authority is one CA.
type authority struct {
	arn, owner string
	kind, mode string // ROOT or SUBORDINATE; GENERAL_PURPOSE or SHORT_LIVED_CERTIFICATE
	config     configuration
	security   string
	revocation json.RawMessage
	key        crypto.Signer
	csr        []byte // PEM

	created, changed time.Time
	status           string
	restorable       time.Time
	before           string            // status before it was deleted
	cert             *x509.Certificate // nil: PENDING_CERTIFICATE
	chain            []*x509.Certificate
	tags             []tag
	permissions      []permission
	policy           string // resource policy (RAM); empty: none

	issued map[string]*certificate // by ARN
	tokens map[string]made
}

// certificate is one that a CA issued.
type certificate struct {
	arn     string
	cert    *x509.Certificate
	unseen  int
	polls   int
	revoked string
}

// API is the service to be served. Rates are those that AWS documents for an
// account and Region.
func (p *PCA) API() wire.Service {
	return wire.Service{
		Signing: "acm-pca", Target: "ACMPrivateCA.", Text: "message",
		Rates: map[string]float64{
			"IssueCertificate": 25, "GetCertificate": 75, "GetCertificateAuthorityCertificate": 20,
			"DescribeCertificateAuthority": 20, "RevokeCertificate": 20, "other": 10,
		},
		Operations: map[string]wire.Operation{
			"CreateCertificateAuthority":            wire.Op("other", p.create),
			"GetCertificateAuthorityCsr":            wire.Op("other", p.csrOf),
			"ImportCertificateAuthorityCertificate": wire.Op("other", p.importCertificate),
			"UpdateCertificateAuthority":            wire.Op("other", p.update),
			"DeleteCertificateAuthority":            wire.Op("other", p.remove),
			"RestoreCertificateAuthority":           wire.Op("other", p.restore),
			"ListCertificateAuthorities":            wire.Op("other", p.list),
			"DescribeCertificateAuthority":          wire.Op("DescribeCertificateAuthority", p.describe),
			"GetCertificateAuthorityCertificate":    wire.Op("GetCertificateAuthorityCertificate", p.caCertificate),
			"IssueCertificate":                      wire.Op("IssueCertificate", p.issue),
			"GetCertificate":                        wire.Op("GetCertificate", p.get),
			"RevokeCertificate":                     wire.Op("RevokeCertificate", p.revoke),
			"TagCertificateAuthority":               wire.Op("other", p.tag),
			"UntagCertificateAuthority":             wire.Op("other", p.untag),
			"ListTags":                              wire.Op("other", p.listTags),
			"PutPolicy":                             wire.Op("other", p.putPolicy),
			"GetPolicy":                             wire.Op("other", p.getPolicy),
			"DeletePolicy":                          wire.Op("other", p.deletePolicy),
			"CreatePermission":                      wire.Op("other", p.createPermission),
			"DeletePermission":                      wire.Op("other", p.deletePermission),
			"ListPermissions":                       wire.Op("other", p.listPermissions),
		},
	}
}

var (
	caARN   = regexp.MustCompile(`^arn:[\w+=/,.@-]+:acm-pca:[\w+=/,.@-]+:[0-9]{12}:certificate-authority/[0-9a-f-]{36}$`)
	certARN = regexp.MustCompile(`^arn:[\w+=/,.@-]+:acm-pca:[\w+=/,.@-]+:[0-9]{12}:certificate-authority/[0-9a-f-]{36}/certificate/[0-9a-f]{1,40}$`)
)

// find is the CA of an ARN, for a caller who may do this to it. p.mu is held.
func (p *PCA) find(c *wire.Call, arn string, context ...string) (*authority, error) {
	if !caARN.MatchString(arn) {
		return nil, wire.Fail("InvalidArnException", "%q is not the ARN of a certificate authority", arn)
	}
	if err := c.May(arn, context...); err != nil {
		return nil, err
	}
	ca := p.cas[arn]
	if ca == nil {
		return nil, wire.Fail("ResourceNotFoundException", "Could not find Certificate Authority %s", arn)
	}
	if c.Principal.Account != ca.owner && !ca.shares(c) {
		return nil, wire.Fail("AccessDeniedException", "User: %s is not authorized to perform: %s on resource: %s because no resource-based policy allows the %s action",
			c.Principal.ARN, c.Action(), arn, c.Action())
	}
	if ca.cert != nil && ca.status == active && time.Now().After(ca.cert.NotAfter) {
		ca.status = "EXPIRED"
	}
	return ca, nil
}

// shares reports whether the CA's resource policy lets another account do
// this. RAM writes such a policy; it can't grant what RAM does not offer.
func (ca *authority) shares(c *wire.Call) bool {
	if ca.policy == "" || !shareable[c.Operation] {
		return false
	}
	var p struct {
		Statement []struct {
			wire.Statement
			Principal struct{ AWS any }
		}
	}
	if json.Unmarshal([]byte(ca.policy), &p) != nil {
		return false
	}
	for _, s := range p.Statement {
		who := fmt.Sprint(s.Principal.AWS)
		if (who == c.Principal.Account || who == "arn:aws:iam::"+c.Principal.Account+":root") && s.Effect == "Allow" && s.Fits(c.Action(), ca.arn, c.Context) {
			return true
		}
	}
	return false
}

// shareable are the operations that RAM's permissions offer.
var shareable = map[string]bool{
	"DescribeCertificateAuthority": true, "GetCertificate": true, "GetCertificateAuthorityCertificate": true,
	"ListPermissions": true, "ListTags": true, "IssueCertificate": true, "RevokeCertificate": true,
}

const (
	pending  = "PENDING_CERTIFICATE"
	active   = "ACTIVE"
	disabled = "DISABLED"
	deleted  = "DELETED"

	root        = "ROOT"
	subordinate = "SUBORDINATE"
	shortLived  = "SHORT_LIVED_CERTIFICATE"
	general     = "GENERAL_PURPOSE"
)
