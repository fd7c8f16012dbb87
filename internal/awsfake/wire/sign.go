package wire

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// maxSkew is AWS's.
const maxSkew = 15 * time.Minute

// authorization is what the header of that name says.
type authorization struct {
	id, date, region, service string
	headers                   []string
	signature                 string
}

func parseAuthorization(header string) (authorization, bool) {
	rest, ok := strings.CutPrefix(header, "AWS4-HMAC-SHA256 ")
	fields := map[string]string{}
	for f := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(f), "=")
		fields[name] = value
	}
	scope := strings.Split(fields["Credential"], "/")
	if !ok || len(scope) != 5 || scope[4] != "aws4_request" || fields["Signature"] == "" {
		return authorization{}, false
	}
	return authorization{scope[0], scope[1], scope[2], scope[3], strings.Split(fields["SignedHeaders"], ";"), fields["Signature"]}, true
}

// authenticate finds out who calls.
func (s *Server) authenticate(r *http.Request, body []byte, service string) (Principal, error) {
	a, ok := parseAuthorization(r.Header.Get("Authorization"))
	if !ok {
		return Principal{}, Fail("MissingAuthenticationTokenException", "Missing Authentication Token")
	}
	s.mu.Lock()
	p, known := s.roles[a.id]
	s.mu.Unlock()
	if !known {
		p, known = s.o.Principals[a.id]
	}
	switch {
	case !known && s.o.Principals == nil:
		return Principal{Account: s.o.Account, ARN: "arn:aws:iam::" + s.o.Account + ":root", UserID: s.o.Account}, nil
	case !known:
		return Principal{}, Fail("UnrecognizedClientException", "The security token included in the request is invalid.")
	case service != "" && a.service != service:
		return Principal{}, Fail("InvalidSignatureException", "Credential should be scoped to correct service: '%s'.", service)
	case p.Token != r.Header.Get("X-Amz-Security-Token"):
		return Principal{}, Fail("UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || time.Since(at).Abs() > maxSkew || at.Format("20060102") != a.date {
		return Principal{}, Fail("InvalidSignatureException", "Signature expired: %s is now %s", r.Header.Get("X-Amz-Date"), time.Now().UTC().Format(time.RFC3339))
	}
	if want := resign(r, body, a, p, at); subtle.ConstantTimeCompare([]byte(want), []byte(a.signature)) != 1 {
		return Principal{}, Fail("InvalidSignatureException", "The request signature we calculated does not match the signature you provided.")
	}
	if p.Account == "" {
		p.Account = s.o.Account
	}
	return p, nil
}

// resign is the signature that the request should have.
func resign(r *http.Request, body []byte, a authorization, p Principal, at time.Time) string {
	again := &http.Request{
		Method: r.Method, Host: r.Host, Header: http.Header{},
		URL: &url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery},
	}
	if again.URL.Path == "" {
		again.URL.Path = "/"
	}
	for _, h := range a.headers {
		switch name := http.CanonicalHeaderKey(h); h {
		case "host":
		case "content-length":
			again.ContentLength = int64(len(body))
		default:
			again.Header[name] = r.Header.Values(name)
		}
	}
	sum := sha256.Sum256(body)
	creds := aws.Credentials{AccessKeyID: a.id, SecretAccessKey: p.Secret, SessionToken: p.Token}
	if err := v4.NewSigner().SignHTTP(r.Context(), creds, again, hex.EncodeToString(sum[:]), a.service, a.region, at); err != nil {
		return ""
	}
	mine, _ := parseAuthorization(again.Header.Get("Authorization"))
	return mine.signature
}
