package sigv4

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Service is the signing name of Cloud Map.
const Service = "servicediscovery"

// maxSkew is how far a caller's clock may be off: AWS's 15 minutes.
const maxSkew = 15 * time.Minute

// Refusal says why a request isn't let in. Code is AWS's, for the answer.
type Refusal struct{ Code, Reason string }

func (r *Refusal) Error() string { return r.Code + ": " + r.Reason }

func refuse(code, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Reason: fmt.Sprintf(format, args...)}
}

const (
	algorithm = "AWS4-HMAC-SHA256"
	timeForm  = "20060102T150405Z"
)

var (
	keyID  = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)
	region = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)
)

// claim is what a request's Authorization header says.
type claim struct {
	id, date, region string
	headers          []string
	signature        []byte
}

// Verify checks that r, which has this body and has come at now, was signed
// with one of the keys, for the Host and path as they were received. Errors
// are of type *Refusal and hold no key material.
func (k Keys) Verify(r *http.Request, body []byte, now time.Time) (Key, error) {
	c, err := parse(r.Header.Values("Authorization"))
	if err != nil {
		return Key{}, err
	}
	at, err := time.Parse(timeForm, r.Header.Get("X-Amz-Date"))
	if err != nil {
		return Key{}, refuse("IncompleteSignatureException", "the header X-Amz-Date is missing or has not the form %s", timeForm)
	}
	if at.Format("20060102") != c.date {
		return Key{}, refuse("InvalidSignatureException", "the date of the credential scope is not that of X-Amz-Date")
	}
	if d := now.Sub(at).Abs(); d > maxSkew {
		return Key{}, refuse("InvalidSignatureException", "Signature expired or not yet current: the request is dated %s, it is %s here; at most %s are allowed", at.Format(timeForm), now.UTC().Format(timeForm), maxSkew)
	}
	key, ok := k[c.id]
	if !ok {
		return Key{}, refuse("UnrecognizedClientException", "the access key id %s is not in the registry's table of keys", c.id)
	}
	want, err := sign(r, body, c, key, at)
	if err != nil {
		return Key{}, err
	}
	if subtle.ConstantTimeCompare(want, c.signature) != 1 {
		return Key{}, refuse("InvalidSignatureException", "the signature does not fit the request as it arrived (host %q): the secret is another, or something on the way has changed the request", r.Host)
	}
	return key, nil
}

// parse reads the header
// AWS4-HMAC-SHA256 Credential=ID/DATE/REGION/SERVICE/aws4_request, SignedHeaders=a;b, Signature=HEX.
func parse(values []string) (claim, error) {
	if len(values) == 0 {
		return claim{}, refuse("MissingAuthenticationTokenException", "the request is not signed; this registry asks for an access key")
	}
	rest, ok := strings.CutPrefix(values[0], algorithm+" ")
	if !ok || len(values) > 1 {
		return claim{}, refuse("IncompleteSignatureException", "the header Authorization does not start with %s", algorithm)
	}
	fields := map[string]string{}
	for f := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(f), "=")
		fields[name] = value
	}
	scope := strings.Split(fields["Credential"], "/")
	signature, err := hex.DecodeString(fields["Signature"])
	headers := strings.Split(fields["SignedHeaders"], ";")
	switch {
	case len(scope) != 5 || scope[4] != "aws4_request" || !keyID.MatchString(scope[0]) || !region.MatchString(scope[2]):
		return claim{}, refuse("IncompleteSignatureException", "Credential has not the form ID/DATE/REGION/%s/aws4_request", Service)
	case scope[3] != Service:
		return claim{}, refuse("InvalidSignatureException", "the request is signed for another service than %s", Service)
	case err != nil || len(signature) != sha256.Size:
		return claim{}, refuse("IncompleteSignatureException", "Signature is not the hexadecimal form of a SHA-256")
	}
	signed := map[string]bool{}
	for _, h := range headers {
		signed[h] = true
	}
	for _, h := range []string{"host", "x-amz-date"} {
		if !signed[h] {
			return claim{}, refuse("IncompleteSignatureException", "the header %s is not signed", h)
		}
	}
	return claim{id: scope[0], date: scope[1], region: scope[2], headers: headers, signature: signature}, nil
}

// sign signs the request again, with the headers that the caller signed and no
// others, and returns the signature.
func sign(r *http.Request, body []byte, c claim, key Key, at time.Time) ([]byte, error) {
	again := &http.Request{
		Method: r.Method, Host: r.Host, Header: http.Header{},
		URL: &url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery},
	}
	if again.URL.Path == "" {
		again.URL.Path = "/" // absolute-form without a path
	}
	for _, h := range c.headers {
		switch h {
		case "host":
		case "content-length":
			again.ContentLength = int64(len(body))
		default:
			name := http.CanonicalHeaderKey(h)
			if v := r.Header.Values(name); len(v) > 0 {
				again.Header[name] = append([]string(nil), v...)
			}
		}
	}
	// X-Amz-Target says what is asked for; an unsigned one could be exchanged.
	if r.Header.Get("X-Amz-Target") != "" && again.Header.Get("X-Amz-Target") == "" {
		return nil, refuse("IncompleteSignatureException", "the header x-amz-target is not signed")
	}
	sum := sha256.Sum256(body)
	// A new signer each time: one that lasts would keep a derived key for
	// every region that anybody ever names.
	err := v4.NewSigner().SignHTTP(r.Context(), aws.Credentials{AccessKeyID: c.id, SecretAccessKey: key.Secret}, again, hex.EncodeToString(sum[:]), Service, c.region, at)
	if err != nil {
		return nil, refuse("InvalidSignatureException", "the request could not be signed again")
	}
	mine, err := parse(again.Header.Values("Authorization"))
	if err != nil {
		return nil, err
	}
	return mine.signature, nil
}
