// Package rehearse tries the AWS calls of a control plane, each once, and says
// which of them its role may make.
//
// It owns which calls there are and how each can be tried without changing
// anything: a list, a look at what does not exist. What changes something is
// never tried, but named. It must not know what the calls are for. Start
// reading at [Calls.Try].
package rehearse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/acmpca"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/smithy-go"

	"patchbay/admin/api"
	"patchbay/internal/iam"
)

// limit bounds one call.
const limit = 5 * time.Second

// nothing is a name that nobody has given: what is asked about it changes
// nothing, and IAM judges it all the same.
const nothing = "patchbay-doctor-asks"

// Calls are the clients whose calls are tried. A nil client is one that the
// control plane does not use. Their retries should be off.
type Calls struct {
	CloudMap   *servicediscovery.Client
	Namespaces []string // HttpNames
	Create     bool     // the control plane may make namespaces
	CAs        []CA
	Secrets    *secretsmanager.Client
	Prefix     string // of the secrets' names
	KMSKey     string
	Tasks      *ecs.Client
	Clusters   []string
	Instances  func(context.Context, *ec2.DescribeInstancesInput, ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error)
	Queue      string // URL; empty: none
}

// CA is a private CA.
type CA struct {
	ARN    string
	Client *acmpca.Client
}

// Any reports whether the control plane uses AWS at all.
func (c Calls) Any() bool {
	return c.CloudMap != nil || len(c.CAs) > 0 || c.Secrets != nil || c.Tasks != nil || c.Instances != nil || c.Queue != ""
}

// RegionOf is the region in an ARN; empty if there is none.
func RegionOf(arn string) string {
	if parts := strings.SplitN(arn, ":", 6); len(parts) == 6 {
		return parts[3]
	}
	return ""
}

// call is one that can be tried.
type call struct {
	action, resource string
	do               func(context.Context) error
}

// Try makes each call that can be tried, at once, and reports on all, sorted by
// action and resource.
func (c Calls) Try(ctx context.Context) []api.AWSCall {
	var all []call
	all = append(all, c.cloudMap()...)
	all = append(all, c.authorities()...)
	all = append(all, c.secrets()...)
	all = append(all, c.tasks()...)
	all = append(all, c.instances()...)
	out := c.untried()
	var mu sync.Mutex
	var wait sync.WaitGroup
	for _, one := range all {
		wait.Go(func() {
			r := try(ctx, one)
			mu.Lock()
			defer mu.Unlock()
			out = append(out, r)
		})
	}
	wait.Wait()
	slices.SortFunc(out, func(a, b api.AWSCall) int { return strings.Compare(a.Action+" "+a.Resource, b.Action+" "+b.Resource) })
	return out
}

func try(ctx context.Context, c call) api.AWSCall {
	ctx, stop := context.WithTimeout(ctx, limit)
	defer stop()
	out := api.AWSCall{Action: c.action, Resource: c.resource, Outcome: api.Allowed}
	err := iam.Explain(c.do(ctx), c.action, c.resource)
	var said smithy.APIError
	switch denied, is := errors.AsType[*iam.Denied](err); {
	case err == nil:
	case is:
		out.Outcome, out.Detail = api.Refused, denied.Error()
		if !denied.Explicit {
			out.Statement = denied.Statement()
		}
	case !errors.As(err, &said):
		out.Outcome, out.Detail = api.Failed, err.Error()
	case throttled(said.ErrorCode()):
		out.Outcome, out.Detail = api.Throttled, said.Error()
	case stranger(said.ErrorCode()):
		out.Outcome, out.Detail = api.Failed, said.Error()
	default: // that there is no such thing, which IAM would not have told others
	}
	return out
}

func throttled(code string) bool {
	return strings.Contains(code, "Throttl") || strings.Contains(code, "TooManyRequests") || strings.Contains(code, "RequestLimitExceeded")
}

// stranger reports whether a code is about the credentials themselves.
func stranger(code string) bool {
	return slices.Contains([]string{
		"UnrecognizedClientException", "InvalidClientTokenId", "ExpiredToken", "ExpiredTokenException", "InvalidSignatureException",
		"IncompleteSignature", "MissingAuthenticationToken", "AuthFailure", "SignatureDoesNotMatch", "InternalFailure", "InternalServerError", "ServiceUnavailable",
	}, code)
}

// untried are the calls that change something.
func (c Calls) untried() []api.AWSCall {
	var out []api.AWSCall
	add := func(resource, service string, operations ...string) {
		for _, o := range operations {
			out = append(out, api.AWSCall{Action: service + ":" + o, Resource: resource, Outcome: api.Untried, Detail: "it would change something"})
		}
	}
	if c.CloudMap != nil {
		add("*", "servicediscovery", "CreateService", "TagResource", "UpdateServiceAttributes", "DeleteServiceAttributes", "RegisterInstance", "DeregisterInstance", "UpdateInstanceCustomHealthStatus")
		if c.Create {
			add("*", "servicediscovery", "CreateHttpNamespace")
		}
	}
	for _, ca := range c.CAs {
		add(ca.ARN, "acm-pca", "IssueCertificate")
	}
	if c.Secrets != nil {
		add(c.secretARN(), "secretsmanager", "CreateSecret", "TagResource", "PutSecretValue", "UpdateSecret", "UpdateSecretVersionStage")
		if c.KMSKey != "" {
			add(c.KMSKey, "kms", "GenerateDataKey", "Decrypt")
		}
	}
	if c.Queue != "" {
		add(c.Queue, "sqs", "ReceiveMessage", "DeleteMessage")
	}
	return out
}

func (c Calls) secretARN() string {
	return fmt.Sprintf("arn:aws:secretsmanager:*:*:secret:%s*", c.Prefix)
}
