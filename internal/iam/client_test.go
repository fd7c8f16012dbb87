package iam_test

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	fake "patchbay/internal/awsfake/sqs"
	"patchbay/internal/awsfake/wire"
	"patchbay/internal/iam"
)

// TestClient: what AWS itself says of a refusal counts; where it says nothing,
// what the call was about. Other errors, and answers, are as before.
func TestClient(t *testing.T) {
	q := fake.New()
	server := wire.New(wire.Options{Principals: map[string]wire.Principal{"id": {Secret: "s", ARN: "arn:aws:sts::111122223333:assumed-role/patchbay/1"}}}, q.API())
	h := httptest.NewServer(server)
	t.Cleanup(h.Close)
	url := q.Make(h.URL, "us-east-1", "111122223333", "events")
	client := sqs.NewFromConfig(aws.Config{Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("id", "s", "")}, func(o *sqs.Options) {
		o.BaseEndpoint, o.RetryMaxAttempts = &h.URL, 1
		o.APIOptions = append(o.APIOptions, iam.Client("sqs", func(in any) string {
			return "arn:of:" + *in.(*sqs.ReceiveMessageInput).QueueUrl
		}))
	})
	ask := func() error {
		_, err := client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &url})
		return err
	}
	if err := ask(); err != nil {
		t.Error(err)
	}
	for code, denied := range map[string]bool{"AccessDeniedException": true, "RequestThrottled": false} {
		clear := server.Inject(wire.Fault{Error: code})
		err := ask()
		clear()
		d, is := errors.AsType[*iam.Denied](err)
		if is != denied || is && (d.Action != "sqs:ReceiveMessage" || d.Resource != "arn:of:"+url) {
			t.Errorf("%s: %v", code, err)
		}
	}
	server.Grant("id", wire.Principal{Secret: "s", Account: "111122223333", ARN: "arn:aws:sts::111122223333:assumed-role/patchbay/1", Statements: []wire.Statement{{Effect: "Allow", Action: wire.List{"s3:*"}, Resource: wire.List{"*"}}}})
	want := `assumed-role/patchbay/1 may not sqs:ReceiveMessage on arn:aws:sqs:us-east-1:111122223333:events; this statement in its policy allows it: {"Effect":"Allow","Action":"sqs:ReceiveMessage","Resource":"arn:aws:sqs:us-east-1:111122223333:events"}`
	if err := ask(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v", err)
	}
}
