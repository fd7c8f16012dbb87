package secrets_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"patchbay/internal/awsfake/secrets"
	"patchbay/internal/awsfake/wire"
)

func client(h *http.Client) *sm.Client {
	return sm.New(sm.Options{Region: "us-east-1", BaseEndpoint: aws.String("http://aws"), HTTPClient: h, RetryMaxAttempts: 1, Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")})
}

func start(o secrets.Options) (*sm.Client, *wire.Server) {
	s := wire.New(wire.Options{}, secrets.New(o).API())
	return client(s.Client()), s
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

func token(n string) *string { return aws.String(strings.Repeat(n, 32/len(n))) }

func put(c *sm.Client, t *testing.T, tok, value string, stages ...string) error {
	_, err := c.PutSecretValue(t.Context(), &sm.PutSecretValueInput{SecretId: aws.String("x"), ClientRequestToken: token(tok), SecretString: &value, VersionStages: stages})
	return err
}

func stages(c *sm.Client, t *testing.T) map[string][]string {
	t.Helper()
	d, err := c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String("x")})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for id, s := range d.VersionIdsToStages {
		out[id[:1]] = s
	}
	return out
}

func want(t *testing.T, what string, err error, code_ string) {
	t.Helper()
	if got := code(err); got != code_ {
		t.Errorf("%s: %v; want %q", what, err, code_)
	}
}

func create(c *sm.Client, t *testing.T, name string, value *string) error {
	_, err := c.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: &name, ClientRequestToken: token("0"), SecretString: value})
	return err
}

func TestVersionsAndLabels(t *testing.T) {
	c, _ := start(secrets.Options{})
	want(t, "create", create(c, t, "x", nil), "")
	want(t, "create again", create(c, t, "x", aws.String("v")), "ResourceExistsException")
	_, err := c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: aws.String("x")})
	want(t, "no value yet", err, "ResourceNotFoundException")
	want(t, "put pending", put(c, t, "a", "1", "AWSPENDING"), "")
	want(t, "the same again", put(c, t, "a", "1", "AWSPENDING"), "")
	want(t, "the token again", put(c, t, "a", "2", "AWSPENDING"), "ResourceExistsException")
	if d := cmp.Diff(map[string][]string{"a": {"AWSPENDING"}}, stages(c, t)); d != "" {
		t.Error(d)
	}
	want(t, "put current", put(c, t, "b", "2"), "")
	want(t, "next current", put(c, t, "c", "3"), "")
	if d := cmp.Diff(map[string][]string{"a": {"AWSPENDING"}, "b": {"AWSPREVIOUS"}, "c": {"AWSCURRENT"}}, stages(c, t)); d != "" {
		t.Error(d)
	}
	move := func(to, from *string) error {
		_, err := c.UpdateSecretVersionStage(t.Context(), &sm.UpdateSecretVersionStageInput{SecretId: aws.String("x"), VersionStage: aws.String("AWSCURRENT"), MoveToVersionId: to, RemoveFromVersionId: from})
		return err
	}
	want(t, "move without from", move(token("a"), nil), "InvalidParameterException")
	want(t, "move from elsewhere", move(token("a"), token("b")), "InvalidParameterException")
	want(t, "move to nowhere", move(token("z"), token("c")), "ResourceNotFoundException")
	want(t, "remove AWSCURRENT", move(nil, token("c")), "InvalidParameterException")
	want(t, "move", move(token("a"), token("c")), "")
	want(t, "move twice", move(token("a"), token("c")), "InvalidParameterException")
	if d := cmp.Diff(map[string][]string{"a": {"AWSPENDING", "AWSCURRENT"}, "c": {"AWSPREVIOUS"}}, stages(c, t)); d != "" {
		t.Error(d)
	}
	got, err := c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: aws.String("x")})
	if err != nil || *got.SecretString != "1" || *got.VersionId != *token("a") {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: aws.String("x"), VersionId: token("b")})
	want(t, "by version, without a label", err, "")
}

func TestRefusals(t *testing.T) {
	c, _ := start(secrets.Options{Keys: []secrets.Key{{ARN: "arn:aws:kms:us-east-1:111122223333:key/1", Alias: "alias/mine"}}})
	for name, wants := range map[string]string{"ecs-sc!x": "ValidationException", "a b": "ValidationException", "arn:x": "ValidationException", strings.Repeat("n", 513): "ValidationException", "ecs-sc/prod/a": ""} {
		want(t, name, create(c, t, name, nil), wants)
	}
	want(t, "big", create(c, t, "big", aws.String(strings.Repeat("v", 65537))), "ValidationException")
	_, err := c.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String("k"), KmsKeyId: aws.String("alias/other")})
	want(t, "no such key", err, "EncryptionFailure")
	_, err = c.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String("x"), KmsKeyId: aws.String("alias/mine")})
	want(t, "key", err, "")
	_, err = c.PutSecretValue(t.Context(), &sm.PutSecretValueInput{SecretId: aws.String("x"), ClientRequestToken: aws.String("short"), SecretString: aws.String("v")})
	want(t, "short token", err, "ValidationException")
	_, err = c.PutSecretValue(t.Context(), &sm.PutSecretValueInput{SecretId: aws.String("none"), SecretString: aws.String("v")})
	want(t, "unknown", err, "ResourceNotFoundException")
	_, err = c.DeleteSecret(t.Context(), &sm.DeleteSecretInput{SecretId: aws.String("x")})
	want(t, "delete", err, "")
	want(t, "put to the deleted", put(c, t, "a", "1"), "InvalidRequestException")
	want(t, "create what waits for deletion", create(c, t, "x", nil), "InvalidRequestException")
	_, err = c.RestoreSecret(t.Context(), &sm.RestoreSecretInput{SecretId: aws.String("x")})
	want(t, "restore", err, "")
	want(t, "put to the restored", put(c, t, "a", "1"), "")
}

// A hundred versions within a day is the end; a day later the oldest goes.
func TestVersionQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := start(secrets.Options{})
		want(t, "create", create(c, t, "x", nil), "")
		for i := range 100 {
			want(t, "put", put(c, t, fmt.Sprintf("%032d", i), "v"), "")
			time.Sleep(time.Minute)
		}
		want(t, "one too many", put(c, t, "y", "v"), "LimitExceededException")
		time.Sleep(24 * time.Hour)
		want(t, "a day later", put(c, t, "y", "v"), "")
	})
}

func TestLagAndRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := start(secrets.Options{Lag: time.Second})
		want(t, "create", create(c, t, "x", nil), "")
		time.Sleep(2 * time.Second)
		want(t, "put", put(c, t, "a", "1"), "")
		if got := stages(c, t); len(got) != 0 {
			t.Errorf("seen at once: %v", got)
		}
		time.Sleep(time.Second)
		if got := stages(c, t); len(got) != 1 {
			t.Errorf("not seen after a second: %v", got)
		}
		for i := range 60 {
			err := put(c, t, fmt.Sprintf("%032d", i), "v")
			if err != nil {
				want(t, "put", err, "ThrottlingException")
			}
		}
		if n := s.Throttled(); n != 10 {
			t.Errorf("%d of 60 at once throttled; want 10 at 50 a second", n)
		}
	})
}

func TestListAndTags(t *testing.T) {
	c, _ := start(secrets.Options{})
	for _, n := range []string{"p/a", "p/b", "q/c"} {
		want(t, n, create(c, t, n, aws.String("v")), "")
	}
	_, err := c.TagResource(t.Context(), &sm.TagResourceInput{SecretId: aws.String("p/b"), Tags: []types.Tag{{Key: aws.String("mesh"), Value: aws.String("prod")}}})
	want(t, "tag", err, "")
	page := sm.NewListSecretsPaginator(c, &sm.ListSecretsInput{MaxResults: aws.Int32(1), Filters: []types.Filter{{Key: "name", Values: []string{"p/"}}}})
	n := 0
	for page.HasMorePages() {
		out, err := page.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n += len(out.SecretList)
	}
	if n != 2 {
		t.Errorf("%d secrets with prefix p/", n)
	}
	d, err := c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String("p/b")})
	if err != nil || len(d.Tags) != 1 || !strings.HasPrefix(*d.ARN, "arn:aws:secretsmanager:us-east-1:111122223333:secret:p/b-") {
		t.Errorf("%+v, %v", d, err)
	}
	whole, err := c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: d.ARN})
	if err != nil || *whole.SecretString != "v" {
		t.Errorf("by ARN: %v", err)
	}
}

// KMS is asked for besides: its refusal is a refusal of the secret.
func TestKeyAccess(t *testing.T) {
	policy, err := wire.ParsePolicy([]byte(`{"Statement":[{"Effect":"Allow","Action":"secretsmanager:*","Resource":"*"},{"Effect":"Allow","Action":["kms:GenerateDataKey","kms:Decrypt"],"Resource":"arn:aws:kms:us-east-1:111122223333:key/1"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	s := wire.New(wire.Options{Principals: map[string]wire.Principal{"a": {Secret: "b", ARN: "arn:aws:iam::111122223333:user/u", Statements: policy}}}, secrets.New(secrets.Options{}).API())
	c := client(s.Client())
	for key, wants := range map[string]string{"1": "", "2": "AccessDeniedException"} {
		_, err := c.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String("s" + key), SecretString: aws.String("v"), KmsKeyId: aws.String("arn:aws:kms:us-east-1:111122223333:key/" + key)})
		want(t, "key "+key, err, wants)
	}
}

// A secret that changes its key takes its versions along if the caller may
// encrypt with the new one, and a key that is switched off serves nobody.
func TestChangedKey(t *testing.T) {
	const one, two = "arn:aws:kms:us-east-1:111122223333:key/1", "arn:aws:kms:us-east-1:111122223333:key/2"
	for actions, moved := range map[string]bool{`"kms:*"`: true, `"kms:GenerateDataKey","kms:Decrypt"`: false} {
		policy, err := wire.ParsePolicy([]byte(`{"Statement":[{"Effect":"Allow","Action":["secretsmanager:*",` + actions + `],"Resource":"*"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		fake := secrets.New(secrets.Options{Keys: []secrets.Key{{ARN: one}, {ARN: two, Alias: "alias/two"}}})
		s := wire.New(wire.Options{Principals: map[string]wire.Principal{"a": {Secret: "b", ARN: "arn:aws:iam::111122223333:user/u", Statements: policy}}}, fake.API())
		c := client(s.Client())
		_, err = c.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String("x"), SecretString: aws.String("v"), KmsKeyId: aws.String(one)})
		want(t, "create", err, "")
		_, err = c.UpdateSecret(t.Context(), &sm.UpdateSecretInput{SecretId: aws.String("x"), KmsKeyId: aws.String("alias/none")})
		want(t, "no such key", err, "EncryptionFailure")
		_, err = c.UpdateSecret(t.Context(), &sm.UpdateSecretInput{SecretId: aws.String("x"), KmsKeyId: aws.String("alias/two")})
		want(t, "update", err, "")
		read := func(disabled string) error {
			fake.Disable(disabled, true)
			defer fake.Disable(disabled, false)
			_, err := c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: aws.String("x")})
			return err
		}
		old, now := "DecryptionFailure", ""
		if moved {
			old, now = now, old
		}
		want(t, actions+": without the old key", read(one), old)
		want(t, actions+": without the new key", read(two), now)
		fake.Disable(two, true)
		want(t, "put under a key that is off", put(c, t, "b", "2"), "EncryptionFailure")
	}
}
