// Package privateca issues certificates of services from AWS Private CA.
//
// It owns what a private CA wants to hear, what it charges for and forbids, and
// what to do about its refusals. It must not know when a certificate is due
// nor where it goes: that is package pki.
//
// Start reading at [CA.Issue], then facts.go.
package privateca

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/acmpca"
	"github.com/aws/aws-sdk-go-v2/service/acmpca/types"

	"patchbay/mesh"
	"patchbay/pki/issue"
)

// Defaults of [Options], and AWS's figures.
const (
	// DefaultLifetime and the renewal on day five are those of ECS Service
	// Connect.
	DefaultLifetime = 7 * 24 * time.Hour
	// DefaultRate is AWS's quota of IssueCertificate for an account and
	// Region. Whoever is throttled asks less by itself.
	DefaultRate = 25
	// DefaultTemplate is the one that AWS's managed policy for Service
	// Connect, and RAM's default permission, allow.
	DefaultTemplate = "arn:aws:acm-pca:::template/EndEntityCertificate/V1"
	// MinLifetime keeps the bill and the quota of the secret store sane.
	MinLifetime = time.Hour
	// maxShortLived is the longest life that a short-lived CA gives, less
	// what two clocks may differ.
	maxShortLived = 7*24*time.Hour - 5*time.Minute
)

// Options say which CA, and how to reach it.
type Options struct {
	ARN      string        // arn:PARTITION:acm-pca:REGION:ACCOUNT:certificate-authority/UUID; another account's if RAM shares it
	Region   string        // empty: the ARN's
	Endpoint string        // empty: AWS's own for the region
	Template string        // ARN; empty: DefaultTemplate
	Lifetime time.Duration // of a leaf, MinLifetime to 90 days; 0: DefaultLifetime. A short-lived CA caps it at seven days
	Rate     float64       // certificates a second; 0: DefaultRate
	Timeout  time.Duration // of one call, retries included; 0: 10 s
	Log      *slog.Logger  // nil: silent
	// AlsoTrust are ARNs of CAs that don't sign, and whose roots callers trust
	// all the same: the one that will sign next, or the one that did before.
	AlsoTrust []string
}

var arnForm = regexp.MustCompile(`^arn:(aws[a-z-]*):acm-pca:([a-z0-9-]+):([0-9]{12}):certificate-authority/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// validARN reports whether s has the form of a private CA's ARN.
func validARN(s string) bool { return arnForm.MatchString(s) }

// problems lists all that is wrong with o.
func (o Options) problems() error {
	var all []error
	if !validARN(o.ARN) {
		all = append(all, fmt.Errorf("arn: %q; allowed: arn:aws:acm-pca:REGION:ACCOUNT:certificate-authority/UUID", o.ARN))
	}
	for _, arn := range o.AlsoTrust {
		if !validARN(arn) || arn == o.ARN {
			all = append(all, fmt.Errorf("alsoTrust: %q; allowed: ARNs of other private CAs", arn))
		}
	}
	if o.Lifetime != 0 && (o.Lifetime < MinLifetime || o.Lifetime > 90*24*time.Hour) {
		all = append(all, fmt.Errorf("lifetime: %s; allowed: 1h to 2160h", o.Lifetime))
	}
	if o.Template != "" && !strings.Contains(o.Template, ":acm-pca:::template/") {
		all = append(all, fmt.Errorf("template: %q; allowed: the ARN of a template, such as %s", o.Template, DefaultTemplate))
	}
	if o.Rate < 0 {
		all = append(all, fmt.Errorf("rate: %v; allowed: certificates a second", o.Rate))
	}
	return errors.Join(all...)
}

// API is the part of AWS Private CA that this package uses. The AWS SDK's
// client has it. Every call must honour its context.
type API interface {
	DescribeCertificateAuthority(context.Context, *acmpca.DescribeCertificateAuthorityInput, ...func(*acmpca.Options)) (*acmpca.DescribeCertificateAuthorityOutput, error)
	GetCertificateAuthorityCertificate(context.Context, *acmpca.GetCertificateAuthorityCertificateInput, ...func(*acmpca.Options)) (*acmpca.GetCertificateAuthorityCertificateOutput, error)
	IssueCertificate(context.Context, *acmpca.IssueCertificateInput, ...func(*acmpca.Options)) (*acmpca.IssueCertificateOutput, error)
	GetCertificate(context.Context, *acmpca.GetCertificateInput, ...func(*acmpca.Options)) (*acmpca.GetCertificateOutput, error)
}

// CA issues from one AWS private CA. It is safe for concurrent use.
type CA struct {
	o    Options
	api  API
	lock chan struct{} // held while asking for facts; its token guards what follows
	now  *facts
	// failed is why now could not be asked for again.
	failed error
	others map[string]*facts // of CAs that are also trusted, by ARN
}

// New checks o, all problems at once, and touches nothing outside.
func New(cfg aws.Config, o Options) (*CA, error) {
	if err := o.problems(); err != nil {
		return nil, fmt.Errorf("private CA: %w", err)
	}
	o.Region = cmp.Or(o.Region, arnForm.FindStringSubmatch(o.ARN)[2])
	o.Template = cmp.Or(o.Template, strings.Replace(DefaultTemplate, ":aws:", ":"+arnForm.FindStringSubmatch(o.ARN)[1]+":", 1))
	o.Lifetime = cmp.Or(o.Lifetime, DefaultLifetime)
	o.Rate = cmp.Or(o.Rate, DefaultRate)
	o.Timeout = cmp.Or(o.Timeout, 10*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &CA{o: o, lock: make(chan struct{}, 1), others: map[string]*facts{}, api: acmpca.NewFromConfig(cfg, func(opt *acmpca.Options) {
		opt.Region = o.Region
		if o.Endpoint != "" {
			opt.BaseEndpoint = &o.Endpoint
		}
		opt.Retryer = retryer()
	})}
	c.lock <- struct{}{}
	return c, nil
}

// retryer is the SDK's own, but that a throttle is not for it: the rotator
// asks all that wait in their order, and less of them. Nor is a quota that is
// used up.
func retryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
			if throttled(err) || code(err) == "LimitExceededException" {
				return aws.FalseTernary
			}
			return aws.UnknownTernary
		})}, o.Retryables...)
		o.MaxBackoff = 2 * time.Second
	})
}

// Limits implements [issue.Limited]. A certificate takes its time, so that many
// must be under way to use the rate.
func (c *CA) Limits() issue.Limits {
	return issue.Limits{Rate: c.o.Rate, Parallel: max(4, int(3*c.o.Rate)), RenewFrom: 5.0 / 7, RenewTo: 5.25 / 7}
}

// Issue implements [issue.Issuer].
func (c *CA) Issue(ctx context.Context, r issue.Request) (*mesh.Leaf, error) {
	leaf, err := c.issue(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("certificate of %s from private CA %s: %w", r.Service, c.o.ARN, err)
	}
	return leaf, nil
}

func (c *CA) issue(ctx context.Context, r issue.Request) (*mesh.Leaf, error) {
	f, err := c.facts(ctx)
	if f == nil {
		return nil, err
	} // else what was known counts: whether the CA still issues, it says itself
	p, err := r.Prepare()
	if err != nil {
		return nil, err
	}
	issued := time.Now()
	life, err := f.life(cmp.Or(r.Lifetime, c.o.Lifetime), issued)
	if err != nil {
		return nil, err
	}
	token, end := p.Token(), issued.Add(life).Unix()
	call, stop := context.WithTimeout(ctx, c.o.Timeout)
	defer stop()
	out, err := c.api.IssueCertificate(call, &acmpca.IssueCertificateInput{
		CertificateAuthorityArn: &c.o.ARN, Csr: encodeCSR(p.CSR), IdempotencyToken: &token, SigningAlgorithm: f.signing, TemplateArn: &c.o.Template,
		Validity: &types.Validity{Type: types.ValidityPeriodTypeAbsolute, Value: &end},
	})
	if err != nil {
		c.doubt(err)
		return nil, c.explain("IssueCertificate", c.o.ARN, err)
	}
	chain, err := c.collect(ctx, aws.ToString(out.CertificateArn))
	if err != nil {
		return nil, err
	}
	return issue.Accept(r, chain, p.Key, life, f.roots, issued)
}

// collect waits for a certificate that has been ordered, and paid for: only
// the end of ctx, or a refusal, gives it up.
func (c *CA) collect(ctx context.Context, arn string) ([]*x509.Certificate, error) {
	waiter := acmpca.NewCertificateIssuedWaiter(c.api, func(o *acmpca.CertificateIssuedWaiterOptions) {
		o.MinDelay, o.MaxDelay = 200*time.Millisecond, 2*time.Second
		o.Retryable = func(ctx context.Context, _ *acmpca.GetCertificateInput, _ *acmpca.GetCertificateOutput, err error) (bool, error) {
			if err == nil {
				return false, nil
			}
			if ctx.Err() == nil && passing(err) {
				return true, nil
			}
			return false, err
		}
	})
	longest := time.Minute
	if end, ok := ctx.Deadline(); ok {
		longest = max(time.Second, time.Until(end))
	}
	out, err := waiter.WaitForOutput(ctx, &acmpca.GetCertificateInput{CertificateAuthorityArn: &c.o.ARN, CertificateArn: &arn}, longest)
	if err != nil {
		return nil, c.explain("GetCertificate", c.o.ARN, fmt.Errorf("%s: %w", arn, err))
	}
	chain, err := issue.ParseCertificates([]byte(aws.ToString(out.Certificate)))
	if err == nil && aws.ToString(out.CertificateChain) != "" {
		var above []*x509.Certificate
		above, err = issue.ParseCertificates([]byte(*out.CertificateChain))
		chain = append(chain, above...)
	}
	if err != nil {
		return nil, fmt.Errorf("its answer: %w", err)
	}
	return chain, nil
}

// Roots implements [issue.Issuer]: the self-signed root above the CA, or, where
// the chain ends below one, the topmost of it; and the same of all that are
// also trusted. If one of these can't be asked there is no answer: a list
// without it would say that it is not trusted any more.
func (c *CA) Roots(ctx context.Context) ([]byte, error) {
	f, err := c.facts(ctx)
	if err != nil {
		return nil, fmt.Errorf("roots of private CA %s: %w", c.o.ARN, err)
	}
	roots := slices.Clone(f.roots)
	for _, arn := range c.o.AlsoTrust {
		more, err := c.also(ctx, arn)
		if err != nil {
			return nil, fmt.Errorf("roots of private CA %s, which is also trusted: %w", arn, err)
		}
		for _, r := range more {
			if !slices.ContainsFunc(roots, r.Equal) {
				roots = append(roots, r)
			}
		}
	}
	return issue.EncodeCertificates(roots), nil
}
