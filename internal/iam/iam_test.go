package iam

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/smithy-go"
)

func TestADenialSaysWhatWouldAllowIt(t *testing.T) {
	const role = "arn:aws:sts::111122223333:assumed-role/patchbay/i-1"
	for _, c := range []struct{ code, message, want string }{
		{"AccessDeniedException", "User: " + role + " is not authorized to perform: servicediscovery:ListServices on resource: * because no identity-based policy allows the servicediscovery:ListServices action",
			role + ` may not servicediscovery:ListServices on *; this statement in its policy allows it: {"Effect":"Allow","Action":"servicediscovery:ListServices","Resource":"*"}`},
		{"AccessDenied", "", `the role of this process may not servicediscovery:GetService on *; this statement in its policy allows it: {"Effect":"Allow","Action":"servicediscovery:GetService","Resource":"*"}`},
		{"AccessDeniedException", "User: " + role + " is not authorized to perform: sqs:ReceiveMessage on resource: arn:aws:sqs:r:1:q with an explicit deny in an identity-based policy",
			role + " may not sqs:ReceiveMessage on arn:aws:sqs:r:1:q: a policy denies it explicitly"},
	} {
		err := fmt.Errorf("operation error: %w", &smithy.GenericAPIError{Code: c.code, Message: c.message})
		got := Explain(err, "servicediscovery:GetService", "")
		if !strings.HasPrefix(got.Error(), c.want) {
			t.Errorf("%s\nnot %s", got, c.want)
		}
		if !errors.Is(got, err) {
			t.Error("the SDK's error is lost")
		}
	}
	for _, err := range []error{nil, errors.New("connection refused"), &smithy.GenericAPIError{Code: "ThrottlingException"}} {
		if got := Explain(err, "a:B", ""); got != err { //nolint:errorlint // the same
			t.Errorf("%v became %v", err, got)
		}
	}
}
