package privateca

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/acmpca"
	"github.com/aws/aws-sdk-go-v2/service/acmpca/types"

	"patchbay/pki/issue"
)

// facts are what the CA is; they are asked for again when they are older than
// fresh, or when a refusal casts doubt on them.
type facts struct {
	asked      time.Time
	signing    types.SigningAlgorithm
	shortLived bool
	cert       *x509.Certificate   // the CA's own
	roots      []*x509.Certificate // what callers must trust
}

const (
	fresh    = 5 * time.Minute
	askAgain = 5 * time.Second // after a failure
)

// facts returns what is known, or asks. Of several callers one asks and the
// others wait for it. When asking fails, what was known is returned with the
// error.
func (c *CA) facts(ctx context.Context) (*facts, error) {
	select {
	case <-c.lock:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { c.lock <- struct{}{} }()
	if c.now != nil && time.Since(c.now.asked) < fresh {
		return c.now, c.failed
	}
	f, err := c.ask(ctx)
	if c.failed = err; err != nil {
		if c.now != nil {
			c.now.asked = time.Now().Add(askAgain - fresh)
		}
		return c.now, err
	}
	if c.now == nil || !c.now.cert.Equal(f.cert) {
		c.tell(f)
	}
	c.now = f
	return f, nil
}

// doubt forgets the facts after a refusal that they may have caused.
func (c *CA) doubt(err error) {
	if throttled(err) || code(err) == "" {
		return
	}
	<-c.lock
	if c.now != nil {
		c.now.asked = time.Time{}
	}
	c.lock <- struct{}{}
}

func (c *CA) ask(ctx context.Context) (*facts, error) {
	ctx, stop := context.WithTimeout(ctx, c.o.Timeout)
	defer stop()
	d, err := c.api.DescribeCertificateAuthority(ctx, &acmpca.DescribeCertificateAuthorityInput{CertificateAuthorityArn: &c.o.ARN})
	if err != nil {
		return nil, c.explain("DescribeCertificateAuthority", c.o.ARN, err)
	}
	ca := d.CertificateAuthority
	if ca == nil || ca.CertificateAuthorityConfiguration == nil {
		return nil, fmt.Errorf("DescribeCertificateAuthority answered without a CA")
	}
	if ca.Status == types.CertificateAuthorityStatusPendingCertificate || ca.Status == types.CertificateAuthorityStatusCreating || ca.Status == types.CertificateAuthorityStatusDeleted {
		return nil, fmt.Errorf("the CA is %s: %s", ca.Status, stateAdvice(string(ca.Status)))
	}
	cfg := *ca.CertificateAuthorityConfiguration
	f := &facts{asked: time.Now(), shortLived: ca.UsageMode == types.CertificateAuthorityUsageModeShortLivedCertificate}
	if f.signing, err = signing(cfg.KeyAlgorithm, cfg.SigningAlgorithm); err != nil {
		return nil, err
	}
	path, err := c.path(ctx, c.o.ARN)
	if err != nil {
		return nil, err
	}
	f.cert, f.roots = path[0], anchors(path)
	return f, nil
}

// path is the certificate of a CA and those above it.
func (c *CA) path(ctx context.Context, arn string) ([]*x509.Certificate, error) {
	got, err := c.api.GetCertificateAuthorityCertificate(ctx, &acmpca.GetCertificateAuthorityCertificateInput{CertificateAuthorityArn: &arn})
	if err != nil {
		return nil, c.explain("GetCertificateAuthorityCertificate", arn, err)
	}
	path, err := issue.ParseCertificates([]byte(aws.ToString(got.Certificate) + "\n" + aws.ToString(got.CertificateChain)))
	if err != nil {
		return nil, fmt.Errorf("certificate of the CA: %w", err)
	}
	return path, nil
}

// also is what to trust of another CA. Its key can't change, so neither can
// its root, but for a new certificate: it is asked for again when it is older
// than fresh.
func (c *CA) also(ctx context.Context, arn string) ([]*x509.Certificate, error) {
	select {
	case <-c.lock:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { c.lock <- struct{}{} }()
	if known := c.others[arn]; known != nil && time.Since(known.asked) < fresh {
		return known.roots, nil
	}
	ctx, stop := context.WithTimeout(ctx, c.o.Timeout)
	defer stop()
	path, err := c.path(ctx, arn)
	if err != nil {
		return nil, err
	}
	c.others[arn] = &facts{asked: time.Now(), cert: path[0], roots: anchors(path)}
	return c.others[arn].roots, nil
}

// signing is the algorithm to ask for: the CA's own, if it is of its key's
// family. Envoy verifies neither ML-DSA nor SM2.
func signing(key types.KeyAlgorithm, own types.SigningAlgorithm) (types.SigningAlgorithm, error) {
	family, other := "", types.SigningAlgorithm("")
	switch {
	case strings.HasPrefix(string(key), "RSA_"):
		family, other = "RSA", types.SigningAlgorithmSha256withrsa
	case key == types.KeyAlgorithmEcPrime256v1:
		family, other = "ECDSA", types.SigningAlgorithmSha256withecdsa
	case key == types.KeyAlgorithmEcSecp384r1:
		family, other = "ECDSA", types.SigningAlgorithmSha384withecdsa
	case key == types.KeyAlgorithmEcSecp521r1:
		family, other = "ECDSA", types.SigningAlgorithmSha512withecdsa
	default:
		return "", fmt.Errorf("the CA's key is %s, which Envoy can't verify; allowed: RSA_2048, RSA_3072, RSA_4096, EC_prime256v1, EC_secp384r1, EC_secp521r1", key)
	}
	if strings.Contains(string(own), "WITH"+family) {
		return own, nil
	}
	return other, nil
}

// anchors are the self-signed certificates of a path; if there is none, the
// topmost, which Envoy takes as an anchor too (a partial chain).
func anchors(path []*x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range path {
		if bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignatureFrom(c) == nil {
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		out = path[len(path)-1:]
	}
	return out
}

// life is how long a leaf may live that should live for want.
func (f *facts) life(want time.Duration, now time.Time) (time.Duration, error) {
	if f.shortLived {
		want = min(want, maxShortLived)
	}
	// The CA's clock may be behind ours.
	left := f.cert.NotAfter.Sub(now) - time.Minute
	if left < MinLifetime {
		return 0, fmt.Errorf("the CA's own certificate ends at %s: give it a new one, or configure another CA beside it first and then instead of it", f.cert.NotAfter.UTC().Format(time.RFC3339))
	}
	return min(want, left), nil
}

// tell logs what a user of this CA should know, once.
func (c *CA) tell(f *facts) {
	c.o.Log.Info("private CA in use", "arn", c.o.ARN, "subject", f.cert.Subject.String(), "signing", string(f.signing), "short_lived", f.shortLived,
		"not_after", f.cert.NotAfter, "roots", len(f.roots))
	if f.shortLived && c.o.Lifetime > maxShortLived+5*time.Minute {
		c.o.Log.Warn("the CA is short-lived: its certificates live for seven days, not as configured", "arn", c.o.ARN, "lifetime", c.o.Lifetime.String())
	}
	whole := f.cert.NotAfter.Sub(f.cert.NotBefore)
	switch left := time.Until(f.cert.NotAfter); {
	case left < whole/10:
		c.o.Log.Error("the CA's own certificate ends soon", "arn", c.o.ARN, "not_after", f.cert.NotAfter)
	case left < whole/3:
		c.o.Log.Warn("less than a third of the life of the CA's own certificate is left", "arn", c.o.ARN, "not_after", f.cert.NotAfter)
	}
}

func encodeCSR(csr *x509.CertificateRequest) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr.Raw})
}
