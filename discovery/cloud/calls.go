package cloud

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
	"github.com/aws/smithy-go"

	"patchbay/internal/iam"
	"patchbay/internal/namespaces"
	"patchbay/mesh/record"
)

// maxResults is the most that DiscoverInstances returns, and the most that a
// service can hold; without it the answer ends at 100 without a word.
const maxResults = 1000

// Summary is what a listing says of a service.
type Summary struct {
	ID      string // or the ARN, if another account shares the namespace: what calls want
	ARN     string
	Name    string // as Cloud Map spells it
	Created time.Time
	Managed bool // made by our registrar
	Checked bool // has a health check: health changes without a new revision
}

// Options are those of New.
type Options struct {
	Budget     Budget
	Deadline   time.Duration // of each call
	Concurrent int           // calls at the same time
	// Called is told of every call: the operation, and OK or the error code
	// ("timeout" and "unreachable" where there is none). Waited is told how long
	// one waited for the budget. Neither may block; nil: nobody is told.
	Called func(operation, result string)
	Waited func(operation string, d time.Duration)
}

// OK is the result of a call that was answered.
const OK = "ok"

// Calls makes the calls. It is safe for concurrent use. Every method returns
// the complete answer or an error in which the SDK's types can be found.
type Calls struct {
	api      API
	deadline time.Duration
	slots    chan struct{}
	called   func(operation, result string)
	waited   func(operation string, d time.Duration)

	revisions, discovers, lists, names, attributes *bucket
}

// New makes Calls; it does no I/O.
func New(api API, o Options) *Calls {
	if o.Called == nil {
		o.Called = func(string, string) {}
	}
	if o.Waited == nil {
		o.Waited = func(string, time.Duration) {}
	}
	return &Calls{
		api: api, deadline: o.Deadline, called: o.Called, waited: o.Waited, slots: make(chan struct{}, o.Concurrent),
		revisions:  newBucket(o.Budget.Revision, 1500, 1),
		discovers:  newBucket(o.Budget.Discover, 500, 2),
		lists:      newBucket(o.Budget.List, 2, 5),
		names:      newBucket(o.Budget.Namespaces, 0.5, 10),
		attributes: newBucket(o.Budget.Attributes, 20, 5),
	}
}

// Rates is the share of its budget that each limited operation keeps to: less
// than 1 after the registry has throttled it.
func (c *Calls) Rates() map[string]float64 {
	return map[string]float64{
		"DiscoverInstancesRevision": c.revisions.share(), "DiscoverInstances": c.discovers.share(),
		"ListServices": c.lists.share(), "GetServiceAttributes": c.attributes.share(),
	}
}

func call[In, Out any](ctx context.Context, c *Calls, b *bucket, op string, f func(context.Context, In, ...func(*sd.Options)) (Out, error), in In) (Out, error) {
	var none Out
	began := time.Now()
	if err := b.wait(ctx); err != nil {
		return none, fmt.Errorf("%s: %w", op, err)
	}
	if d := time.Since(began); d > 0 {
		c.waited(op, d)
	}
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return none, fmt.Errorf("%s: %w", op, context.Cause(ctx))
	}
	limited, stop := context.WithTimeout(ctx, c.deadline)
	defer stop()
	out, err := f(limited, in)
	b.told(err)
	if err != nil {
		if ctx.Err() == nil {
			c.called(op, code(err))
		}
		return none, fmt.Errorf("%s: %w", op, iam.Explain(err, "servicediscovery:"+op, "")) // also of an API that is not NewClient's
	}
	c.called(op, OK)
	return out, nil
}

// code is a short word for an error, fit for a metric's label.
func code(err error) string {
	var api smithy.APIError
	switch {
	case errors.As(err, &api):
		return api.ErrorCode()
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return "unreachable"
}

// Namespace finds the one that is meant. Errors are those of namespaces.Find.
func (c *Calls) Namespace(ctx context.Context, w namespaces.Want) (namespaces.Namespace, error) {
	return namespaces.Find(ctx, lister{c}, w)
}

// Services lists a namespace completely, or fails. The service in which the
// control plane's replicas find each other is none of the mesh.
func (c *Calls) Services(ctx context.Context, ns namespaces.Namespace) ([]Summary, error) {
	pages := sd.NewListServicesPaginator(lister{c}, &sd.ListServicesInput{
		MaxResults: aws.Int32(100),
		Filters:    []types.ServiceFilter{{Name: types.ServiceFilterNameNamespaceId, Values: []string{ns.Ref()}, Condition: types.FilterConditionEq}},
	})
	var out []Summary
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, s := range page.Services {
			if aws.ToString(s.Name) == record.ReplicasService {
				continue // the control plane's own
			}
			out = append(out, Summary{
				ID: ns.ServiceRef(s.Id, s.Arn), ARN: aws.ToString(s.Arn), Name: aws.ToString(s.Name),
				Created: aws.ToTime(s.CreateDate).UTC(), Managed: aws.ToString(s.Description) == record.Description,
				Checked: s.HealthCheckConfig != nil || s.HealthCheckCustomConfig != nil,
			})
		}
	}
	return out, nil
}

// lister gives the SDK's paginators calls that keep to the budget.
type lister struct{ c *Calls }

func (l lister) ListNamespaces(ctx context.Context, in *sd.ListNamespacesInput, _ ...func(*sd.Options)) (*sd.ListNamespacesOutput, error) {
	return call(ctx, l.c, l.c.names, "ListNamespaces", l.c.api.ListNamespaces, in)
}

func (l lister) ListServices(ctx context.Context, in *sd.ListServicesInput, _ ...func(*sd.Options)) (*sd.ListServicesOutput, error) {
	return call(ctx, l.c, l.c.lists, "ListServices", l.c.api.ListServices, in)
}

// ServiceAttributes reads the attributes of a service; none is an empty map.
func (c *Calls) ServiceAttributes(ctx context.Context, serviceID string) (map[string]string, error) {
	out, err := call(ctx, c, c.attributes, "GetServiceAttributes", c.api.GetServiceAttributes, &sd.GetServiceAttributesInput{ServiceId: &serviceID})
	if err != nil {
		return nil, err
	}
	if out.ServiceAttributes == nil || out.ServiceAttributes.Attributes == nil {
		return map[string]string{}, nil
	}
	return out.ServiceAttributes.Attributes, nil
}

// Revision is that of the list of instances of a service.
func (c *Calls) Revision(ctx context.Context, ns namespaces.Namespace, service string) (int64, error) {
	out, err := call(ctx, c, c.revisions, "DiscoverInstancesRevision", c.api.DiscoverInstancesRevision,
		&sd.DiscoverInstancesRevisionInput{NamespaceName: &ns.HTTPName, ServiceName: &service, OwnerAccount: ns.Account()})
	if err != nil {
		return 0, err
	}
	return aws.ToInt64(out.InstancesRevision), nil
}

// Answer is the full list of instances of a service at one revision.
type Answer struct {
	Revision  int64
	Instances []Instance          // well-formed, sorted by id
	Malformed map[string]string   // id → reason
	Hashes    map[string]struct{} // settings that the instances name
}

// Instances fetches all instances of a service, in whatever health.
func (c *Calls) Instances(ctx context.Context, ns namespaces.Namespace, service string) (Answer, error) {
	out, err := call(ctx, c, c.discovers, "DiscoverInstances", c.api.DiscoverInstances, &sd.DiscoverInstancesInput{
		NamespaceName: &ns.HTTPName, ServiceName: &service, OwnerAccount: ns.Account(),
		MaxResults: aws.Int32(maxResults), HealthStatus: types.HealthStatusFilterAll,
	})
	if err != nil {
		return Answer{}, err
	}
	a := Answer{Revision: aws.ToInt64(out.InstancesRevision), Malformed: map[string]string{}, Hashes: map[string]struct{}{}}
	for _, i := range out.Instances {
		inst, err := Parse(aws.ToString(i.InstanceId), string(i.HealthStatus), i.Attributes)
		if err != nil {
			a.Malformed[aws.ToString(i.InstanceId)] = record.Reason(err)
			continue
		}
		if inst.Settings != "" {
			a.Hashes[inst.Settings] = struct{}{}
		}
		a.Instances = append(a.Instances, inst)
	}
	slices.SortFunc(a.Instances, Instance.Compare)
	a.Instances = slices.CompactFunc(a.Instances, func(a, b Instance) bool { return a.ID() == b.ID() })
	return a, nil
}

// Instance is one well-formed instance, with the words that it was read from,
// so that it can be written to disk as it is.
type Instance struct {
	record.Instance
	HealthWord string
	Attributes map[string]string
}

// Parse reads one instance; the error is that of record.ParseInstance.
func Parse(id, health string, attrs map[string]string) (Instance, error) {
	r, err := record.ParseInstance(id, record.ParseHealth(health), attrs)
	return Instance{Instance: r, HealthWord: health, Attributes: attrs}, err
}

// ID is the instance's id in the registry.
func (i Instance) ID() string { return i.Endpoint.InstanceID }

// Compare orders by id.
func (i Instance) Compare(o Instance) int { return strings.Compare(i.ID(), o.ID()) }
