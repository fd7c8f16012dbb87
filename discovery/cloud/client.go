// Package cloud makes the calls of Cloud Map that discovery needs: with the AWS
// SDK's client, within a budget, each with a deadline of its own, complete
// (all pages, all instances) or failed.
//
// It owns how to ask. It must not know when to ask, nor what to believe.
//
// Start reading at [Calls].
package cloud

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"patchbay/internal/iam"
)

// API is the part of Cloud Map that discovery uses. The AWS SDK's client has
// it. Every call must honour its context.
type API interface {
	ListNamespaces(context.Context, *sd.ListNamespacesInput, ...func(*sd.Options)) (*sd.ListNamespacesOutput, error)
	ListServices(context.Context, *sd.ListServicesInput, ...func(*sd.Options)) (*sd.ListServicesOutput, error)
	GetServiceAttributes(context.Context, *sd.GetServiceAttributesInput, ...func(*sd.Options)) (*sd.GetServiceAttributesOutput, error)
	DiscoverInstances(context.Context, *sd.DiscoverInstancesInput, ...func(*sd.Options)) (*sd.DiscoverInstancesOutput, error)
	DiscoverInstancesRevision(context.Context, *sd.DiscoverInstancesRevisionInput, ...func(*sd.Options)) (*sd.DiscoverInstancesRevisionOutput, error)
}

// ClientOptions are those of NewClient.
type ClientOptions struct {
	// Endpoint is the URL of a registry other than AWS's; empty for AWS, or
	// for what the configuration and the environment say.
	Endpoint string
	// Attempts is how often a call is tried: 1 for discovery, which has a
	// schedule of its own, 5 for the registrar. Zero means 1.
	Attempts int
	// Connections is how many idle connections are kept. Zero means 64.
	Connections int
}

// NewClient makes a Cloud Map client. Discovery and registrar should have one
// each, so that the retries of one do not starve the other.
//
// The SDK sends DiscoverInstances and DiscoverInstancesRevision to the host
// name of the endpoint with "data-" in front. With an endpoint of one's own
// that name often does not exist; then the client leaves the prefix out. It
// looks the name up once, at the first such call. It does no I/O before.
//
// A call that IAM refuses is a *iam.Denied, which says what would allow it.
func NewClient(cfg aws.Config, o ClientOptions) *sd.Client {
	attempts, conns := max(o.Attempts, 1), o.Connections
	if conns == 0 {
		conns = 64
	}
	return sd.NewFromConfig(cfg, func(opt *sd.Options) {
		if o.Endpoint != "" {
			opt.BaseEndpoint = aws.String(o.Endpoint)
		}
		opt.RetryMaxAttempts = attempts
		opt.APIOptions = append(opt.APIOptions, iam.Client("servicediscovery", about))
		if cfg.HTTPClient == nil {
			opt.HTTPClient = awshttp.NewBuildableClient().
				WithDialerOptions(func(d *net.Dialer) { d.Timeout = 2 * time.Second }).
				WithTransportOptions(func(t *http.Transport) { t.MaxIdleConnsPerHost, t.MaxIdleConns = conns, conns }).
				WithTimeout(5 * time.Second)
		}
		if opt.BaseEndpoint != nil {
			opt.APIOptions = append(opt.APIOptions, withoutPrefix(*opt.BaseEndpoint))
		}
	})
}

// about is the resource of a call that IAM takes one for, and whose input names
// it. Accounts and partitions may differ: what AWS says itself counts first.
func about(input any) string {
	id := ""
	switch in := input.(type) {
	case *sd.RegisterInstanceInput:
		id = aws.ToString(in.ServiceId)
	case *sd.DeregisterInstanceInput:
		id = aws.ToString(in.ServiceId)
	}
	if id == "" {
		return ""
	}
	return "arn:aws:servicediscovery:*:*:service/" + id
}

// withoutPrefix switches the host prefix off if the endpoint has no sibling
// of that name.
func withoutPrefix(endpoint string) func(*middleware.Stack) error {
	var once sync.Once
	var off bool
	return func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("patchbay.HostPrefix",
			func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
				once.Do(func() { off = !hasSibling(ctx, endpoint) })
				return next.HandleInitialize(smithyhttp.DisableEndpointHostPrefix(ctx, off), in)
			}), middleware.Before)
	}
}

func hasSibling(ctx context.Context, endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	if _, err := netip.ParseAddr(u.Hostname()); err == nil {
		return false
	}
	ctx, stop := context.WithTimeout(ctx, time.Second)
	defer stop()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", "data-"+u.Hostname())
	return err == nil && len(addrs) > 0
}
