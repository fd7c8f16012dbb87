package reaper_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"

	"patchbay/discovery/cloud"
	"patchbay/identity/taskrole"
	fakeecs "patchbay/internal/awsfake/ecs"
	"patchbay/internal/awsfake/wire"
	"patchbay/mesh"
	"patchbay/registrar"
	"patchbay/registrar/reaper"
	"patchbay/registry"
	"patchbay/registry/store"
)

var workload = mesh.Workload{Namespace: "prod", Name: "backend", DiscoveryNames: []string{"backend"}}

// replica is one of the control planes on a registry and an ECS.
type replica struct {
	*reaper.Reaper
	reaped []string
	log    *bytes.Buffer
}

type nobody struct{}

func (nobody) Hint(mesh.ServiceName)            {}
func (nobody) HintSettings(mesh.ServiceName)    {}
func (nobody) Leaving(mesh.ServiceName, string) {}

// stand is a registry and an ECS, both over their real protocols.
type stand struct {
	t        *testing.T
	registry *sd.Client
	aws      *wire.Server
	ecs      *fakeecs.ECS
	api      *ecs.Client
}

func newStand(t *testing.T) *stand {
	t.Helper()
	reg := registry.New(&store.Memory{}, registry.Options{})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = reg.Run(ctx) }()
	srv := httptest.NewServer(reg)
	t.Cleanup(func() { srv.Close(); stop(); <-done })
	s := &stand{t: t, ecs: fakeecs.New()}
	s.registry = cloud.NewClient(aws.Config{Region: "us-east-1", Credentials: aws.AnonymousCredentials{}}, cloud.ClientOptions{Endpoint: srv.URL, Attempts: 3})
	s.aws = wire.New(wire.Options{Region: "us-east-1", Principals: map[string]wire.Principal{
		"CONTROLPLANE": {Secret: "cp", Account: "111122223333", ARN: "arn:aws:sts::111122223333:assumed-role/patchbay/1"},
	}}, s.ecs.API())
	h := httptest.NewServer(s.aws)
	t.Cleanup(h.Close)
	s.api = ecs.New(ecs.Options{Region: "us-east-1", BaseEndpoint: &h.URL, RetryMaxAttempts: 1, Credentials: credentials.NewStaticCredentialsProvider("CONTROLPLANE", "cp", "")})
	return s
}

// present lists the instances of backend in the registry.
func (s *stand) present() (ids []string) {
	s.t.Helper()
	out, err := s.registry.DiscoverInstances(s.t.Context(), &sd.DiscoverInstancesInput{NamespaceName: aws.String("prod"), ServiceName: aws.String("backend"), MaxResults: aws.Int32(1000)})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, i := range out.Instances {
		ids = append(ids, *i.InstanceId)
	}
	return ids
}

// replica sees what is in the registry at each sweep.
func (s *stand) replica() *replica {
	r := &replica{log: &bytes.Buffer{}}
	log := slog.New(slog.NewTextHandler(r.log, nil))
	tasks := taskrole.Roles{taskrole.Tasks(taskrole.NewVerifier("", "us-east-1", ""), s.api, []taskrole.Role{{Workload: workload, ARN: "arn:aws:iam::111122223333:role/backend", Cluster: "prod", Service: "backend"}})}
	r.Reaper = reaper.New(reaper.Config{
		Tasks: tasks, Registry: registrar.New(registrar.Config{}, s.registry, nobody{}, log), Log: log,
		Connected: func() map[string]bool { return nil },
		Reaped:    func(_ mesh.ServiceName, id, _ string) { r.reaped = append(r.reaped, id) },
		Snapshot: func() *mesh.Snapshot {
			v := &mesh.Service{Name: mesh.ServiceName{Namespace: "prod", DiscoveryName: "backend"}}
			for _, id := range s.present() {
				v.Endpoints = append(v.Endpoints, mesh.Endpoint{InstanceID: id})
			}
			return &mesh.Snapshot{Services: []*mesh.Service{v}}
		},
	})
	return r
}

func taskID(i int) string { return fmt.Sprintf("%032x", i) }

// register puts n tasks into registry and ECS.
func (s *stand) register(n int) {
	s.t.Helper()
	r := registrar.New(registrar.Config{CreateNamespace: true}, s.registry, nobody{}, slog.New(slog.DiscardHandler))
	for i := range n {
		_, err := r.Register(s.t.Context(), registrar.Request{
			Instance: registrar.Instance{Node: mesh.Node{Workload: workload, Task: taskID(i)}, DiscoveryName: "backend", PortName: "web"},
			Peer:     netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), ListenerPort: 15010, Health: mesh.Healthy, Protocol: mesh.HTTP,
			Aliases: []mesh.Alias{{DNSName: "backend.prod", Port: 8080}},
		})
		if err != nil {
			s.t.Fatal(err)
		}
		s.ecs.Put(fakeecs.Task{ID: taskID(i), Cluster: "prod", Service: "backend"})
	}
}

func (s *stand) stop(i int) {
	s.ecs.Put(fakeecs.Task{ID: taskID(i), Cluster: "prod", Service: "backend", LastStatus: "STOPPED", DesiredStatus: "STOPPED"})
}

// TestTwoReplicas sweep the same registry over the wire: each instance of an
// ended task goes once, no other goes, and no sweep takes more than a fifth.
func TestTwoReplicas(t *testing.T) {
	s := newStand(t)
	s.register(10)
	a, b := s.replica(), s.replica()
	for _, r := range []*replica{a, b} {
		r.Sweep(t.Context())
	}
	for _, i := range []int{2, 5, 7} {
		s.stop(i)
	}
	for sweep, left := range []int{10, 8, 7, 7} {
		done := make(chan struct{})
		go func() { defer close(done); a.Sweep(t.Context()) }()
		b.Sweep(t.Context())
		<-done
		if n := len(s.present()); n != left {
			t.Errorf("after sweep %d: %d instances; want %d", sweep, n, left)
		}
	}
	if got := strings.Join(s.present(), " "); len(s.present()) != 7 || strings.Contains(got, taskID(2)) || strings.Contains(got, taskID(5)) || strings.Contains(got, taskID(7)) {
		t.Errorf("left: %s", got)
	}
	if len(a.reaped)+len(b.reaped) < 3 {
		t.Errorf("%v and %v", a.reaped, b.reaped)
	}
}

// TestECSIsAway: denied, throttled, broken, or another cluster: nothing goes,
// and the log says what to do.
func TestECSIsAway(t *testing.T) {
	s := newStand(t)
	s.register(2)
	s.stop(0)
	r := s.replica()
	for _, c := range []struct {
		fault wire.Fault
		want  string
	}{
		{wire.Fault{Error: "AccessDeniedException"}, `\"Effect\":\"Allow\",\"Action\":\"ecs:DescribeTasks\"`},
		{wire.Fault{Error: "ThrottlingException"}, "ThrottlingException"},
		{wire.Fault{Error: "ServerException", Status: 500}, "ServerException"},
		{wire.Fault{Error: "ClusterNotFoundException"}, "there is no ECS cluster prod"},
		{wire.Fault{Cut: true}, "DescribeTasks"},
	} {
		c.fault.Service = "ecs"
		clear := s.aws.Inject(c.fault)
		for range 3 {
			r.Sweep(t.Context())
		}
		clear()
		if !strings.Contains(r.log.String(), c.want) || len(s.present()) != 2 {
			t.Errorf("%+v: %d instances, and the log says\n%s", c.fault, len(s.present()), r.log)
		}
		r.log.Reset()
	}
	for range 2 {
		r.Sweep(t.Context())
	}
	if len(s.present()) != 1 {
		t.Errorf("ECS is back: %v\n%s", s.present(), r.log)
	}
}
