package privateca_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"patchbay/internal/awsfake/pca"
	"patchbay/internal/awsfake/wire"
	"patchbay/mesh"
	"patchbay/pki/issue"
	"patchbay/pki/privateca"
)

func TestIssue(t *testing.T) {
	for _, x := range []struct {
		name       string
		spec       pca.Spec
		want, life time.Duration // asked for, given
	}{
		{"as ECS", pca.Spec{}, 0, 7 * 24 * time.Hour},
		{"short-lived", pca.Spec{ShortLived: true}, 0, 7*24*time.Hour - 5*time.Minute},
		{"short-lived, asked for more", pca.Spec{ShortLived: true}, 30 * 24 * time.Hour, 7*24*time.Hour - 5*time.Minute},
		{"thirty days", pca.Spec{}, 30 * 24 * time.Hour, 30 * 24 * time.Hour},
		{"hours", pca.Spec{}, 90 * time.Minute, 90 * time.Minute},
		{"a CA that ends before", pca.Spec{Life: 50 * time.Hour}, 0, 50*time.Hour - time.Minute},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t, pca.Options{Polls: 1, Unseen: 1}, wire.Options{}, x.spec)
			c := w.ca(func(o *privateca.Options) { o.Lifetime = x.want })
			before := time.Now()
			leaf := w.issue(c, request())
			if got := leaf.NotAfter.Sub(before); got < x.life-3*time.Second || got > x.life+3*time.Second {
				t.Errorf("lives for %s; want %s", got, x.life)
			}
			if leaf.IssuedAt.Before(before) || leaf.IssuedAt.Sub(leaf.NotBefore) < 59*time.Minute {
				t.Errorf("issued at %s, begins at %s: a renewal must count from the issue", leaf.IssuedAt, leaf.NotBefore)
			}
			for _, call := range w.aws.Calls() {
				if call.Operation == "IssueCertificate" && call.Context["acm-pca:TemplateArn"] != privateca.DefaultTemplate {
					t.Errorf("template %s", call.Context)
				}
			}
		})
	}
}

// One prepared key is one certificate, also where AWS's answer was lost.
func TestOneCertificateForOnePreparedKey(t *testing.T) {
	w := newWorld(t, pca.Options{}, wire.Options{}, pca.Spec{})
	c, r := w.ca(nil), request()
	p, err := r.Prepare()
	if err != nil {
		t.Fatal(err)
	}
	r.Prepared = p
	w.aws.Inject(wire.Fault{Operation: "IssueCertificate", Times: 1, Lost: true})
	w.aws.Inject(wire.Fault{Operation: "IssueCertificate", Times: 1, Cut: true})
	if _, err := c.Issue(t.Context(), r); err == nil { // lost: the SDK asks again; cut: it does not
		t.Error("half an answer was taken for a whole one")
	}
	first, second := w.issue(c, r), w.issue(w.ca(nil), r)
	if first.Serial != second.Serial || w.pca.Issued(w.arn) != 1 {
		t.Errorf("serials %s and %s, %d certificates", first.Serial, second.Serial, w.pca.Issued(w.arn))
	}
}

// Whatever AWS does while a certificate is made, it is fetched in the end.
func TestTroubleWhileCollecting(t *testing.T) {
	w := newWorld(t, pca.Options{Polls: 2}, wire.Options{}, pca.Spec{})
	for _, f := range []wire.Fault{{Error: "ThrottlingException"}, {Error: "InternalFailure", Status: 500}, {Cut: true}, {Lost: true}, {Latency: 10 * time.Millisecond}} {
		f.Operation, f.Times = "GetCertificate", 1
		w.aws.Inject(f)
	}
	w.issue(w.ca(nil), request())
	if n := w.pca.Issued(w.arn); n != 1 {
		t.Errorf("%d certificates", n)
	}
}

func TestRefusals(t *testing.T) {
	for _, x := range []struct {
		name, status, fault string
		want                []string
	}{
		{"disabled", "DISABLED", "", []string{"InvalidStateException", "must be ACTIVE", "UpdateCertificateAuthority"}},
		{"no certificate yet", "PENDING_CERTIFICATE", "", []string{"ImportCertificateAuthorityCertificate"}},
		{"deleted", "DELETED", "", []string{"RestoreCertificateAuthority"}},
		{"quota", "", "LimitExceededException", []string{"L-F99AB81B"}},
		{"credentials", "", "UnrecognizedClientException", []string{"task role"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t, pca.Options{}, wire.Options{}, pca.Spec{})
			if x.status != "" {
				w.pca.Set(w.arn, x.status)
			}
			if x.fault != "" {
				w.aws.Inject(wire.Fault{Operation: "IssueCertificate", Error: x.fault})
			}
			_, err := w.ca(nil).Issue(t.Context(), request())
			for _, want := range append(x.want, w.arn, "backend.prod") {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v; want %q", err, want)
				}
			}
			if errors.Is(err, issue.ErrThrottled) {
				t.Errorf("taken for a throttle: %v", err)
			}
		})
	}
}

func TestUnknownCA(t *testing.T) {
	w := newWorld(t, pca.Options{}, wire.Options{}, pca.Spec{})
	other := "arn:aws:acm-pca:eu-west-1:111122223333:certificate-authority/12345678-1234-1234-1234-123456789012"
	_, err := w.ca(func(o *privateca.Options) { o.ARN = other }).Roots(t.Context())
	if err == nil || !strings.Contains(err.Error(), "eu-west-1") || !strings.Contains(err.Error(), "RAM") {
		t.Errorf("%v", err)
	}
}

// A throttle is the rotator's matter, and costs one call.
func TestThrottled(t *testing.T) {
	w := newWorld(t, pca.Options{}, wire.Options{}, pca.Spec{})
	c := w.ca(nil)
	w.roots(c)
	w.aws.Inject(wire.Fault{Operation: "IssueCertificate", Error: "ThrottlingException"})
	if _, err := c.Issue(t.Context(), request()); !errors.Is(err, issue.ErrThrottled) || !strings.Contains(err.Error(), "Rate exceeded") {
		t.Errorf("%v", err)
	}
	if n := w.aws.Throttled(); n != 1 {
		t.Errorf("%d calls", n)
	}
}

// A role without a permission is told the action, the resource, and the
// statement that allows it; with all of these statements it works.
func TestMissingPermissions(t *testing.T) {
	w := newWorld(t, pca.Options{}, wire.Options{}, pca.Spec{})
	statement := regexp.MustCompile(`this statement in its policy allows it: (\{.*?\}) \(`)
	role := wire.Principal{Secret: "secret", ARN: "arn:aws:sts::111122223333:assumed-role/patchbay/1", Statements: []wire.Statement{{Effect: "Allow", Action: wire.List{"s3:*"}, Resource: wire.List{"*"}}}}
	seen := map[string]bool{}
	for range 10 {
		w.aws.Grant("patchbay", role)
		_, err := w.ca(nil).Issue(t.Context(), request())
		if err == nil {
			break
		}
		found := statement.FindStringSubmatch(err.Error())
		if found == nil {
			t.Fatalf("no statement in: %v", err)
		}
		var s wire.Statement
		if err := json.Unmarshal([]byte(found[1]), &s); err != nil {
			t.Fatalf("%s: %v", found[1], err)
		}
		if seen[s.Action[0]] || s.Resource[0] != w.arn || !strings.Contains(err.Error(), "may not "+s.Action[0]+" on "+w.arn) {
			t.Fatalf("said again, or unclear: %v", err)
		}
		seen[s.Action[0]] = true
		role.Statements = append(role.Statements, s)
	}
	for _, a := range []string{"DescribeCertificateAuthority", "GetCertificateAuthorityCertificate", "IssueCertificate", "GetCertificate"} {
		if !seen["acm-pca:"+a] {
			t.Errorf("%s was never asked for: %v", a, seen)
		}
	}
	if len(seen) != 4 {
		t.Errorf("asked for %v", seen)
	}
}

// A CA of another account, shared by RAM's default permission, is enough.
func TestSharedCA(t *testing.T) {
	w := newWorld(t, pca.Options{}, wire.Options{Account: "444455556666"}, pca.Spec{Account: "111122223333"})
	c := w.ca(nil)
	if _, err := c.Issue(t.Context(), request()); err == nil || !strings.Contains(err.Error(), "shared by AWS RAM") {
		t.Errorf("not shared: %v", err)
	}
	w.pca.Share(w.arn, "444455556666")
	w.issue(c, request())
}

func TestEndingCA(t *testing.T) {
	w := newWorld(t, pca.Options{}, wire.Options{}, pca.Spec{Life: 30 * time.Minute})
	_, err := w.ca(nil).Issue(t.Context(), request())
	if err == nil || !strings.Contains(err.Error(), "the CA's own certificate ends at") || w.pca.Issued(w.arn) != 0 {
		t.Errorf("%v", err)
	}
}

// AWS that does not answer holds nobody longer than the timeout, and what was
// known of the CA goes on to count.
func TestStuckAWS(t *testing.T) {
	w := newWorld(t, pca.Options{}, wire.Options{}, pca.Spec{})
	c := w.ca(func(o *privateca.Options) { o.Timeout = 50 * time.Millisecond })
	clear := w.aws.Inject(wire.Fault{Operation: "DescribeCertificateAuthority", Hang: true})
	if _, err := c.Roots(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	clear()
	ca := w.ca(nil)
	w.issue(ca, request())
	w.aws.Inject(wire.Fault{Operation: "DescribeCertificateAuthority", Error: "InternalFailure", Status: 500})
	w.aws.Inject(wire.Fault{Operation: "IssueCertificate", Error: "InvalidStateException", Times: 1})
	if _, err := ca.Issue(t.Context(), request()); err == nil {
		t.Fatal("issued in spite of its refusal")
	}
	w.issue(ca, request()) // the facts are in doubt and can't be asked for: they count
}

// What changes with a CA (its certificate is renewed) is seen within five minutes.
func TestFactsAreFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pca.New(pca.Options{})
		arn := makeCA(t, p, pca.Spec{Life: 100 * time.Hour})
		s := wire.New(wire.Options{}, p.API())
		c, err := privateca.New(aws.Config{HTTPClient: s.Client(), Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")}, privateca.Options{ARN: arn, Endpoint: "http://aws"})
		if err != nil {
			t.Fatal(err)
		}
		issue := func() *mesh.Leaf {
			leaf, err := c.Issue(t.Context(), request())
			if err != nil {
				t.Fatal(err)
			}
			return leaf
		}
		if life := time.Until(issue().NotAfter); life > 100*time.Hour {
			t.Errorf("beyond its CA: %s", life)
		}
		if err := p.Renew(arn, 1000*time.Hour); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		if life := time.Until(issue().NotAfter); life < 167*time.Hour {
			t.Errorf("after the CA was renewed: %s", life)
		}
		for range 100 {
			issue()
			time.Sleep(6 * time.Second)
		}
		if n := s.Count("DescribeCertificateAuthority"); n > 4 {
			t.Errorf("described %d times in a quarter of an hour", n)
		}
	})
}

func TestOptionsAllProblemsAtOnce(t *testing.T) {
	_, err := privateca.New(aws.Config{}, privateca.Options{ARN: "arn:aws:acm:x", Lifetime: time.Minute, Template: "t", Rate: -1})
	for _, want := range []string{"arn:", "lifetime:", "template:", "rate:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}

// The default template takes the SPIFFE ID from the request, and is for clients
// too; one that is for servers only is noticed.
func TestACertificateToCallWith(t *testing.T) {
	w := newWorld(t, pca.Options{}, wire.Options{}, pca.Spec{KeyAlgorithm: "EC_prime256v1", SigningAlgorithm: "SHA256WITHECDSA"})
	who := mesh.Workload{Namespace: "prod", Name: "frontend"}
	leaf := w.issue(w.ca(nil), issue.ForWorkload("mesh.test", who))
	c := parse(t, leaf.ChainPEM)[0]
	if len(c.DNSNames) > 0 || len(c.URIs) != 1 || c.URIs[0].String() != who.SPIFFEID("mesh.test") || !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		t.Errorf("%v %v, for %v", c.DNSNames, c.URIs, c.ExtKeyUsage)
	}
	servers := w.ca(func(o *privateca.Options) {
		o.Template = "arn:aws:acm-pca:::template/EndEntityServerAuthCertificate/V1"
	})
	if _, err := servers.Issue(t.Context(), issue.ForWorkload("mesh.test", who)); err == nil || !strings.Contains(err.Error(), "clientAuth") {
		t.Errorf("with a template for servers: %v", err)
	}
}
