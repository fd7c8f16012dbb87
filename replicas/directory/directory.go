// Package directory writes the replicas of the control plane down in Cloud Map,
// as instances of a service of a reserved name, and reads them there.
//
// It owns that service. It must not know what replicas do with each other. Start
// reading at [Directory].
package directory

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"

	"patchbay/internal/namespaces"
	"patchbay/mesh/record"
)

// API is the part of Cloud Map that a Directory uses; the SDK's client has it.
type API interface {
	ListNamespaces(context.Context, *sd.ListNamespacesInput, ...func(*sd.Options)) (*sd.ListNamespacesOutput, error)
	ListServices(context.Context, *sd.ListServicesInput, ...func(*sd.Options)) (*sd.ListServicesOutput, error)
	CreateHttpNamespace(context.Context, *sd.CreateHttpNamespaceInput, ...func(*sd.Options)) (*sd.CreateHttpNamespaceOutput, error)
	CreateService(context.Context, *sd.CreateServiceInput, ...func(*sd.Options)) (*sd.CreateServiceOutput, error)
	ListTagsForResource(context.Context, *sd.ListTagsForResourceInput, ...func(*sd.Options)) (*sd.ListTagsForResourceOutput, error)
	RegisterInstance(context.Context, *sd.RegisterInstanceInput, ...func(*sd.Options)) (*sd.RegisterInstanceOutput, error)
	DeregisterInstance(context.Context, *sd.DeregisterInstanceInput, ...func(*sd.Options)) (*sd.DeregisterInstanceOutput, error)
	UpdateInstanceCustomHealthStatus(context.Context, *sd.UpdateInstanceCustomHealthStatusInput, ...func(*sd.Options)) (*sd.UpdateInstanceCustomHealthStatusOutput, error)
	DiscoverInstances(context.Context, *sd.DiscoverInstancesInput, ...func(*sd.Options)) (*sd.DiscoverInstancesOutput, error)
}

// Options are those of New.
type Options struct {
	// Namespace is where the service is: an HttpName, id or ARN, as in the
	// configuration. With Create it is made if it is missing.
	Namespace string
	Create    bool
	// Lease is for a registry of ours: a replica that dies is taken out after
	// it. Zero, for AWS: the others take it out.
	Lease time.Duration
}

// Directory is that service. It is safe for concurrent use.
type Directory struct {
	o   Options
	api API

	mu      sync.Mutex
	service string // id, or ARN if another account shares the namespace
	ns      namespaces.Namespace
}

// New does no I/O.
func New(o Options, api API) *Directory { return &Directory{o: o, api: api} }

// lookEvery is how often a replica looks whether it is still written down.
const lookEvery = time.Minute

// Join writes a replica down at its address, IP:PORT, keeps it there until ctx
// ends and then takes it out. It returns earlier only if the registry fails.
func (d *Directory) Join(ctx context.Context, self string) error {
	if err := d.find(ctx, true); err != nil {
		return err
	}
	id, attrs, err := written(self, d.o.Lease)
	if err != nil {
		return err
	}
	// A new request id each time: after a crash the same instance is registered
	// again.
	request := id + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	if _, err := d.api.RegisterInstance(ctx, &sd.RegisterInstanceInput{ServiceId: &d.service, InstanceId: &id, Attributes: attrs, CreatorRequestId: &request}); err != nil {
		return fmt.Errorf("register replica %s: %w", self, err)
	}
	defer func() {
		late, stop := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer stop()
		if ctx.Err() != nil {
			_ = d.Forget(late, self) // the others find out
		}
	}()
	every := lookEvery
	if d.o.Lease > 0 {
		every = d.o.Lease / 3
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for misses := 0; ; {
		select {
		case <-t.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := d.stays(ctx, self, id); err == nil {
			misses = 0
		} else if misses++; misses > 2 {
			return fmt.Errorf("replica %s: %w", self, err)
		}
	}
}

var errTakenOut = errors.New("it is no longer written down")

// stays renews the lease, or sees that the instance is there.
func (d *Directory) stays(ctx context.Context, self, id string) error {
	if d.o.Lease > 0 {
		_, err := d.api.UpdateInstanceCustomHealthStatus(ctx, &sd.UpdateInstanceCustomHealthStatusInput{
			ServiceId: &d.service, InstanceId: &id, Status: types.CustomHealthStatusHealthy})
		return err
	}
	list, err := d.List(ctx)
	if err == nil && !slices.Contains(list, self) {
		err = errTakenOut
	}
	return err
}

// List is every replica that is written down, sorted.
func (d *Directory) List(ctx context.Context) ([]string, error) {
	if err := d.find(ctx, false); err != nil {
		return nil, err
	}
	out, err := d.api.DiscoverInstances(ctx, &sd.DiscoverInstancesInput{
		NamespaceName: &d.ns.HTTPName, ServiceName: aws.String(record.ReplicasService), OwnerAccount: d.ns.Account(),
		MaxResults: aws.Int32(1000), HealthStatus: types.HealthStatusFilterAll,
	})
	if err != nil {
		return nil, fmt.Errorf("list replicas: %w", err)
	}
	var list []string
	for _, i := range out.Instances {
		ip := i.Attributes[record.AttrIPv4]
		if ip == "" {
			ip = i.Attributes[record.AttrIPv6]
		}
		if at, err := netip.ParseAddrPort(joined(ip, i.Attributes[record.AttrPort])); err == nil {
			list = append(list, at.String())
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

func joined(ip, port string) string {
	if strings.Contains(ip, ":") {
		ip = "[" + ip + "]"
	}
	return ip + ":" + port
}

// Forget takes a replica out.
func (d *Directory) Forget(ctx context.Context, replica string) error {
	if err := d.find(ctx, false); err != nil {
		return err
	}
	id, _, err := written(replica, 0)
	if err != nil {
		return err
	}
	if _, err = d.api.DeregisterInstance(ctx, &sd.DeregisterInstanceInput{ServiceId: &d.service, InstanceId: &id}); err != nil {
		return fmt.Errorf("deregister replica %s: %w", replica, err)
	}
	return nil
}

// written is a replica as an instance.
func written(address string, lease time.Duration) (id string, attrs map[string]string, err error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return "", nil, fmt.Errorf("replica %q: %w", address, err)
	}
	attrs = map[string]string{record.AttrPort: strconv.Itoa(int(at.Port()))}
	if at.Addr().Is4() {
		attrs[record.AttrIPv4] = at.Addr().String()
	} else {
		attrs[record.AttrIPv6] = at.Addr().String()
	}
	if lease > 0 {
		attrs[record.AttrLease] = strconv.Itoa(int(lease / time.Second))
	}
	return "replica-" + strings.NewReplacer(".", "-", ":", "-", "[", "", "]", "").Replace(at.String()), attrs, nil
}

// find learns which service it is, and makes it if that is wanted.
func (d *Directory) find(ctx context.Context, make bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.service != "" {
		return nil
	}
	ns, err := d.namespace(ctx, make)
	if err != nil {
		return err
	}
	pages := sd.NewListServicesPaginator(d.api, &sd.ListServicesInput{
		Filters: []types.ServiceFilter{{Name: types.ServiceFilterNameNamespaceId, Values: []string{ns.Ref()}, Condition: types.FilterConditionEq}},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("find the service of the replicas: %w", err)
		}
		for _, s := range page.Services {
			if aws.ToString(s.Name) == record.ReplicasService {
				return d.admit(ctx, s, ns)
			}
		}
	}
	if !make {
		return fmt.Errorf("namespace %s has no service %s yet", d.o.Namespace, record.ReplicasService)
	}
	out, err := d.api.CreateService(ctx, &sd.CreateServiceInput{
		Name: aws.String(record.ReplicasService), NamespaceId: aws.String(ns.Ref()), Type: types.ServiceTypeOptionHttp, Description: aws.String(record.Description),
		HealthCheckCustomConfig: &types.HealthCheckCustomConfig{FailureThreshold: aws.Int32(1)}, //nolint:staticcheck // the one value that it can have
		Tags:                    []types.Tag{{Key: aws.String(record.TagManagedBy), Value: aws.String(record.TagManagedByValue)}},
	})
	if err != nil {
		return fmt.Errorf("create service %s: %w", record.ReplicasService, err)
	}
	d.service, d.ns = ns.ServiceRef(out.Service.Id, out.Service.Arn), ns
	return nil
}

// admit takes the service if it is ours.
func (d *Directory) admit(ctx context.Context, s types.ServiceSummary, ns namespaces.Namespace) error {
	out, err := d.api.ListTagsForResource(ctx, &sd.ListTagsForResourceInput{ResourceARN: s.Arn})
	if err != nil {
		return fmt.Errorf("read the tags of %s: %w", aws.ToString(s.Arn), err)
	}
	for _, t := range out.Tags {
		if aws.ToString(t.Key) == record.TagManagedBy && aws.ToString(t.Value) == record.TagManagedByValue {
			d.service, d.ns = ns.ServiceRef(s.Id, s.Arn), ns
			return nil
		}
	}
	return fmt.Errorf("a service %s exists and was not made by patchbay (%s): the name is reserved for the control plane's replicas; delete it or rename it",
		record.ReplicasService, aws.ToString(s.Arn))
}

func (d *Directory) namespace(ctx context.Context, make bool) (namespaces.Namespace, error) {
	n, err := namespaces.Find(ctx, d.api, namespaces.Want{Local: strings.ToLower(d.o.Namespace), Registry: d.o.Namespace})
	if err == nil {
		return n, nil
	}
	if !errors.Is(err, namespaces.ErrNone) || !make || !d.o.Create {
		return n, fmt.Errorf("find namespace %s of the replicas: %w", d.o.Namespace, err)
	}
	_, err = d.api.CreateHttpNamespace(ctx, &sd.CreateHttpNamespaceInput{
		Name: &d.o.Namespace, Description: aws.String(record.Description),
		Tags: []types.Tag{{Key: aws.String(record.TagManagedBy), Value: aws.String(record.TagManagedByValue)}},
	})
	if err != nil {
		return n, fmt.Errorf("create namespace %s: %w", d.o.Namespace, err)
	}
	return n, fmt.Errorf("namespace %s is being made", d.o.Namespace) // asked for again soon
}
