package discovery

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"

	"patchbay/discovery/cloud"
	"patchbay/mesh"
	"patchbay/mesh/record"
)

// memory is the API without a network, for tests under a fake clock: what the
// rules of time do can't be shown over real connections.
type memory struct {
	mu       sync.Mutex
	missing  bool // the namespace
	services map[string]*memoryService
	fail     func(op, service string) error // nil: nothing fails
	calls    map[string]int
}

type memoryService struct {
	id, description string
	attrs           map[string]string
	instances       map[string]memoryInstance
	revision        int64
	hidden          bool // from the discover calls
	checked         bool // has a health check
	unlisted        bool // from ListServices
}

type memoryInstance struct {
	attrs  map[string]string
	health string
}

var errDown = errors.New("connection refused")

func newMemory() *memory {
	return &memory{services: map[string]*memoryService{}, calls: map[string]int{}}
}

func (m *memory) do(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

func (m *memory) called(ctx context.Context, op, service string) error {
	m.calls[op]++
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.fail != nil {
		return m.fail(op, service)
	}
	return nil
}

func (m *memory) ListNamespaces(ctx context.Context, _ *sd.ListNamespacesInput, _ ...func(*sd.Options)) (*sd.ListNamespacesOutput, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.called(ctx, "ListNamespaces", ""); err != nil {
		return nil, err
	}
	out := &sd.ListNamespacesOutput{}
	if !m.missing {
		out.Namespaces = []types.NamespaceSummary{{Id: aws.String("ns-1"), Arn: aws.String("arn:ns-1"), Name: aws.String("prod"),
			Properties: &types.NamespaceProperties{HttpProperties: &types.HttpProperties{HttpName: aws.String("prod")}}}}
	}
	return out, nil
}

func (m *memory) ListServices(ctx context.Context, _ *sd.ListServicesInput, _ ...func(*sd.Options)) (*sd.ListServicesOutput, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.called(ctx, "ListServices", ""); err != nil {
		return nil, err
	}
	if m.missing {
		return nil, &types.NamespaceNotFound{}
	}
	out := &sd.ListServicesOutput{}
	for _, name := range slices.Sorted(maps.Keys(m.services)) {
		if s := m.services[name]; !s.unlisted {
			sum := types.ServiceSummary{Id: aws.String(s.id), Arn: aws.String("arn:" + s.id),
				Name: aws.String(name), CreateDate: aws.Time(time.Unix(1000, 0)), Description: aws.String(s.description)}
			if s.checked {
				sum.HealthCheckCustomConfig = &types.HealthCheckCustomConfig{}
			}
			out.Services = append(out.Services, sum)
		}
	}
	return out, nil
}

func (m *memory) GetServiceAttributes(ctx context.Context, in *sd.GetServiceAttributesInput, _ ...func(*sd.Options)) (*sd.GetServiceAttributesOutput, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, s := range m.services {
		if s.id == *in.ServiceId {
			if err := m.called(ctx, "GetServiceAttributes", name); err != nil {
				return nil, err
			}
			return &sd.GetServiceAttributesOutput{ServiceAttributes: &types.ServiceAttributes{Attributes: maps.Clone(s.attrs)}}, nil
		}
	}
	return nil, &types.ServiceNotFound{}
}

func (m *memory) DiscoverInstancesRevision(ctx context.Context, in *sd.DiscoverInstancesRevisionInput, _ ...func(*sd.Options)) (*sd.DiscoverInstancesRevisionOutput, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.called(ctx, "DiscoverInstancesRevision", *in.ServiceName); err != nil {
		return nil, err
	}
	s := m.services[*in.ServiceName]
	if s == nil || s.hidden {
		return nil, &types.ServiceNotFound{}
	}
	return &sd.DiscoverInstancesRevisionOutput{InstancesRevision: aws.Int64(s.revision)}, nil
}

func (m *memory) DiscoverInstances(ctx context.Context, in *sd.DiscoverInstancesInput, _ ...func(*sd.Options)) (*sd.DiscoverInstancesOutput, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.called(ctx, "DiscoverInstances", *in.ServiceName); err != nil {
		return nil, err
	}
	if in.HealthStatus != types.HealthStatusFilterAll || aws.ToInt32(in.MaxResults) != 1000 {
		return nil, errors.New("HealthStatus and MaxResults must be explicit")
	}
	s := m.services[*in.ServiceName]
	if s == nil || s.hidden {
		return nil, &types.ServiceNotFound{}
	}
	out := &sd.DiscoverInstancesOutput{InstancesRevision: aws.Int64(s.revision)}
	for id, i := range s.instances { // in any order, as AWS does
		out.Instances = append(out.Instances, types.HttpInstanceSummary{InstanceId: aws.String(id),
			HealthStatus: types.HealthStatus(i.health), Attributes: maps.Clone(i.attrs)})
	}
	return out, nil
}

// own adds a service of ours with n plain instances.
func (m *memory) own(t *testing.T, name string, settings record.Settings, n int) *memoryService {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := record.Plan(nil, settings, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &memoryService{id: "srv-" + name, description: record.Description, checked: true, attrs: c.Put, instances: map[string]memoryInstance{}, revision: 10}
	m.services[name] = s
	for i := range n {
		s.add(i)
	}
	return s
}

func (s *memoryService) add(i int) string {
	id := string(rune('a'+i)) + ".http"
	s.instances[id] = memoryInstance{health: "HEALTHY", attrs: map[string]string{
		record.AttrIPv4: "10.0.0." + string(rune('1'+i)), record.AttrPort: "15010", record.AttrSettings: s.attrs[record.AttrCurrent],
	}}
	s.revision++
	return id
}

func (s *memoryService) remove(id string) {
	delete(s.instances, id)
	s.revision++
}

func (s *memoryService) clear() {
	s.instances = map[string]memoryInstance{}
	s.revision++
}

func plain(protocol mesh.Protocol, alias string) record.Settings {
	return record.Settings{Protocol: protocol, Aliases: []mesh.Alias{{DNSName: alias, Port: 8080}}}
}

// world is a running CloudMap over memory, inside a synctest bubble.
type world struct {
	*memory
	cm    *CloudMap
	store *mesh.Store
	seen  *minimum
}

// minimum watches every publication for the fewest endpoints of a service.
type minimum struct {
	*mesh.Store
	mu    sync.Mutex
	least map[string]int
}

func (m *minimum) SetServices(ns string, list []*mesh.Service) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	got := map[string]int{}
	for _, s := range list {
		got[s.Name.DiscoveryName] = len(s.Endpoints)
	}
	for name, n := range m.least {
		m.least[name] = min(n, got[name])
	}
	return m.Store.SetServices(ns, list)
}

func start(t *testing.T, m *memory, change ...func(*Config)) *world {
	t.Helper()
	cfg := Config{Namespaces: []Namespace{{Name: "prod"}}, Budget: cloud.Unlimited}
	for _, f := range change {
		f(&cfg)
	}
	store := mesh.NewStore()
	w := &world{memory: m, store: store, seen: &minimum{Store: store, least: map[string]int{}}}
	cm, err := New(cfg, m, w.seen, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w.cm = cm
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = cm.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	return w
}

func (w *world) endpoints(name string) []string {
	s := w.store.Snapshot().Service(mesh.ServiceName{Namespace: "prod", DiscoveryName: name})
	if s == nil {
		return nil
	}
	out := []string{}
	for _, e := range s.Endpoints {
		out = append(out, e.InstanceID)
	}
	return out
}

func (w *world) expect(t *testing.T, when, name, want string) {
	t.Helper()
	synctest.Wait()
	if got := strings.Join(w.endpoints(name), " "); got != want {
		t.Errorf("%s: endpoints of %s are %q, want %q", when, name, got, want)
	}
}

// after lets the fake clock run.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
