package day

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
	"github.com/aws/smithy-go"
	"golang.org/x/time/rate"

	"patchbay/mesh"
	"patchbay/mesh/record"
)

// quotas are what AWS allows: so many a second, after so many at once. Where it
// does not publish that, it is what those who measured it keep to.
var quotas = map[string][2]int{
	"DiscoverInstances": {1000, 2000}, "DiscoverInstancesRevision": {3000, 3000}, "GetServiceAttributes": {50, 50}, "ListServices": {2, 10}, "ListNamespaces": {1, 5},
}

// registry is Cloud Map without a network: one namespace, and a book of every
// call. What AWS would throttle it throttles.
type registry struct {
	mu        sync.Mutex
	services  map[string]*service // by name, of the id srv-NAME
	calls     map[string]int
	throttled int
	limits    map[string]*rate.Limiter
}

type service struct {
	description string
	attrs       map[string]string
	checked     bool
	revision    int64
	instances   map[string]map[string]string
}

func newRegistry() *registry {
	r := &registry{services: map[string]*service{}, calls: map[string]int{}, limits: map[string]*rate.Limiter{}}
	for op, q := range quotas {
		r.limits[op] = rate.NewLimiter(rate.Limit(q[0]), q[1])
	}
	return r
}

// start begins the books anew.
func (r *registry) start() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.calls)
	r.throttled = 0
}

// books are the calls since start.
func (r *registry) books() (calls map[string]int, throttled int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.calls), r.throttled
}

// add makes a service with two instances, of ours or of other software.
func (r *registry) add(name string, ours, checked bool) error {
	s := &service{checked: checked, instances: map[string]map[string]string{}}
	if ours {
		c, err := record.Plan(nil, record.Settings{Protocol: mesh.HTTP, Aliases: []mesh.Alias{{DNSName: name, Port: 8080}}}, nil)
		if err != nil {
			return err
		}
		s.description, s.attrs = record.Description, c.Put
	}
	r.mu.Lock()
	r.services[name] = s
	r.mu.Unlock()
	r.change(name, 0)
	r.change(name, 1)
	return nil
}

// change registers an instance, and takes the oldest out beyond five. It returns
// how many there are.
func (r *registry) change(name string, n int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.services[name]
	at := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
	a := map[string]string{record.AttrIPv4: at.String(), record.AttrPort: "15010"}
	if s.attrs != nil {
		a[record.AttrSettings], a[record.AttrOwner] = s.attrs[record.AttrCurrent], "prod/"+name
	}
	s.instances[fmt.Sprintf("t%06d.web", n)] = a
	if ids := slices.Sorted(maps.Keys(s.instances)); len(ids) > 5 {
		delete(s.instances, ids[0])
	}
	s.revision++
	return len(s.instances)
}

// ids are the instances of a service.
func (r *registry) ids(name string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.services[name].instances))
}

// called books a call. r.mu is held.
func (r *registry) called(op string) error {
	r.calls[op]++
	if l := r.limits[op]; l != nil && !l.Allow() {
		r.throttled++
		return &smithy.GenericAPIError{Code: "RequestLimitExceeded"}
	}
	return nil
}

func (r *registry) ListNamespaces(context.Context, *sd.ListNamespacesInput, ...func(*sd.Options)) (*sd.ListNamespacesOutput, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &sd.ListNamespacesOutput{Namespaces: []types.NamespaceSummary{{Id: aws.String("ns-1"), Arn: aws.String("arn:ns-1"), Name: aws.String("prod"),
		Properties: &types.NamespaceProperties{HttpProperties: &types.HttpProperties{HttpName: aws.String("prod")}}}}}, r.called("ListNamespaces")
}

func (r *registry) ListServices(_ context.Context, in *sd.ListServicesInput, _ ...func(*sd.Options)) (*sd.ListServicesOutput, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &sd.ListServicesOutput{}
	after, _ := strconv.Atoi(aws.ToString(in.NextToken)) //nolint:errcheck // empty is the first page
	names := slices.Sorted(maps.Keys(r.services))
	for i := after; i < len(names); i++ {
		if len(out.Services) == 100 {
			out.NextToken = aws.String(strconv.Itoa(i))
			break
		}
		s := r.services[names[i]]
		sum := types.ServiceSummary{Id: aws.String("srv-" + names[i]), Arn: aws.String("arn:" + names[i]), Name: &names[i],
			CreateDate: aws.Time(time.Unix(1000, 0)), Description: &s.description}
		if s.checked {
			sum.HealthCheckCustomConfig = &types.HealthCheckCustomConfig{}
		}
		out.Services = append(out.Services, sum)
	}
	return out, r.called("ListServices")
}

func (r *registry) GetServiceAttributes(_ context.Context, in *sd.GetServiceAttributesInput, _ ...func(*sd.Options)) (*sd.GetServiceAttributesOutput, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.services[(*in.ServiceId)[len("srv-"):]]
	if s == nil {
		return nil, errors.Join(&types.ServiceNotFound{}, r.called("GetServiceAttributes"))
	}
	return &sd.GetServiceAttributesOutput{ServiceAttributes: &types.ServiceAttributes{Attributes: s.attrs}}, r.called("GetServiceAttributes")
}

func (r *registry) DiscoverInstancesRevision(_ context.Context, in *sd.DiscoverInstancesRevisionInput, _ ...func(*sd.Options)) (*sd.DiscoverInstancesRevisionOutput, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.services[*in.ServiceName]
	if s == nil {
		return nil, errors.Join(&types.ServiceNotFound{}, r.called("DiscoverInstancesRevision"))
	}
	return &sd.DiscoverInstancesRevisionOutput{InstancesRevision: aws.Int64(s.revision)}, r.called("DiscoverInstancesRevision")
}

func (r *registry) DiscoverInstances(_ context.Context, in *sd.DiscoverInstancesInput, _ ...func(*sd.Options)) (*sd.DiscoverInstancesOutput, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.services[*in.ServiceName]
	if s == nil {
		return nil, errors.Join(&types.ServiceNotFound{}, r.called("DiscoverInstances"))
	}
	out := &sd.DiscoverInstancesOutput{InstancesRevision: aws.Int64(s.revision)}
	for id, a := range s.instances {
		out.Instances = append(out.Instances, types.HttpInstanceSummary{InstanceId: aws.String(id), HealthStatus: types.HealthStatusHealthy, Attributes: a})
	}
	return out, r.called("DiscoverInstances")
}

func (r *registry) CreateHttpNamespace(context.Context, *sd.CreateHttpNamespaceInput, ...func(*sd.Options)) (*sd.CreateHttpNamespaceOutput, error) { //nolint:revive // the name is the SDK's
	return nil, errors.New("the namespace is there")
}

func (r *registry) CreateService(_ context.Context, in *sd.CreateServiceInput, _ ...func(*sd.Options)) (*sd.CreateServiceOutput, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.services[*in.Name] != nil {
		return nil, &types.ServiceAlreadyExists{}
	}
	r.services[*in.Name] = &service{description: aws.ToString(in.Description), checked: true, instances: map[string]map[string]string{}}
	return &sd.CreateServiceOutput{Service: &types.Service{Id: aws.String("srv-" + *in.Name), Arn: aws.String("arn:" + *in.Name)}}, r.called("CreateService")
}

func (r *registry) ListTagsForResource(context.Context, *sd.ListTagsForResourceInput, ...func(*sd.Options)) (*sd.ListTagsForResourceOutput, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &sd.ListTagsForResourceOutput{Tags: []types.Tag{{Key: aws.String(record.TagManagedBy), Value: aws.String(record.TagManagedByValue)}}}, r.called("ListTagsForResource")
}

func (r *registry) RegisterInstance(_ context.Context, in *sd.RegisterInstanceInput, _ ...func(*sd.Options)) (*sd.RegisterInstanceOutput, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.services[(*in.ServiceId)[len("srv-"):]]
	s.instances[*in.InstanceId] = in.Attributes
	s.revision++
	return &sd.RegisterInstanceOutput{}, r.called("RegisterInstance")
}

func (r *registry) DeregisterInstance(_ context.Context, in *sd.DeregisterInstanceInput, _ ...func(*sd.Options)) (*sd.DeregisterInstanceOutput, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.services[(*in.ServiceId)[len("srv-"):]]
	delete(s.instances, *in.InstanceId)
	s.revision++
	return &sd.DeregisterInstanceOutput{}, r.called("DeregisterInstance")
}

func (r *registry) UpdateInstanceCustomHealthStatus(context.Context, *sd.UpdateInstanceCustomHealthStatusInput, ...func(*sd.Options)) (*sd.UpdateInstanceCustomHealthStatusOutput, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &sd.UpdateInstanceCustomHealthStatusOutput{}, r.called("UpdateInstanceCustomHealthStatus")
}
