package program

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/acmpca"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/smithy-go"

	"patchbay/sidecar/ecs"
)

// open runs it on free ports until the test ends.
func open(t *testing.T, o Options) *Program {
	t.Helper()
	o.Listen, o.Metadata, o.Control = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	o.Region, o.Account, o.KeyAlgorithm, o.SigningAlgorithm = "us-east-1", "111122223333", "EC_secp384r1", "SHA512WITHECDSA"
	p, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	return p
}

// ask calls the control endpoint.
func ask(t *testing.T, p *Program, method, path, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, p.URL("control")+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// The unmodified SDK is served, meets the faults that were asked for, and is
// counted.
func TestAPIs(t *testing.T) {
	p := open(t, Options{ShortLived: true, Faults: []string{"operation=DescribeCertificateAuthority,error=ThrottlingException,times=1"}})
	keys := credentials.NewStaticCredentialsProvider("a", "b", "")
	ca := acmpca.New(acmpca.Options{Region: "us-east-1", BaseEndpoint: aws.String(p.URL("listen")), Credentials: keys, RetryMaxAttempts: 1})
	arn := p.CA()
	describe := func() (*acmpca.DescribeCertificateAuthorityOutput, error) {
		return ca.DescribeCertificateAuthority(t.Context(), &acmpca.DescribeCertificateAuthorityInput{CertificateAuthorityArn: &arn})
	}
	var refused smithy.APIError
	if _, err := describe(); !errors.As(err, &refused) || refused.ErrorCode() != "ThrottlingException" {
		t.Errorf("the first call: %v", err)
	}
	out, err := describe()
	if err != nil || out.CertificateAuthority.CertificateAuthorityConfiguration.KeyAlgorithm != "EC_secp384r1" || out.CertificateAuthority.UsageMode != "SHORT_LIVED_CERTIFICATE" {
		t.Errorf("the CA: %+v, %v", out, err)
	}
	maps := servicediscovery.New(servicediscovery.Options{Region: "us-east-1", BaseEndpoint: aws.String(p.URL("listen")), Credentials: keys, RetryMaxAttempts: 1})
	list := func() error {
		_, err := maps.ListNamespaces(t.Context(), &servicediscovery.ListNamespacesInput{})
		return err
	}
	if code, text := ask(t, p, "POST", "/faults", "service=servicediscovery,error=InternalFailure,status=500"); code != 200 {
		t.Fatal(code, text)
	}
	if err := list(); !errors.As(err, &refused) || refused.ErrorCode() != "InternalFailure" {
		t.Errorf("Cloud Map with a fault: %v", err)
	}
	ask(t, p, "DELETE", "/faults", "")
	if err := list(); err != nil {
		t.Errorf("Cloud Map: %v", err)
	}
	_, text := ask(t, p, "GET", "/calls", "")
	var sums []Sum
	if err := json.Unmarshal([]byte(text), &sums); err != nil {
		t.Fatal(err)
	}
	want := []Sum{{"acm-pca", "DescribeCertificateAuthority", 1, 1}, {"servicediscovery", "ListNamespaces", 1, 1}}
	if len(sums) != 2 || sums[0] != want[0] || sums[1] != want[1] {
		t.Errorf("calls: %+v, want %+v", sums, want)
	}
	if _, root := ask(t, p, "GET", "/ca", ""); !strings.HasPrefix(root, "-----BEGIN CERTIFICATE") {
		t.Errorf("the CA's certificate: %q", root)
	}
	if code, text := ask(t, p, "POST", "/faults", "operation=X,colour=red"); code != 400 || !strings.Contains(text, "allowed: service=") {
		t.Errorf("a fault that is none: %d %s", code, text)
	}
	if code, _ := ask(t, p, "POST", "/faults", "operation=X,times=2"); code != 400 {
		t.Error("a fault that does nothing was taken")
	}
}

// A task that was started is known to the metadata endpoint, as what the
// environment says.
func TestTask(t *testing.T) {
	p := open(t, Options{})
	const id = "0123456789abcdef0123456789abcdef"
	code, text := ask(t, p, "PUT", "/tasks/"+id, `{"cluster":"demo","service":"backend","role":"backend","address":"10.0.0.7","zone":"use1-az1","container":"app","ports":[8080]}`)
	var env []string
	if err := json.Unmarshal([]byte(text), &env); code != 200 || err != nil || len(env) != 2 {
		t.Fatalf("%d %s", code, text)
	}
	_, uri, _ := strings.Cut(env[0], "=")
	e, err := ecs.New(uri)
	if err != nil {
		t.Fatal(err)
	}
	task, err := e.Wait(t.Context(), nil)
	if err != nil || task.ID != id || task.ZoneID != "use1-az1" {
		t.Errorf("%+v, %v", task, err)
	}
	for path, want := range map[string]int{"/tasks/" + id: 200, "/tasks/unknown": 404} {
		if code, _ := ask(t, p, "DELETE", path, ""); code != want {
			t.Errorf("stop %s: %d", path, code)
		}
	}
	if code, _ := ask(t, p, "PUT", "/tasks/short", `{"cluster":"demo"}`); code != 400 {
		t.Errorf("a task with another id: %d", code)
	}
}
