package pca

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"patchbay/internal/awsfake/wire"
)

func (p *PCA) create(c *wire.Call, in *createIn) (*arnOnly, error) {
	problems := wire.Required(in, "CertificateAuthorityConfiguration", "CertificateAuthorityType")
	if len(problems) == 0 {
		problems = wire.Required(in.CertificateAuthorityConfiguration, "KeyAlgorithm", "SigningAlgorithm", "Subject")
	}
	if in.UsageMode == "" {
		in.UsageMode = general
	}
	if in.CertificateAuthorityType != root && in.CertificateAuthorityType != subordinate && in.CertificateAuthorityType != "" {
		problems = append(problems, fmt.Sprintf("Value '%s' at 'certificateAuthorityType' failed to satisfy constraint: Member must satisfy enum value set: [ROOT, SUBORDINATE]", in.CertificateAuthorityType))
	}
	if in.UsageMode != general && in.UsageMode != shortLived {
		problems = append(problems, fmt.Sprintf("Value '%s' at 'usageMode' failed to satisfy constraint: Member must satisfy enum value set: [GENERAL_PURPOSE, SHORT_LIVED_CERTIFICATE]", in.UsageMode))
	}
	if len(problems) > 0 {
		return nil, wire.Invalid(problems...)
	}
	if err := c.May("*"); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	token := c.Principal.Account + "/" + in.IdempotencyToken
	if old, ok := p.made[token]; ok && in.IdempotencyToken != "" && time.Since(old.at) < idempotency {
		return &arnOnly{old.arn}, nil
	}
	ca, err := newAuthority(*in, c.Region, c.Principal.Account)
	if err != nil {
		return nil, err
	}
	p.cas[ca.arn] = ca
	p.order = append(p.order, ca.arn)
	if in.IdempotencyToken != "" {
		p.made[token] = made{arn: ca.arn, at: time.Now()}
	}
	return &arnOnly{ca.arn}, nil
}

func newAuthority(in createIn, region, owner string) (*authority, error) {
	cfg := *in.CertificateAuthorityConfiguration
	key, err := newKey(cfg.KeyAlgorithm)
	if err != nil {
		return nil, err
	}
	algorithm, ok := algorithms[cfg.SigningAlgorithm]
	if !ok || algorithm.family != family(cfg.KeyAlgorithm) {
		return nil, wire.Fail("InvalidArgsException", "The signing algorithm %s does not match the key algorithm %s", cfg.SigningAlgorithm, cfg.KeyAlgorithm)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: cfg.Subject.name(), SignatureAlgorithm: algorithm.x509}, key)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &authority{
		arn: fmt.Sprintf("arn:aws:acm-pca:%s:%s:certificate-authority/%s", region, owner, uuid.NewString()), owner: owner,
		kind: in.CertificateAuthorityType, mode: in.UsageMode, config: cfg, security: in.KeyStorageSecurityStandard, revocation: in.RevocationConfiguration,
		key: key, csr: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
		created: now, changed: now, status: pending, tags: in.Tags, issued: map[string]*certificate{}, tokens: map[string]made{},
	}, nil
}

func (p *PCA) csrOf(c *wire.Call, in *arnOnly) (*csrOut, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ca, err := p.find(c, in.CertificateAuthorityArn)
	if err != nil {
		return nil, err
	}
	return &csrOut{string(ca.csr)}, nil
}

func (p *PCA) importCertificate(c *wire.Call, in *importIn) (*nothing, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ca, err := p.find(c, in.CertificateAuthorityArn)
	if err != nil {
		return nil, err
	}
	certs, err := parseCertificates(in.Certificate)
	if err != nil || len(certs) != 1 {
		return nil, wire.Fail("MalformedCertificateException", "Certificate: one PEM certificate is allowed")
	}
	var chain []*x509.Certificate
	if len(in.CertificateChain) > 0 {
		if chain, err = parseCertificates(in.CertificateChain); err != nil {
			return nil, wire.Fail("MalformedCertificateException", "CertificateChain: %v", err)
		}
	}
	cert := certs[0]
	switch {
	case ca.status != pending && ca.status != active:
		return nil, wire.Fail("InvalidStateException", "The certificate authority is %s", ca.status)
	case !samePublicKey(cert.PublicKey, ca.key.Public()):
		return nil, wire.Fail("CertificateMismatchException", "The certificate is not for the CA's CSR")
	case !cert.IsCA:
		return nil, wire.Fail("MalformedCertificateException", "The certificate is not that of a CA")
	case ca.kind == root && len(chain) > 0:
		return nil, wire.Fail("InvalidRequestException", "A root CA has no chain")
	case ca.kind == subordinate && len(chain) == 0:
		return nil, wire.Fail("InvalidRequestException", "A subordinate CA needs its chain")
	}
	for below, i := cert, 0; i < len(chain); below, i = chain[i], i+1 {
		if err := below.CheckSignatureFrom(chain[i]); err != nil {
			return nil, wire.Fail("MalformedCertificateException", "The chain does not verify: %v", err)
		}
	}
	ca.cert, ca.chain, ca.status, ca.changed = cert, chain, active, time.Now()
	return &nothing{}, nil
}

func (p *PCA) caCertificate(c *wire.Call, in *arnOnly) (*certificateOut, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ca, err := p.find(c, in.CertificateAuthorityArn)
	if err != nil {
		return nil, err
	}
	if ca.cert == nil || ca.status == deleted {
		return nil, wire.Fail("InvalidStateException", "The certificate authority %s is not in the correct state to have a certificate: it is %s", ca.arn, ca.status)
	}
	return &certificateOut{encode(ca.cert), encode(ca.chain...)}, nil
}

func (p *PCA) describe(c *wire.Call, in *arnOnly) (*describeOut, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ca, err := p.find(c, in.CertificateAuthorityArn)
	if err != nil {
		return nil, err
	}
	return &describeOut{ca.description()}, nil
}

func (ca *authority) description() *description {
	cfg := ca.config
	d := &description{
		Arn: ca.arn, CertificateAuthorityConfiguration: &cfg, CreatedAt: wire.At(ca.created), LastStateChangeAt: wire.At(ca.changed),
		KeyStorageSecurityStandard: ca.security, OwnerAccount: ca.owner, RestorableUntil: wire.At(ca.restorable), RevocationConfiguration: ca.revocation,
		Status: ca.status, Type: ca.kind, UsageMode: ca.mode,
	}
	if ca.cert != nil {
		d.NotBefore, d.NotAfter, d.Serial = wire.At(ca.cert.NotBefore), wire.At(ca.cert.NotAfter), ca.cert.SerialNumber.String()
	}
	return d
}

func (p *PCA) list(c *wire.Call, in *listIn) (*listOut, error) {
	if err := c.May("*"); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	out := &listOut{CertificateAuthorities: []*description{}}
	limit := in.MaxResults
	if limit == 0 {
		limit = 1000
	}
	for _, arn := range p.order {
		ca := p.cas[arn]
		mine := ca.owner == c.Principal.Account
		if mine == (in.ResourceOwner == "OTHER_ACCOUNTS") || !mine && !ca.shares(&wire.Call{Service: c.Service, Operation: "DescribeCertificateAuthority", Principal: c.Principal}) {
			continue
		}
		if in.NextToken != "" {
			if arn == in.NextToken {
				in.NextToken = ""
			}
			continue
		}
		if len(out.CertificateAuthorities) == limit {
			out.NextToken = out.CertificateAuthorities[limit-1].Arn
			break
		}
		out.CertificateAuthorities = append(out.CertificateAuthorities, ca.description())
	}
	return out, nil
}

func (p *PCA) update(c *wire.Call, in *updateIn) (*nothing, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ca, err := p.find(c, in.CertificateAuthorityArn)
	if err != nil {
		return nil, err
	}
	switch {
	case ca.status != active && ca.status != disabled:
		return nil, wire.Fail("InvalidStateException", "The certificate authority is %s", ca.status)
	case in.Status != "" && in.Status != active && in.Status != disabled:
		return nil, wire.Fail("InvalidArgsException", "Status: allowed: ACTIVE, DISABLED")
	}
	if in.Status != "" {
		ca.status = in.Status
	}
	if in.RevocationConfiguration != nil {
		ca.revocation = in.RevocationConfiguration
	}
	ca.changed = time.Now()
	return &nothing{}, nil
}

func (p *PCA) remove(c *wire.Call, in *deleteIn) (*nothing, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ca, err := p.find(c, in.CertificateAuthorityArn)
	if err != nil {
		return nil, err
	}
	days := in.PermanentDeletionTimeInDays
	if days == 0 {
		days = 30
	}
	switch {
	case ca.status == active:
		return nil, wire.Fail("InvalidStateException", "The certificate authority must be disabled before it is deleted")
	case ca.status == deleted:
		return nil, wire.Fail("InvalidStateException", "The certificate authority is deleted already")
	case days < 7 || days > 30:
		return nil, wire.Invalid("Value at 'permanentDeletionTimeInDays' failed to satisfy constraint: Member must have value between 7 and 30")
	}
	ca.before, ca.status, ca.changed, ca.restorable = ca.status, deleted, time.Now(), time.Now().AddDate(0, 0, days)
	return &nothing{}, nil
}

func (p *PCA) restore(c *wire.Call, in *arnOnly) (*nothing, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ca, err := p.find(c, in.CertificateAuthorityArn)
	if err != nil {
		return nil, err
	}
	if ca.status != deleted || time.Now().After(ca.restorable) {
		return nil, wire.Fail("InvalidStateException", "The certificate authority can't be restored: it is %s", ca.status)
	}
	ca.status, ca.restorable, ca.changed = ca.before, time.Time{}, time.Now()
	return &nothing{}, nil
}

func (p *PCA) tag(c *wire.Call, in *tagIn) (*nothing, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ca, err := p.find(c, in.CertificateAuthorityArn)
	if err != nil {
		return nil, err
	}
	next := slices.Clone(ca.tags)
	for _, t := range in.Tags {
		next = append(slices.DeleteFunc(next, func(o tag) bool { return o.Key == t.Key }), t)
	}
	if len(next) > 50 {
		return nil, wire.Fail("TooManyTagsException", "A CA has up to 50 tags")
	}
	ca.tags = next
	return &nothing{}, nil
}

func (p *PCA) untag(c *wire.Call, in *tagIn) (*nothing, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ca, err := p.find(c, in.CertificateAuthorityArn)
	if err != nil {
		return nil, err
	}
	for _, t := range in.Tags {
		ca.tags = slices.DeleteFunc(ca.tags, func(o tag) bool { return o.Key == t.Key && (t.Value == "" || t.Value == o.Value) })
	}
	return &nothing{}, nil
}

func (p *PCA) listTags(c *wire.Call, in *pageIn) (*tagsOut, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ca, err := p.find(c, in.CertificateAuthorityArn)
	if err != nil {
		return nil, err
	}
	return &tagsOut{Tags: append([]tag{}, ca.tags...)}, nil
}

func (p *PCA) putPolicy(c *wire.Call, in *policyIn) (*nothing, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ca, err := p.find(c, in.ResourceArn)
	if err != nil {
		return nil, err
	}
	if !json.Valid([]byte(in.Policy)) {
		return nil, wire.Fail("InvalidPolicyException", "The policy is not JSON")
	}
	ca.policy = in.Policy
	return &nothing{}, nil
}

func (p *PCA) getPolicy(c *wire.Call, in *resourceOnly) (*policyOut, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ca, err := p.find(c, in.ResourceArn)
	if err != nil {
		return nil, err
	}
	if ca.policy == "" {
		return nil, wire.Fail("ResourceNotFoundException", "Could not find a policy of %s", in.ResourceArn)
	}
	return &policyOut{ca.policy}, nil
}

func (p *PCA) deletePolicy(c *wire.Call, in *resourceOnly) (*nothing, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ca, err := p.find(c, in.ResourceArn)
	if err != nil {
		return nil, err
	}
	ca.policy = ""
	return &nothing{}, nil
}
