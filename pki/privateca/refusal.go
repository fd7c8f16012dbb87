package privateca

import (
	"errors"
	"fmt"

	"github.com/aws/smithy-go"

	"patchbay/internal/iam"
	"patchbay/pki/issue"
)

// code is AWS's name of an error; empty: it did not come from the API.
func code(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return ""
}

// throttled reports whether AWS was asked too often. LimitExceededException is
// not one of them here: it is about how many certificates a CA may issue.
func throttled(err error) bool {
	switch code(err) {
	case "ThrottlingException", "Throttling", "ThrottledException", "RequestLimitExceeded", "TooManyRequestsException", "SlowDown":
		return true
	}
	return false
}

// passing reports whether a GetCertificate that failed so may succeed later:
// the certificate is being made, or a read lags behind, or AWS has trouble.
func passing(err error) bool {
	switch code(err) {
	case "RequestInProgressException", "ResourceNotFoundException", "InternalFailure", "InternalServerError", "ServiceUnavailable", "ServiceUnavailableException", "RequestTimeout", "": // "": no answer
		return true
	}
	return throttled(err)
}

// explain says what to do about an error of an operation on a CA.
func (c *CA) explain(operation, arn string, err error) error {
	err = iam.Explain(err, "acm-pca:"+operation, arn)
	if denied, is := errors.AsType[*iam.Denied](err); is {
		if denied.Action == "acm-pca:IssueCertificate" {
			denied.Condition = map[string]map[string]string{"StringEquals": {"acm-pca:TemplateArn": c.o.Template}}
		}
		return fmt.Errorf("%s: %w (another account's CA must also be shared by AWS RAM with that action and template; AWS's own managed policy asks for the tag AmazonECSManaged=true on the CA)", operation, err)
	}
	advice := ""
	switch code(err) {
	case "ResourceNotFoundException":
		advice = fmt.Sprintf("there is no such CA in region %s, or it is not shared with this account: compare the ARN, and accept the share in AWS RAM", c.o.Region)
	case "InvalidStateException":
		advice = stateAdvice("")
	case "LimitExceededException":
		advice = "the CA has issued as many certificates as its quota (L-F99AB81B) allows: ask AWS for more, or configure another CA"
	case "UnrecognizedClientException", "InvalidSignatureException", "MissingAuthenticationTokenException", "ExpiredTokenException":
		advice = "the control plane's AWS credentials are not accepted: on ECS give the task a task role, elsewhere set AWS_PROFILE or the access key's variables, and compare the clocks"
	case "InvalidArgsException", "ValidationException", "MalformedCSRException":
		advice = "the CA does not accept the request as it is: compare lifetime and template in the configuration with the CA"
	}
	if throttled(err) {
		return fmt.Errorf("%s: %w: %w", operation, issue.ErrThrottled, err)
	}
	if advice == "" {
		return fmt.Errorf("%s: %w", operation, err)
	}
	return fmt.Errorf("%s: %w; %s", operation, err, advice)
}

func stateAdvice(status string) string {
	switch status {
	case "PENDING_CERTIFICATE", "CREATING":
		return "give it a certificate (ImportCertificateAuthorityCertificate), then it is used without a restart"
	case "DELETED":
		return "restore it (RestoreCertificateAuthority, up to 30 days after its deletion), or configure another"
	}
	return "it must be ACTIVE: enable it (UpdateCertificateAuthority), give it a new certificate if its own has expired, or restore it if it was deleted"
}
