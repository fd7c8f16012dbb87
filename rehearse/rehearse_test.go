package rehearse

import (
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/acmpca"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery"

	"patchbay/admin/api"
	awsec2 "patchbay/internal/awsfake/ec2"
	awsecs "patchbay/internal/awsfake/ecs"
	"patchbay/internal/awsfake/pca"
	"patchbay/internal/awsfake/secrets"
	"patchbay/internal/awsfake/wire"
)

// world is AWS with the policies given for the role, and the calls of a control
// plane that uses Private CA, Secrets Manager and ECS.
func world(t *testing.T, policy string) (Calls, *wire.Server) {
	t.Helper()
	ca := pca.New(pca.Options{Polls: 1})
	arn, err := ca.Make(pca.Spec{KeyAlgorithm: "EC_secp384r1", SigningAlgorithm: "SHA512WITHECDSA", ShortLived: true})
	if err != nil {
		t.Fatal(err)
	}
	statements, err := wire.ParsePolicy([]byte(policy))
	if err != nil {
		t.Fatal(err)
	}
	cloud := wire.New(wire.Options{Principals: map[string]wire.Principal{
		"role": {Secret: "secret", ARN: "arn:aws:sts::111122223333:assumed-role/patchbay/1", Statements: statements},
	}}, ca.API(), secrets.New(secrets.Options{}).API(), awsecs.New().API(), awsec2.New().API())
	h := httptest.NewServer(cloud)
	t.Cleanup(h.Close)
	cfg := aws.Config{Region: "us-east-1", BaseEndpoint: &h.URL, RetryMaxAttempts: 1, Credentials: credentials.NewStaticCredentialsProvider("role", "secret", "")}
	return Calls{
		CAs:     []CA{{ARN: arn, Client: acmpca.NewFromConfig(cfg)}},
		Secrets: secretsmanager.NewFromConfig(cfg), Prefix: "ecs-sc/test/", KMSKey: "alias/mesh",
		Tasks: ecs.NewFromConfig(cfg), Clusters: []string{"prod"}, Queue: "https://sqs.example/q",
		Instances: ec2.NewFromConfig(cfg).DescribeInstances,
	}, cloud
}

func outcomes(all []api.AWSCall) map[string]string {
	out := map[string]string{}
	for _, c := range all {
		out[c.Action] = c.Outcome
	}
	return out
}

// Each call that changes nothing is tried; what the role lacks is named with
// the statement that allows it; nothing is changed.
func TestTry(t *testing.T) {
	calls, cloud := world(t, `{"Statement": [
		{"Effect": "Allow", "Resource": "*", "Action": ["acm-pca:DescribeCertificateAuthority", "secretsmanager:*", "ecs:DescribeTasks", "acm-pca:IssueCertificate"]},
		{"Effect": "Deny", "Resource": "*", "Action": "acm-pca:GetCertificate"}]}`)
	all := calls.Try(t.Context())
	want := map[string]string{
		"acm-pca:DescribeCertificateAuthority": api.Allowed, "acm-pca:GetCertificateAuthorityCertificate": api.Refused, "acm-pca:GetCertificate": api.Refused,
		"secretsmanager:GetSecretValue": api.Allowed, "ecs:DescribeTasks": api.Allowed, "ecs:DescribeTaskDefinition": api.Refused, "ec2:DescribeInstances": api.Refused,
		"acm-pca:IssueCertificate": api.Untried, "secretsmanager:CreateSecret": api.Untried, "secretsmanager:TagResource": api.Untried, "secretsmanager:PutSecretValue": api.Untried,
		"secretsmanager:UpdateSecret": api.Untried, "secretsmanager:UpdateSecretVersionStage": api.Untried, "kms:GenerateDataKey": api.Untried, "kms:Decrypt": api.Untried, "sqs:ReceiveMessage": api.Untried, "sqs:DeleteMessage": api.Untried,
	}
	got := outcomes(all)
	for action, outcome := range want {
		if got[action] != outcome {
			t.Errorf("%s: %s, want %s", action, got[action], outcome)
		}
	}
	if len(got) != len(want) || !slices.IsSortedFunc(all, func(a, b api.AWSCall) int { return strings.Compare(a.Action, b.Action) }) {
		t.Errorf("%+v", all)
	}
	for _, c := range all {
		if c.Action == "ecs:DescribeTaskDefinition" && !strings.Contains(c.Statement, `"Action":"ecs:DescribeTaskDefinition"`) || c.Outcome == api.Allowed && c.Detail != "" {
			t.Errorf("%+v", c)
		}
	}
	for _, c := range cloud.Calls() {
		if !strings.HasPrefix(c.Operation, "Describe") && !strings.HasPrefix(c.Operation, "Get") && !strings.HasPrefix(c.Operation, "List") {
			t.Errorf("%s was called", c.Action())
		}
	}
}

// A throttle, an AWS that is not there and credentials that it does not know
// are told apart from a missing permission.
func TestWhatIsNoPermission(t *testing.T) {
	calls, cloud := world(t, `{"Statement": [{"Effect": "Allow", "Resource": "*", "Action": "*"}]}`)
	clear := cloud.Inject(wire.Fault{Operation: "DescribeTasks", Error: "ThrottlingException"})
	if got := outcomes(calls.Try(t.Context()))["ecs:DescribeTasks"]; got != api.Throttled {
		t.Errorf("throttled: %s", got)
	}
	clear()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + l.Addr().String()
	l.Close()
	calls.Tasks = ecs.NewFromConfig(aws.Config{Region: "us-east-1", BaseEndpoint: &nobody, RetryMaxAttempts: 1, Credentials: credentials.NewStaticCredentialsProvider("role", "secret", "")})
	calls.CloudMap = servicediscovery.NewFromConfig(aws.Config{Region: "us-east-1", BaseEndpoint: &nobody, RetryMaxAttempts: 1, Credentials: credentials.NewStaticCredentialsProvider("role", "secret", "")})
	calls.Namespaces = []string{"prod"}
	for _, c := range calls.Try(t.Context()) {
		tried := c.Outcome != api.Untried
		if service, _, _ := strings.Cut(c.Action, ":"); tried && (service == "ecs" || service == "servicediscovery") && (c.Outcome != api.Failed || !strings.Contains(c.Detail, "refused") && !strings.Contains(c.Detail, "no such host")) {
			t.Errorf("%+v", c)
		}
	}
}

func TestNames(t *testing.T) {
	got := Names(t.Context(), "http://registry.invalid:18003", "us-east-1")
	if len(got) != 1 || got["registry.invalid"] == "" {
		t.Errorf("%v", got)
	}
	if got := Names(t.Context(), "http://127.0.0.1:18003", ""); len(got) != 0 {
		t.Errorf("%v", got)
	}
	if got := Names(t.Context(), "http://localhost:1", ""); len(got) != 1 || got["localhost"] != "" {
		t.Errorf("%v", got)
	}
}
