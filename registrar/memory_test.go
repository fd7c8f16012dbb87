package registrar

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
)

func newCloud(*testing.T) sdAPI {
	return &memory{services: map[string]*svc{}, namespaces: map[string]string{}}
}

type memory struct {
	mu         sync.Mutex
	n          int
	namespaces map[string]string
	services   map[string]*svc
}

type svc struct {
	types.ServiceSummary
	ns    string
	attrs map[string]string
	tags  []types.Tag
	inst  map[string]types.HttpInstanceSummary
}

func (m *memory) id(p string) string { m.n++; return fmt.Sprintf("%s-%d", p, m.n) }

func (m *memory) ListNamespaces(_ context.Context, _ *sd.ListNamespacesInput, _ ...func(*sd.Options)) (*sd.ListNamespacesOutput, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := &sd.ListNamespacesOutput{}
	for n, id := range m.namespaces {
		out.Namespaces = append(out.Namespaces, types.NamespaceSummary{Id: aws.String(id), Name: aws.String(n)})
	}
	return out, nil
}

func (m *memory) CreateHttpNamespace(_ context.Context, in *sd.CreateHttpNamespaceInput, _ ...func(*sd.Options)) (*sd.CreateHttpNamespaceOutput, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if id := m.namespaces[*in.Name]; id != "" {
		return nil, &types.NamespaceAlreadyExists{NamespaceId: aws.String(id)}
	}
	id := m.id("ns")
	m.namespaces[*in.Name] = id
	return &sd.CreateHttpNamespaceOutput{OperationId: aws.String(id)}, nil
}

func (m *memory) ListServices(_ context.Context, in *sd.ListServicesInput, _ ...func(*sd.Options)) (*sd.ListServicesOutput, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := &sd.ListServicesOutput{}
	for _, s := range m.services {
		if s.ns == in.Filters[0].Values[0] {
			out.Services = append(out.Services, s.ServiceSummary)
		}
	}
	return out, nil
}

func (m *memory) CreateService(_ context.Context, in *sd.CreateServiceInput, _ ...func(*sd.Options)) (*sd.CreateServiceOutput, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.services {
		if *s.Name == *in.Name && s.ns == *in.NamespaceId {
			return nil, &types.ServiceAlreadyExists{}
		}
	}
	id := m.id("srv")
	s := &svc{ns: *in.NamespaceId, tags: in.Tags, attrs: map[string]string{}, inst: map[string]types.HttpInstanceSummary{}}
	s.Id, s.Arn, s.Name, s.CreateDate, s.Description = &id, aws.String("arn:/"+id), in.Name, aws.Time(time.Now()), in.Description
	m.services[id] = s
	return &sd.CreateServiceOutput{Service: &types.Service{Id: s.Id, Arn: s.Arn}}, nil
}

func (m *memory) DeleteService(_ context.Context, in *sd.DeleteServiceInput, _ ...func(*sd.Options)) (*sd.DeleteServiceOutput, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.services, *in.Id)
	return &sd.DeleteServiceOutput{}, nil
}

func (m *memory) with(id *string, f func(*svc) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.services[*id]
	if s == nil {
		return &types.ServiceNotFound{}
	}
	return f(s)
}

func (m *memory) ListTagsForResource(_ context.Context, in *sd.ListTagsForResourceInput, _ ...func(*sd.Options)) (*sd.ListTagsForResourceOutput, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := &sd.ListTagsForResourceOutput{}
	for _, s := range m.services {
		if *s.Arn == *in.ResourceARN {
			out.Tags = s.tags
		}
	}
	return out, nil
}

func (m *memory) GetServiceAttributes(_ context.Context, in *sd.GetServiceAttributesInput, _ ...func(*sd.Options)) (*sd.GetServiceAttributesOutput, error) {
	out := &sd.GetServiceAttributesOutput{}
	return out, m.with(in.ServiceId, func(s *svc) error {
		out.ServiceAttributes = &types.ServiceAttributes{Attributes: maps.Clone(s.attrs)}
		return nil
	})
}

func (m *memory) UpdateServiceAttributes(_ context.Context, in *sd.UpdateServiceAttributesInput, _ ...func(*sd.Options)) (*sd.UpdateServiceAttributesOutput, error) {
	return nil, m.with(in.ServiceId, func(s *svc) error { maps.Copy(s.attrs, in.Attributes); return nil })
}

func (m *memory) DeleteServiceAttributes(_ context.Context, in *sd.DeleteServiceAttributesInput, _ ...func(*sd.Options)) (*sd.DeleteServiceAttributesOutput, error) {
	return nil, m.with(in.ServiceId, func(s *svc) error {
		for _, k := range in.Attributes {
			delete(s.attrs, k)
		}
		return nil
	})
}

func (m *memory) GetInstance(_ context.Context, in *sd.GetInstanceInput, _ ...func(*sd.Options)) (*sd.GetInstanceOutput, error) {
	out := &sd.GetInstanceOutput{}
	return out, m.with(in.ServiceId, func(s *svc) error {
		i, ok := s.inst[*in.InstanceId]
		if !ok {
			return &types.InstanceNotFound{}
		}
		out.Instance = &types.Instance{Id: in.InstanceId, Attributes: maps.Clone(i.Attributes)}
		return nil
	})
}

func (m *memory) RegisterInstance(_ context.Context, in *sd.RegisterInstanceInput, _ ...func(*sd.Options)) (*sd.RegisterInstanceOutput, error) {
	return &sd.RegisterInstanceOutput{OperationId: aws.String("op")}, m.with(in.ServiceId, func(s *svc) error {
		s.inst[*in.InstanceId] = types.HttpInstanceSummary{InstanceId: in.InstanceId, Attributes: maps.Clone(in.Attributes), HealthStatus: types.HealthStatusHealthy}
		return nil
	})
}

func (m *memory) DeregisterInstance(_ context.Context, in *sd.DeregisterInstanceInput, _ ...func(*sd.Options)) (*sd.DeregisterInstanceOutput, error) {
	return &sd.DeregisterInstanceOutput{OperationId: aws.String("op")}, m.with(in.ServiceId, func(s *svc) error {
		if _, ok := s.inst[*in.InstanceId]; !ok {
			return &types.InstanceNotFound{}
		}
		delete(s.inst, *in.InstanceId)
		return nil
	})
}

func (m *memory) UpdateInstanceCustomHealthStatus(_ context.Context, in *sd.UpdateInstanceCustomHealthStatusInput, _ ...func(*sd.Options)) (*sd.UpdateInstanceCustomHealthStatusOutput, error) {
	return nil, m.with(in.ServiceId, func(s *svc) error {
		i, ok := s.inst[*in.InstanceId]
		if !ok {
			return &types.InstanceNotFound{}
		}
		i.HealthStatus = types.HealthStatus(in.Status)
		s.inst[*in.InstanceId] = i
		return nil
	})
}

func (m *memory) GetOperation(_ context.Context, in *sd.GetOperationInput, _ ...func(*sd.Options)) (*sd.GetOperationOutput, error) {
	return &sd.GetOperationOutput{Operation: &types.Operation{Id: in.OperationId, Status: types.OperationStatusSuccess, Targets: map[string]string{"NAMESPACE": *in.OperationId}}}, nil
}

func (m *memory) DiscoverInstances(_ context.Context, in *sd.DiscoverInstancesInput, _ ...func(*sd.Options)) (*sd.DiscoverInstancesOutput, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := &sd.DiscoverInstancesOutput{}
	for _, s := range m.services {
		if *s.Name == *in.ServiceName {
			for _, i := range s.inst {
				out.Instances = append(out.Instances, i)
			}
		}
	}
	return out, nil
}
