package pca

import (
	"crypto/x509"
	"fmt"
	"time"
)

// Spec is a CA that [PCA.Make] makes ready for use. Zero values: EC_prime256v1
// with SHA256WITHECDSA, general purpose, a root for ten years (a subordinate
// for five).
type Spec struct {
	KeyAlgorithm     string
	SigningAlgorithm string
	ShortLived       bool
	Parent           string // ARN; empty: a root
	Life             time.Duration
	Name             string            // common name
	Tags             map[string]string // AmazonECSManaged=true is AWS's own for Service Connect
	Region, Account  string
}

// Make creates a CA, signs its certificate and imports it, and returns its
// ARN.
func (p *PCA) Make(spec Spec) (string, error) {
	or := func(v *string, other string) {
		if *v == "" {
			*v = other
		}
	}
	or(&spec.KeyAlgorithm, "EC_prime256v1")
	if or(&spec.SigningAlgorithm, "SHA256WITHECDSA"); family(spec.KeyAlgorithm) == "RSA" && algorithms[spec.SigningAlgorithm].family != "RSA" {
		spec.SigningAlgorithm = "SHA256WITHRSA"
	}
	if spec.Parent != "" {
		or(&spec.Name, "subordinate "+spec.KeyAlgorithm)
	}
	or(&spec.Name, "root "+spec.KeyAlgorithm)
	or(&spec.Region, "us-east-1")
	or(&spec.Account, "111122223333")
	if spec.Life == 0 {
		spec.Life = 10 * 365 * 24 * time.Hour
		if spec.Parent != "" {
			spec.Life /= 2
		}
	}
	in := createIn{
		CertificateAuthorityConfiguration: &configuration{KeyAlgorithm: spec.KeyAlgorithm, SigningAlgorithm: spec.SigningAlgorithm, Subject: &subject{CommonName: spec.Name, Organization: "Example Corp"}},
		CertificateAuthorityType:          root, UsageMode: general,
	}
	if spec.Parent != "" {
		in.CertificateAuthorityType = subordinate
	}
	if spec.ShortLived {
		in.UsageMode = shortLived
	}
	for k, v := range spec.Tags {
		in.Tags = append(in.Tags, tag{k, v})
	}
	ca, err := newAuthority(in, spec.Region, spec.Account)
	if err != nil {
		return "", err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.install(ca, spec); err != nil {
		return "", err
	}
	p.cas[ca.arn] = ca
	p.order = append(p.order, ca.arn)
	return ca.arn, nil
}

// install gives a new CA its certificate.
func (p *PCA) install(ca *authority, spec Spec) error {
	issuer, name := ca, "RootCACertificate/V1"
	if spec.Parent != "" {
		if issuer = p.cas[spec.Parent]; issuer == nil {
			return fmt.Errorf("there is no CA %s", spec.Parent)
		}
		name = "SubordinateCACertificate_PathLen0/V1"
	}
	now := time.Now()
	cert, err := p.certify(issuer, &issueIn{
		Csr: ca.csr, SigningAlgorithm: issuer.config.SigningAlgorithm, TemplateArn: templatePrefix + name,
		Validity: &validity{"ABSOLUTE", now.Add(spec.Life).Unix()},
	}, now)
	if err != nil {
		return err
	}
	if ca.cert, ca.status = cert, active; issuer != ca {
		ca.chain = append([]*x509.Certificate{issuer.cert}, issuer.chain...)
	}
	return nil
}

// Renew gives a CA a new certificate for its old key, as its owner would.
func (p *PCA) Renew(arn string, life time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	ca := p.cas[arn]
	ca.cert, ca.status = nil, pending
	return p.install(ca, Spec{Life: life})
}

// Set changes the state of a CA, such as to DISABLED.
func (p *PCA) Set(arn, status string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cas[arn].status = status
}

// Share lets another account use a CA as RAM's default permission does: with
// the template EndEntityCertificate/V1 alone.
func (p *PCA) Share(arn, account string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cas[arn].policy = fmt.Sprintf(`{"Version":"2012-10-17","Statement":[
 {"Effect":"Allow","Principal":{"AWS":%[1]q},"Resource":%[2]q,"Action":["acm-pca:DescribeCertificateAuthority","acm-pca:GetCertificate","acm-pca:GetCertificateAuthorityCertificate","acm-pca:ListPermissions","acm-pca:ListTags"]},
 {"Effect":"Allow","Principal":{"AWS":%[1]q},"Resource":%[2]q,"Action":"acm-pca:IssueCertificate","Condition":{"StringEquals":{"acm-pca:TemplateArn":"arn:aws:acm-pca:::template/EndEntityCertificate/V1"}}}]}`, account, arn)
}

// Certificate is a CA's own, in PEM.
func (p *PCA) Certificate(arn string) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return []byte(encode(p.cas[arn].cert))
}

// Issued is how many certificates a CA has issued.
func (p *PCA) Issued(arn string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.cas[arn].issued)
}
