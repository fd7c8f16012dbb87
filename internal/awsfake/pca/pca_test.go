package pca_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/acmpca"
	"github.com/aws/aws-sdk-go-v2/service/acmpca/types"
	"github.com/aws/smithy-go"

	"patchbay/internal/awsfake/pca"
	"patchbay/internal/awsfake/wire"
)

const endEntity = "arn:aws:acm-pca:::template/EndEntityCertificate/V1"

// client is the unmodified SDK, without its own retries.
func client(t *testing.T, s *wire.Server, id, secret string) *acmpca.Client {
	t.Helper()
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return acmpca.New(acmpca.Options{
		Region: "us-east-1", BaseEndpoint: &h.URL, RetryMaxAttempts: 1, Credentials: credentials.NewStaticCredentialsProvider(id, secret, ""),
	})
}

func request(t *testing.T, names ...string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, _ := url.Parse("spiffe://mesh/service/prod/backend")
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names, URIs: []*url.URL{id}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func in(arn string, csr []byte) *acmpca.IssueCertificateInput {
	return &acmpca.IssueCertificateInput{
		CertificateAuthorityArn: &arn, Csr: csr, SigningAlgorithm: types.SigningAlgorithmSha256withecdsa, TemplateArn: aws.String(endEntity),
		Validity: &types.Validity{Type: types.ValidityPeriodTypeDays, Value: aws.Int64(7)},
	}
}

func code(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func parse(t *testing.T, text *string) []*x509.Certificate {
	t.Helper()
	var out []*x509.Certificate
	for block, rest := pem.Decode([]byte(aws.ToString(text))); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

// A CA comes to life as AWS's documentation says, and issues.
func TestFromCreationToCertificate(t *testing.T) {
	p := pca.New(pca.Options{Polls: 2})
	c := client(t, wire.New(wire.Options{Unlimited: true}, p.API()), "any", "key")
	ctx := t.Context()
	made, err := c.CreateCertificateAuthority(ctx, &acmpca.CreateCertificateAuthorityInput{
		CertificateAuthorityType: types.CertificateAuthorityTypeRoot, UsageMode: types.CertificateAuthorityUsageModeShortLivedCertificate,
		CertificateAuthorityConfiguration: &types.CertificateAuthorityConfiguration{
			KeyAlgorithm: types.KeyAlgorithmEcSecp384r1, SigningAlgorithm: types.SigningAlgorithmSha512withecdsa, Subject: &types.ASN1Subject{CommonName: aws.String("mesh root")},
		},
		Tags: []types.Tag{{Key: aws.String("AmazonECSManaged"), Value: aws.String("true")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	arn := made.CertificateAuthorityArn
	if _, err := c.IssueCertificate(ctx, in(*arn, request(t, "a"))); code(err) != "InvalidArgsException" && code(err) != "InvalidStateException" {
		t.Errorf("before it has a certificate: %v", err)
	}
	csr, err := c.GetCertificateAuthorityCsr(ctx, &acmpca.GetCertificateAuthorityCsrInput{CertificateAuthorityArn: arn})
	if err != nil {
		t.Fatal(err)
	}
	self := in(*arn, []byte(*csr.Csr))
	self.SigningAlgorithm, self.TemplateArn = types.SigningAlgorithmSha512withecdsa, aws.String("arn:aws:acm-pca:::template/RootCACertificate/V1")
	self.Validity = &types.Validity{Type: types.ValidityPeriodTypeYears, Value: aws.Int64(10)}
	rootCert := issueAndGet(t, c, self)
	if _, err := c.ImportCertificateAuthorityCertificate(ctx, &acmpca.ImportCertificateAuthorityCertificateInput{CertificateAuthorityArn: arn, Certificate: []byte(*rootCert.Certificate)}); err != nil {
		t.Fatal(err)
	}
	d, err := c.DescribeCertificateAuthority(ctx, &acmpca.DescribeCertificateAuthorityInput{CertificateAuthorityArn: arn})
	if err != nil || d.CertificateAuthority.Status != types.CertificateAuthorityStatusActive || d.CertificateAuthority.NotAfter.Before(time.Now().AddDate(9, 11, 0)) {
		t.Fatalf("%+v, %v", d, err)
	}
	leafIn := in(*arn, request(t, "backend.prod", "backend"))
	leafIn.SigningAlgorithm = types.SigningAlgorithmSha512withecdsa
	got := issueAndGet(t, c, leafIn)
	leaf, chain := parse(t, got.Certificate)[0], parse(t, got.CertificateChain)
	if len(chain) != 1 || !chain[0].Equal(parse(t, rootCert.Certificate)[0]) {
		t.Errorf("chain of %d", len(chain))
	}
	if err := leaf.CheckSignatureFrom(chain[0]); err != nil {
		t.Error(err)
	}
	if !slices.Equal(leaf.DNSNames, []string{"backend.prod", "backend"}) || len(leaf.URIs) != 1 || leaf.IsCA || leaf.SignatureAlgorithm != x509.ECDSAWithSHA512 {
		t.Errorf("leaf %v %v %v", leaf.DNSNames, leaf.URIs, leaf.SignatureAlgorithm)
	}
	if back := time.Since(leaf.NotBefore); back < 59*time.Minute || back > 61*time.Minute {
		t.Errorf("begins %s ago; want 60 min", back)
	}
}

func issueAndGet(t *testing.T, c *acmpca.Client, in *acmpca.IssueCertificateInput) *acmpca.GetCertificateOutput {
	t.Helper()
	issued, err := c.IssueCertificate(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	w := acmpca.NewCertificateIssuedWaiter(c, func(o *acmpca.CertificateIssuedWaiterOptions) {
		o.MinDelay, o.MaxDelay = time.Millisecond, time.Millisecond
	})
	out, err := w.WaitForOutput(t.Context(), &acmpca.GetCertificateInput{CertificateAuthorityArn: in.CertificateAuthorityArn, CertificateArn: issued.CertificateArn}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func must(t *testing.T, p *pca.PCA, s pca.Spec) string {
	t.Helper()
	arn, err := p.Make(s)
	if err != nil {
		t.Fatal(err)
	}
	return arn
}

// What AWS refuses is refused, with its word for it.
func TestRefusals(t *testing.T) {
	p := pca.New(pca.Options{})
	ec, short, gone := must(t, p, pca.Spec{}), must(t, p, pca.Spec{ShortLived: true}), must(t, p, pca.Spec{})
	ending := must(t, p, pca.Spec{Life: 24 * time.Hour})
	p.Set(gone, "DISABLED")
	c := client(t, wire.New(wire.Options{Unlimited: true}, p.API()), "any", "key")
	good := request(t, "a")
	bent := slices.Clone(good)
	bent[len(bent)/2] ^= 1
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, _ := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	unnamed := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	validity := func(kind types.ValidityPeriodType, n int64) *types.Validity {
		return &types.Validity{Type: kind, Value: &n}
	}
	for _, x := range []struct {
		name, want string
		change     func(*acmpca.IssueCertificateInput)
	}{
		{"good", "", func(*acmpca.IssueCertificateInput) {}},
		{"no ARN of a CA", "InvalidArnException", func(i *acmpca.IssueCertificateInput) { i.CertificateAuthorityArn = aws.String("arn:aws:acm:x") }},
		{"unknown CA", "ResourceNotFoundException", func(i *acmpca.IssueCertificateInput) {
			i.CertificateAuthorityArn = aws.String("arn:aws:acm-pca:us-east-1:111122223333:certificate-authority/12345678-1234-1234-1234-123456789012")
		}},
		{"disabled", "InvalidStateException", func(i *acmpca.IssueCertificateInput) { i.CertificateAuthorityArn = &gone }},
		{"bent CSR", "MalformedCSRException", func(i *acmpca.IssueCertificateInput) { i.Csr = bent }},
		{"no name", "MalformedCSRException", func(i *acmpca.IssueCertificateInput) { i.Csr = unnamed }},
		{"huge CSR", "ValidationException", func(i *acmpca.IssueCertificateInput) { i.Csr = make([]byte, 32769) }},
		{"RSA signature of an EC CA", "InvalidArgsException", func(i *acmpca.IssueCertificateInput) { i.SigningAlgorithm = types.SigningAlgorithmSha256withrsa }},
		{"unknown template", "InvalidArgsException", func(i *acmpca.IssueCertificateInput) { i.TemplateArn = aws.String(endEntity + "9") }},
		{"a root by a CSR", "InvalidArgsException", func(i *acmpca.IssueCertificateInput) {
			i.TemplateArn = aws.String("arn:aws:acm-pca:::template/RootCACertificate/V1")
		}},
		{"no days", "ValidationException", func(i *acmpca.IssueCertificateInput) { i.Validity = validity("DAYS", 0) }},
		{"8 days, short-lived", "ValidationException", func(i *acmpca.IssueCertificateInput) {
			i.CertificateAuthorityArn, i.Validity = &short, validity("DAYS", 8)
		}},
		{"a second over 7 days, short-lived", "ValidationException", func(i *acmpca.IssueCertificateInput) {
			i.CertificateAuthorityArn, i.Validity = &short, validity("ABSOLUTE", time.Now().Add(7*24*time.Hour+2*time.Second).Unix())
		}},
		{"7 days, short-lived", "", func(i *acmpca.IssueCertificateInput) { i.CertificateAuthorityArn = &short }},
		{"beyond its CA", "ValidationException", func(i *acmpca.IssueCertificateInput) { i.CertificateAuthorityArn = &ending }},
		{"over already", "ValidationException", func(i *acmpca.IssueCertificateInput) { i.Validity = validity("ABSOLUTE", time.Now().Unix()-1) }},
		{"NotBefore in days", "InvalidArgsException", func(i *acmpca.IssueCertificateInput) { i.ValidityNotBefore = validity("DAYS", 1) }},
		{"long token", "ValidationException", func(i *acmpca.IssueCertificateInput) { i.IdempotencyToken = aws.String(strings.Repeat("a", 37)) }},
	} {
		i := in(ec, good)
		x.change(i)
		if _, err := c.IssueCertificate(t.Context(), i); code(err) != x.want {
			t.Errorf("%s: %v; want %q", x.name, err, x.want)
		}
	}
}

// One token is one certificate, for five minutes.
func TestIdempotency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pca.New(pca.Options{})
		arn := must(t, p, pca.Spec{})
		s := wire.New(wire.Options{}, p.API())
		c := acmpca.New(acmpca.Options{Region: "us-east-1", BaseEndpoint: aws.String("http://aws"), HTTPClient: s.Client(), Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")})
		csr := request(t, "a")
		issue := func(token string) string {
			i := in(arn, csr)
			i.IdempotencyToken = &token
			out, err := c.IssueCertificate(t.Context(), i)
			if err != nil {
				t.Fatal(err)
			}
			return *out.CertificateArn
		}
		first := issue("one")
		time.Sleep(4 * time.Minute)
		if again := issue("one"); again != first {
			t.Error("the same token made another certificate within five minutes")
		}
		if other := issue("two"); other == first {
			t.Error("another token made the same certificate")
		}
		time.Sleep(2 * time.Minute)
		if late := issue("one"); late == first || p.Issued(arn) != 3 {
			t.Errorf("after six minutes: %d certificates", p.Issued(arn))
		}
	})
}

func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pca.New(pca.Options{})
		arn := must(t, p, pca.Spec{})
		s := wire.New(wire.Options{}, p.API())
		c := acmpca.New(acmpca.Options{Region: "us-east-1", BaseEndpoint: aws.String("http://aws"), HTTPClient: s.Client(), RetryMaxAttempts: 1, Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")})
		csr := request(t, "a")
		for range 10 { // a second each, 40 calls
			for range 40 {
				if _, err := c.IssueCertificate(t.Context(), in(arn, csr)); err != nil && code(err) != "ThrottlingException" {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Second)
		}
		if n := s.Count("IssueCertificate"); n != 250 || s.Throttled() != 150 {
			t.Errorf("%d issued, %d throttled; want 250 and 150", n, s.Throttled())
		}
	})
}

// A caller may do what its policy says, a foreign account what RAM shares.
func TestAccess(t *testing.T) {
	p := pca.New(pca.Options{})
	arn := must(t, p, pca.Spec{})
	policy, err := wire.ParsePolicy([]byte(`{"Statement":[{"Effect":"Allow","Action":["acm-pca:Issue*"],"Resource":"` + arn + `","Condition":{"StringEquals":{"acm-pca:TemplateArn":"` + endEntity + `"}}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	s := wire.New(wire.Options{Unlimited: true, Principals: map[string]wire.Principal{
		"mine":   {Secret: "s1", ARN: "arn:aws:iam::111122223333:user/mine", Statements: policy},
		"theirs": {Secret: "s2", Account: "444455556666", ARN: "arn:aws:iam::444455556666:user/theirs"},
	}}, p.API())
	mine, theirs, forged := client(t, s, "mine", "s1"), client(t, s, "theirs", "s2"), client(t, s, "mine", "guess")
	try := func(name string, c *acmpca.Client, template, want string) {
		t.Helper()
		i := in(arn, request(t, "a"))
		i.TemplateArn = &template
		_, err := c.IssueCertificate(t.Context(), i)
		if code(err) != want {
			t.Errorf("%s: %v; want %q", name, err, want)
		}
	}
	serverAuth := "arn:aws:acm-pca:::template/EndEntityServerAuthCertificate/V1"
	try("allowed", mine, endEntity, "")
	try("another template", mine, serverAuth, "AccessDeniedException")
	try("wrong secret", forged, endEntity, "InvalidSignatureException")
	try("not shared", theirs, endEntity, "AccessDeniedException")
	_, err = mine.DescribeCertificateAuthority(t.Context(), &acmpca.DescribeCertificateAuthorityInput{CertificateAuthorityArn: &arn})
	if code(err) != "AccessDeniedException" || !strings.Contains(err.Error(), "not authorized to perform: acm-pca:DescribeCertificateAuthority on resource: "+arn) {
		t.Errorf("not in the policy: %v", err)
	}
	p.Share(arn, "444455556666")
	try("shared", theirs, endEntity, "")
	try("shared, another template", theirs, serverAuth, "AccessDeniedException")
	if _, err = theirs.GetCertificateAuthorityCsr(t.Context(), &acmpca.GetCertificateAuthorityCsrInput{CertificateAuthorityArn: &arn}); code(err) != "AccessDeniedException" {
		t.Errorf("RAM does not offer the CSR: %v", err)
	}
}

func TestFaults(t *testing.T) {
	p := pca.New(pca.Options{})
	arn := must(t, p, pca.Spec{})
	s := wire.New(wire.Options{Unlimited: true}, p.API())
	c := client(t, s, "any", "key")
	i := in(arn, request(t, "a"))
	i.IdempotencyToken = aws.String("t")
	for _, f := range []struct {
		name, want string
		fault      wire.Fault
		issued     int
	}{
		{"throttled", "ThrottlingException", wire.Fault{Error: "ThrottlingException"}, 0},
		{"broken", "InternalFailure", wire.Fault{Error: "InternalFailure", Status: 500}, 0},
		{"hangs", "deadline exceeded", wire.Fault{Hang: true}, 0},
		{"lost", "EOF", wire.Fault{Lost: true}, 1},
		{"cut", "EOF", wire.Fault{Cut: true}, 1},
		{"late", "", wire.Fault{Latency: time.Millisecond}, 1},
	} {
		f.fault.Operation, f.fault.Times = "IssueCertificate", 1
		s.Inject(f.fault)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if f.fault.Hang {
			ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
		}
		_, err := c.IssueCertificate(ctx, i)
		cancel()
		if got := code(err); got != f.want && (err == nil || f.want == "" || !strings.Contains(err.Error(), f.want)) {
			t.Errorf("%s: %v; want %q", f.name, err, f.want)
		}
		if n := p.Issued(arn); n != f.issued {
			t.Errorf("%s: %d certificates", f.name, n)
		}
	}
}
