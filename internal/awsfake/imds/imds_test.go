package imds

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
)

var machine = Instance{
	ID: "i-0123456789abcdef0", Account: "111122223333", Address: "10.0.1.17", Region: "eu-west-1", Zone: "eu-west-1a", ZoneID: "euw1-az2",
	Role: "backend", KeyID: "ASIA1", Secret: "secret", Token: "token",
}

// TestSDK: the unmodified SDK finds credentials, region and document.
func TestSDK(t *testing.T) {
	s := New(machine)
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_EC2_METADATA_DISABLED", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", t.TempDir()) // no file of the developer's
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", h.URL)
	cfg, err := awsconfig.LoadDefaultConfig(t.Context(), awsconfig.WithEC2IMDSRegion())
	if err != nil {
		t.Fatal(err)
	}
	creds, err := cfg.Credentials.Retrieve(t.Context())
	if err != nil || cfg.Region != "eu-west-1" || creds.AccessKeyID != "ASIA1" || creds.SecretAccessKey != "secret" || creds.SessionToken != "token" || !creds.CanExpire {
		t.Errorf("%s, %+v, %v", cfg.Region, creds, err)
	}
	client := imds.NewFromConfig(cfg)
	d, err := client.GetInstanceIdentityDocument(t.Context(), nil)
	if err != nil || d.InstanceID != machine.ID || d.PrivateIP != "10.0.1.17" || d.AccountID != "111122223333" {
		t.Errorf("%+v, %v", d, err)
	}
	got, err := client.GetMetadata(t.Context(), &imds.GetMetadataInput{Path: "placement/availability-zone-id"})
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(got.Content); string(text) != "euw1-az2" {
		t.Errorf("%s, %v", text, err)
	}
}

// TestSessions: nothing is said without a session, which proxies get none of.
func TestSessions(t *testing.T) {
	s := New(machine)
	ask := func(method, path string, headers ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	const id = "/latest/meta-data/instance-id"
	token := ask(http.MethodPut, "/latest/api/token", ttlHeader, "60").Body.String()
	for name, x := range map[string]struct {
		got  *httptest.ResponseRecorder
		want int
	}{
		"version 1":              {ask(http.MethodGet, id), http.StatusUnauthorized},
		"a token guessed":        {ask(http.MethodGet, id, tokenHeader, "x"), http.StatusUnauthorized},
		"with a session":         {ask(http.MethodGet, id, tokenHeader, token), http.StatusOK},
		"no such path":           {ask(http.MethodGet, "/latest/meta-data/nothing", tokenHeader, token), http.StatusNotFound},
		"another role":           {ask(http.MethodGet, "/latest/meta-data/iam/security-credentials/other", tokenHeader, token), http.StatusNotFound},
		"session without an end": {ask(http.MethodPut, "/latest/api/token"), http.StatusBadRequest},
		"session too long":       {ask(http.MethodPut, "/latest/api/token", ttlHeader, "21601"), http.StatusBadRequest},
		"session by GET":         {ask(http.MethodGet, "/latest/api/token", ttlHeader, "60"), http.StatusMethodNotAllowed},
		"by a proxy":             {ask(http.MethodPut, "/latest/api/token", ttlHeader, "60", "X-Forwarded-For", "10.0.0.1"), http.StatusForbidden},
	} {
		if x.got.Code != x.want {
			t.Errorf("%s: %d", name, x.got.Code)
		}
	}
	s.Disable(true)
	if got := ask(http.MethodGet, id, tokenHeader, token); got.Code != http.StatusForbidden {
		t.Errorf("switched off: %d", got.Code)
	}
}
