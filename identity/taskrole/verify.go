package taskrole

import (
	"bytes"
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/smithy-go"

	"patchbay/internal/iam"
)

// ErrRefused is matched by every refusal of a proof or of a caller. Other errors
// mean that AWS could not be asked: the caller may come again.
var ErrRefused = errors.New("the proof of the role is refused")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrRefused, fmt.Errorf(format, args...))
}

// fresh is how old or how early a signature may be. STS itself takes 15 min.
const fresh = 5 * time.Minute

// maxAnswer is far above what STS answers (about 500 bytes).
const maxAnswer = 16 << 10

// Caller is whom AWS names behind a signature.
type Caller struct {
	Account, Role, Session string // the name of the role, without its path
	ARN                    string
	// Signature identifies the proof until Expires: it must not be used twice.
	Signature string
	Expires   time.Time
}

// Verifier checks proofs. It is safe for concurrent use.
type Verifier struct {
	audience, region, host, url string
	client                      *http.Client
}

// NewVerifier checks proofs for one mesh with the STS of one region. endpoint
// is empty for AWS's own.
func NewVerifier(audience, region, endpoint string) *Verifier {
	v := &Verifier{audience: audience, region: region, host: Host(region)}
	v.url = "https://" + v.host + "/"
	if endpoint != "" {
		v.url = strings.TrimSuffix(endpoint, "/") + "/"
		_, v.host, _ = strings.Cut(strings.TrimSuffix(v.url, "/"), "://")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	v.client = &http.Client{
		Transport: transport, Timeout: 10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return v
}

// headers are those that a proof may have, and whether it must.
var headers = map[string]bool{
	"Authorization": true, "X-Amz-Date": true, audienceHeader: true, requestHeader: true, "Content-Type": true,
	"X-Amz-Security-Token": false,
}

var authorization = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=[A-Za-z0-9_]{4,128}/([0-9]{8})/([a-z0-9-]{1,32})/sts/aws4_request, ?SignedHeaders=([a-z0-9;-]{1,512}), ?Signature=([0-9a-f]{64})$`)

// Verify checks everything that can be checked here, then has AWS say whose
// signature it is. The caller must still claim the signature.
func (v *Verifier) Verify(ctx context.Context, proof string, csrDER []byte, now time.Time) (Caller, error) {
	s, err := parse(proof)
	if err != nil {
		return Caller{}, err
	}
	signature, at, err := v.check(s, csrDER, now)
	if err != nil {
		return Caller{}, err
	}
	c, err := v.ask(ctx, s)
	c.Signature, c.Expires = signature, at.Add(fresh)
	return c, err
}

func parse(proof string) (signed, error) {
	var s signed
	encoded, ok := strings.CutPrefix(proof, Prefix)
	if !ok || len(proof) > maxProof {
		return s, refuse("it has %d bytes and begins with %.10q; allowed: %d that begin with %q", len(proof), proof, maxProof, Prefix)
	}
	text, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return s, refuse("it is not base64url")
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil || dec.More() {
		return s, refuse("it is not a signed request")
	}
	return s, nil
}

// check holds a request against the one form that it may have.
func (v *Verifier) check(s signed, csrDER []byte, now time.Time) (signature string, at time.Time, err error) {
	for name, value := range s.Headers {
		if _, known := headers[name]; !known {
			return "", at, refuse("it has a header %.40q; allowed are those that it needs", name)
		}
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
			return "", at, refuse("its header %s is not printable ASCII", name)
		}
	}
	for name, must := range headers {
		if must && s.Headers[name] == "" {
			return "", at, refuse("it has no header %s", name)
		}
	}
	m := authorization.FindStringSubmatch(s.Headers["Authorization"])
	switch {
	case s.Body != callerBody:
		return "", at, refuse("its body asks for something else than GetCallerIdentity")
	case s.Headers["Content-Type"] != contentType:
		return "", at, refuse("its Content-Type is %.60q", s.Headers["Content-Type"])
	case s.Host != v.host:
		return "", at, refuse("it is for %.80q; this control plane asks %q: give the caller the region %s", s.Host, v.host, v.region)
	case m == nil:
		return "", at, refuse("its Authorization is not a Signature Version 4 for STS")
	case m[2] != v.region:
		return "", at, refuse("it is signed for region %.40q; allowed: %s", m[2], v.region)
	case subtle.ConstantTimeCompare([]byte(s.Headers[audienceHeader]), []byte(v.audience)) != 1:
		return "", at, refuse("it is for %.80q; this is %q", s.Headers[audienceHeader], v.audience)
	case subtle.ConstantTimeCompare([]byte(s.Headers[requestHeader]), []byte(digest(csrDER))) != 1:
		return "", at, refuse("it belongs to another certificate request")
	}
	if err := covers(strings.Split(m[3], ";"), s.Headers); err != nil {
		return "", at, err
	}
	at, err = time.Parse("20060102T150405Z", s.Headers["X-Amz-Date"])
	switch {
	case err != nil || at.Format("20060102") != m[1]:
		return "", at, refuse("its X-Amz-Date is not the time of its signature")
	case now.Sub(at).Abs() > fresh:
		return "", at, refuse("it was signed at %s, here it is %s; allowed: %s apart: compare the clocks", at.Format(time.RFC3339), now.UTC().Format(time.RFC3339), fresh)
	}
	return m[4], at, nil
}

// covers refuses a signature that leaves out a header.
func covers(names []string, have map[string]string) error {
	want := []string{"content-length", "host"}
	for name := range have {
		if name != "Authorization" {
			want = append(want, strings.ToLower(name))
		}
	}
	slices.Sort(want)
	if !slices.Equal(names, want) {
		return refuse("its signature covers %.200q; allowed: %q", names, want)
	}
	return nil
}

// answer is what STS says.
type answer struct {
	XMLName xml.Name `xml:"GetCallerIdentityResponse"`
	Results []struct {
		Arn, UserId, Account string //nolint:revive // AWS's names
	} `xml:"GetCallerIdentityResult"`
}

var assumedRole = regexp.MustCompile(`^arn:(aws[a-z-]*):sts::([0-9]{12}):assumed-role/([\w+=,.@-]{1,64})/([\w+=,.@-]{2,64})$`)

// ask sends the request to the STS of our choice, and to no other.
func (v *Verifier) ask(ctx context.Context, s signed) (Caller, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, v.url, strings.NewReader(callerBody))
	if err != nil {
		return Caller{}, fmt.Errorf("ask STS: %w", err)
	}
	r.Host = v.host
	for name, value := range s.Headers {
		r.Header.Set(name, value)
	}
	r.Header.Set("Accept", "text/xml")
	resp, err := v.client.Do(r)
	if err != nil {
		return Caller{}, fmt.Errorf("ask STS: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return Caller{}, fmt.Errorf("ask STS: %w", err)
	}
	switch kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";"); {
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		return Caller{}, fmt.Errorf("ask STS: %s", resp.Status)
	case resp.StatusCode != http.StatusOK:
		return Caller{}, refuse("AWS STS answers %s%s", resp.Status, said(text))
	case kind != "text/xml" || len(text) > maxAnswer:
		return Caller{}, refuse("what answers at %s is not STS: %d bytes of %.40q", v.url, len(text), kind)
	}
	return read(text)
}

// read takes the one result out of an answer.
func read(text []byte) (Caller, error) {
	var a answer
	dec := xml.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(&a); err != nil {
		return Caller{}, refuse("the answer of STS can't be read")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Caller{}, refuse("something follows the answer of STS")
	}
	if len(a.Results) != 1 {
		return Caller{}, refuse("the answer of STS holds %d results", len(a.Results))
	}
	m := assumedRole.FindStringSubmatch(strings.TrimSpace(a.Results[0].Arn))
	if m == nil || m[2] != strings.TrimSpace(a.Results[0].Account) {
		return Caller{}, refuse("the caller is %.200q; allowed: the role of a task or an instance, arn:aws:sts::ACCOUNT:assumed-role/ROLE/TASK", a.Results[0].Arn)
	}
	return Caller{Account: m[2], Role: m[3], Session: m[4], ARN: m[0]}, nil
}

// said is STS's own reason.
func said(text []byte) string {
	var e struct {
		Code    string `xml:"Error>Code"`
		Message string `xml:"Error>Message"`
	}
	if xml.Unmarshal(text, &e) != nil || e.Code == "" {
		return ""
	}
	err := iam.Explain(&smithy.GenericAPIError{Code: e.Code, Message: fmt.Sprintf("%.500s", e.Message)}, "sts:GetCallerIdentity", "")
	if denied, is := errors.AsType[*iam.Denied](err); is {
		denied.Who = cmp.Or(denied.Who, "the role of the caller")
		return fmt.Sprintf(": %v (every role may, unless the policy of a VPC endpoint or of the organization takes it away)", denied)
	}
	return fmt.Sprintf(": %.60s: %.200s", e.Code, e.Message)
}
