package sigv4

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
)

const secret = "a-secret-of-some-length"

var table = Keys{"control": {Secret: secret}, "dashboard": {Secret: "another-of-some-length", ReadOnly: true}}

// captured is what the SDK sends, as a server receives it.
func captured(t *testing.T, region string, call func(*sd.Client) error) (*http.Request, []byte) {
	t.Helper()
	var got *http.Request
	var body []byte
	c := sd.New(sd.Options{
		Region: region, BaseEndpoint: aws.String("http://cloudmap:18003/cm"), Credentials: credentials.NewStaticCredentialsProvider("control", secret, ""), RetryMaxAttempts: 1,
		HTTPClient: doer(func(r *http.Request) (*http.Response, error) {
			body, _ = io.ReadAll(r.Body)
			got = r
			got.Host = r.URL.Host
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}"))}, nil
		}),
	})
	if err := call(c); err != nil {
		t.Fatal(err)
	}
	return got, body
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

func discover(c *sd.Client) error {
	_, err := c.DiscoverInstances(context.Background(), &sd.DiscoverInstancesInput{NamespaceName: aws.String("demo"), ServiceName: aws.String("backend")})
	return err
}

func TestTheSDKsSignature(t *testing.T) {
	for _, region := range []string{"us-east-1", "eu-central-1", "local"} {
		r, body := captured(t, region, discover)
		if r.Host != "data-cloudmap:18003" {
			t.Fatalf("the host is %s", r.Host)
		}
		if key, err := table.Verify(r, body, time.Now()); err != nil || key.Secret != secret {
			t.Errorf("%s: %v", region, err)
		}
	}
}

// Each change of a signed request is found, and answered as AWS would.
func TestRefusals(t *testing.T) {
	header := func(name, value string) func(*http.Request, *[]byte) {
		return func(r *http.Request, _ *[]byte) { r.Header.Set(name, value) }
	}
	auth := func(old, changed string) func(*http.Request, *[]byte) {
		return func(r *http.Request, _ *[]byte) {
			v := r.Header.Get("Authorization")
			if !strings.Contains(v, old) {
				t.Fatalf("%q has no %q", v, old)
			}
			r.Header.Set("Authorization", strings.Replace(v, old, changed, 1))
		}
	}
	for what, c := range map[string]struct {
		change func(*http.Request, *[]byte)
		late   time.Duration
		code   string
	}{
		"another body":        {func(_ *http.Request, b *[]byte) { *b = bytes.Replace(*b, []byte("demo"), []byte("prod"), 1) }, 0, "InvalidSignatureException"},
		"another operation":   {header("X-Amz-Target", "Route53AutoNaming_v20170314.DeleteService"), 0, "InvalidSignatureException"},
		"another host":        {func(r *http.Request, _ *[]byte) { r.Host = "cloudmap:18003" }, 0, "InvalidSignatureException"},
		"another path":        {func(r *http.Request, _ *[]byte) { r.URL.Path = "/" }, 0, "InvalidSignatureException"},
		"another method":      {func(r *http.Request, _ *[]byte) { r.Method = "PUT" }, 0, "InvalidSignatureException"},
		"another query":       {func(r *http.Request, _ *[]byte) { r.URL.RawQuery = "a=b" }, 0, "InvalidSignatureException"},
		"another signed one":  {header("Amz-Sdk-Request", "attempt=2; max=9"), 0, "InvalidSignatureException"},
		"too old":             {nil, 16 * time.Minute, "InvalidSignatureException"},
		"too young":           {nil, -16 * time.Minute, "InvalidSignatureException"},
		"another time":        {header("X-Amz-Date", time.Now().UTC().Add(-time.Minute).Format(timeForm)), 0, "InvalidSignatureException"},
		"another day":         {header("X-Amz-Date", "20200101T000000Z"), 0, "InvalidSignatureException"},
		"no time":             {header("X-Amz-Date", ""), 0, "IncompleteSignatureException"},
		"an unknown key":      {auth("control/", "stranger/"), 0, "UnrecognizedClientException"},
		"another's key":       {auth("control/", "dashboard/"), 0, "InvalidSignatureException"},
		"another service":     {auth("/servicediscovery/", "/s3/"), 0, "InvalidSignatureException"},
		"another region":      {auth("/us-east-1/", "/us-east-2/"), 0, "InvalidSignatureException"},
		"another scope":       {auth("aws4_request", "aws5_request"), 0, "IncompleteSignatureException"},
		"another algorithm":   {auth("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), 0, "IncompleteSignatureException"},
		"a short signature":   {auth("Signature=", "Signature=00"), 0, "IncompleteSignatureException"},
		"no signature":        {auth("Signature=", "Nothing="), 0, "IncompleteSignatureException"},
		"an unsigned host":    {auth(";host;", ";"), 0, "IncompleteSignatureException"},
		"an unsigned target":  {auth(";x-amz-target", ""), 0, "IncompleteSignatureException"},
		"no Authorization":    {func(r *http.Request, _ *[]byte) { r.Header.Del("Authorization") }, 0, "MissingAuthenticationTokenException"},
		"two Authorizations":  {func(r *http.Request, _ *[]byte) { r.Header.Add("Authorization", r.Header.Get("Authorization")) }, 0, "IncompleteSignatureException"},
		"something else":      {header("Authorization", "Basic Y29udHJvbDpzZWNyZXQ="), 0, "IncompleteSignatureException"},
		"an empty body":       {func(_ *http.Request, b *[]byte) { *b = nil }, 0, "InvalidSignatureException"},
		"a flipped signature": {func(r *http.Request, _ *[]byte) { flip(r) }, 0, "InvalidSignatureException"},
	} {
		r, body := captured(t, "us-east-1", discover)
		if c.change != nil {
			c.change(r, &body)
		}
		_, err := table.Verify(r, body, time.Now().Add(c.late))
		var refusal *Refusal
		if !errors.As(err, &refusal) || refusal.Code != c.code || refusal.Reason == "" {
			t.Errorf("%s: %v, want %s", what, err, c.code)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the secret is in %q", what, err)
		}
	}
}

// flip changes the last digit of the signature.
func flip(r *http.Request) {
	a := []byte(r.Header.Get("Authorization"))
	if a[len(a)-1]++; a[len(a)-1] == 'g' || a[len(a)-1] == ':' {
		a[len(a)-1] = '1'
	}
	r.Header.Set("Authorization", string(a))
}

// What a signer leaves out is not held against it: a proxy may add headers.
func TestUnsignedHeadersAreFree(t *testing.T) {
	r, body := captured(t, "us-east-1", discover)
	r.Header.Set("Via", "1.1 proxy")
	r.Header.Set("User-Agent", "another")
	if _, err := table.Verify(r, body, time.Now()); err != nil {
		t.Error(err)
	}
}

// FuzzVerify: nothing that a caller sends makes it panic or lets it in.
func FuzzVerify(f *testing.F) {
	f.Add("POST", "/", "cloudmap", "AWS4-HMAC-SHA256 Credential=control/20260101/us-east-1/servicediscovery/aws4_request, SignedHeaders=host;x-amz-date, Signature="+strings.Repeat("00", 32), "20260101T000000Z", "{}")
	f.Add("GET", "/a b%2f?x=%", "", "AWS4-HMAC-SHA256 Credential=////,SignedHeaders=,Signature=", "", "")
	f.Fuzz(func(t *testing.T, method, target, host, auth, date, body string) {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://x/", strings.NewReader(body))
		if err != nil {
			return
		}
		r.URL.Path, r.Host = target, host
		r.Header.Set("Authorization", auth)
		r.Header.Set("X-Amz-Date", date)
		at, _ := time.Parse(timeForm, date)
		if _, err := table.Verify(r, []byte(body), at); err == nil && !genuine(r, body, at) {
			t.Fatalf("let in: %q", auth)
		}
	})
}

// genuine reports whether the signature is what the SDK's signer makes.
func genuine(r *http.Request, body string, at time.Time) bool {
	sum := sha256.Sum256([]byte(body))
	again := r.Clone(context.Background())
	for id, k := range table {
		err := v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: id, SecretAccessKey: k.Secret}, again, hex.EncodeToString(sum[:]), Service, "us-east-1", at)
		if err == nil && again.Header.Get("Authorization") == r.Header.Get("Authorization") {
			return true
		}
	}
	return false
}
