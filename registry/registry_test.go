package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
	"github.com/google/go-cmp/cmp"

	"patchbay/registry/protocol"
	"patchbay/registry/store"
	"patchbay/registry/watch"
)

// newServer runs until the test ends.
func newServer(t testing.TB, st store.Store, o ...Options) *Server {
	t.Helper()
	s := New(st, append(o, Options{})[0])
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

// client is the unmodified SDK. Its endpoint is a name, as in a container
// network: `cloudmap` and `data-cloudmap` both lead to the server.
func client(t testing.TB, h http.Handler) *servicediscovery.Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		if host, _, _ := net.SplitHostPort(addr); host != "cloudmap" && host != "data-cloudmap" {
			return nil, fmt.Errorf("the SDK dials %s", addr)
		}
		return new(net.Dialer).DialContext(ctx, network, srv.Listener.Addr().String())
	}
	transport := &http.Transport{DialContext: dial}
	t.Cleanup(transport.CloseIdleConnections)
	return servicediscovery.New(servicediscovery.Options{
		Region: "us-east-1", BaseEndpoint: aws.String("http://cloudmap"), HTTPClient: &http.Client{Transport: transport},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AK", SecretAccessKey: "SK"}, nil
		}),
	})
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// finished waits for an operation's success.
func finished(t testing.TB, c *servicediscovery.Client, id *string) *types.Operation {
	t.Helper()
	for {
		got := must[*servicediscovery.GetOperationOutput](t)(c.GetOperation(t.Context(), &servicediscovery.GetOperationInput{OperationId: id})).Operation
		switch got.Status {
		case types.OperationStatusSuccess:
			return got
		case types.OperationStatusFail:
			t.Fatalf("operation %s failed: %s %s", *id, aws.ToString(got.ErrorCode), aws.ToString(got.ErrorMessage))
		}
	}
}

// life makes a namespace and a service with two instances, and returns the
// service's id.
func life(t testing.TB, c *servicediscovery.Client) string {
	t.Helper()
	ctx := t.Context()
	op := must[*servicediscovery.CreateHttpNamespaceOutput](t)(c.CreateHttpNamespace(ctx, &servicediscovery.CreateHttpNamespaceInput{Name: aws.String("demo"), Tags: []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}}}))
	ns := finished(t, c, op.OperationId).Targets["NAMESPACE"]
	svc := must[*servicediscovery.CreateServiceOutput](t)(c.CreateService(ctx, &servicediscovery.CreateServiceInput{Name: aws.String("backend"), NamespaceId: &ns, HealthCheckCustomConfig: &types.HealthCheckCustomConfig{}}))
	for i := range 2 {
		op := must[*servicediscovery.RegisterInstanceOutput](t)(c.RegisterInstance(ctx, &servicediscovery.RegisterInstanceInput{
			ServiceId: svc.Service.Id, InstanceId: aws.String(fmt.Sprintf("t%d", i)),
			Attributes: map[string]string{"AWS_INSTANCE_IPV4": fmt.Sprintf("10.0.0.%d", i+1), "AWS_INSTANCE_PORT": "80", "zone": fmt.Sprint(i)},
		}))
		finished(t, c, op.OperationId)
	}
	return *svc.Service.Id
}

func discover(t testing.TB, c *servicediscovery.Client, change func(*servicediscovery.DiscoverInstancesInput)) (ids string, revision int64) {
	t.Helper()
	in := &servicediscovery.DiscoverInstancesInput{NamespaceName: aws.String("demo"), ServiceName: aws.String("backend"), MaxResults: aws.Int32(1000), HealthStatus: types.HealthStatusFilterAll}
	change(in)
	out := must[*servicediscovery.DiscoverInstancesOutput](t)(c.DiscoverInstances(t.Context(), in))
	var all []string
	for _, i := range out.Instances {
		all = append(all, *i.InstanceId+":"+string(i.HealthStatus))
	}
	slices.Sort(all)
	return strings.Join(all, " "), *out.InstancesRevision
}

func all(*servicediscovery.DiscoverInstancesInput) {}

func TestLifeWithTheSDK(t *testing.T) {
	c, ctx := client(t, newServer(t, &store.Memory{})), t.Context()
	id := life(t, c)
	ids, first := discover(t, c, all)
	if ids != "t0:HEALTHY t1:HEALTHY" {
		t.Fatalf("discovered %q", ids)
	}
	must[*servicediscovery.UpdateInstanceCustomHealthStatusOutput](t)(c.UpdateInstanceCustomHealthStatus(ctx, &servicediscovery.UpdateInstanceCustomHealthStatusInput{ServiceId: &id, InstanceId: aws.String("t0"), Status: types.CustomHealthStatusUnhealthy}))
	ids, revision := discover(t, c, all)
	if ids != "t0:UNHEALTHY t1:HEALTHY" || revision != first {
		t.Errorf("after a health change: %q, revision %d then %d", ids, first, revision)
	}
	for want, change := range map[string]func(*servicediscovery.DiscoverInstancesInput){
		"t1:HEALTHY":   func(in *servicediscovery.DiscoverInstancesInput) { in.HealthStatus = types.HealthStatusFilterHealthy },
		"t0:UNHEALTHY": func(in *servicediscovery.DiscoverInstancesInput) { in.QueryParameters = map[string]string{"zone": "0"} },
		"t0:UNHEALTHY t1:HEALTHY": func(in *servicediscovery.DiscoverInstancesInput) {
			in.OptionalParameters = map[string]string{"zone": "9"}
		},
		"": func(in *servicediscovery.DiscoverInstancesInput) { in.QueryParameters = map[string]string{"zone": "9"} },
	} {
		if got, _ := discover(t, c, change); got != want {
			t.Errorf("filtered: %q, want %q", got, want)
		}
	}
	finished(t, c, must[*servicediscovery.DeregisterInstanceOutput](t)(c.DeregisterInstance(ctx, &servicediscovery.DeregisterInstanceInput{ServiceId: &id, InstanceId: aws.String("t1")})).OperationId)
	rev := must[*servicediscovery.DiscoverInstancesRevisionOutput](t)(c.DiscoverInstancesRevision(ctx, &servicediscovery.DiscoverInstancesRevisionInput{NamespaceName: aws.String("demo"), ServiceName: aws.String("backend")}))
	if *rev.InstancesRevision != first+1 {
		t.Errorf("revision %d after a removal, was %d", *rev.InstancesRevision, first)
	}
	must[*servicediscovery.UpdateServiceAttributesOutput](t)(c.UpdateServiceAttributes(ctx, &servicediscovery.UpdateServiceAttributesInput{ServiceId: &id, Attributes: map[string]string{"a": "1", "b": "2"}}))
	must[*servicediscovery.DeleteServiceAttributesOutput](t)(c.DeleteServiceAttributes(ctx, &servicediscovery.DeleteServiceAttributesInput{ServiceId: &id, Attributes: []string{"a"}}))
	attrs := must[*servicediscovery.GetServiceAttributesOutput](t)(c.GetServiceAttributes(ctx, &servicediscovery.GetServiceAttributesInput{ServiceId: &id}))
	if len(attrs.ServiceAttributes.Attributes) != 1 || attrs.ServiceAttributes.Attributes["b"] != "2" {
		t.Errorf("attributes: %v", attrs.ServiceAttributes.Attributes)
	}
}

// A service that is made again must not start below revisions that clients
// have seen.
func TestRevisionNeverGoesBack(t *testing.T) {
	c, ctx := client(t, newServer(t, &store.Memory{})), t.Context()
	id := life(t, c)
	_, before := discover(t, c, all)
	var inUse *types.ResourceInUse
	if _, err := c.DeleteService(ctx, &servicediscovery.DeleteServiceInput{Id: &id}); !errors.As(err, &inUse) {
		t.Fatalf("a service with instances was deleted: %v", err)
	}
	svc := must[*servicediscovery.GetServiceOutput](t)(c.GetService(ctx, &servicediscovery.GetServiceInput{Id: &id})).Service
	for _, i := range []string{"t0", "t1"} {
		finished(t, c, must[*servicediscovery.DeregisterInstanceOutput](t)(c.DeregisterInstance(ctx, &servicediscovery.DeregisterInstanceInput{ServiceId: svc.Arn, InstanceId: &i})).OperationId)
	}
	must[*servicediscovery.DeleteServiceOutput](t)(c.DeleteService(ctx, &servicediscovery.DeleteServiceInput{Id: &id}))
	must[*servicediscovery.CreateServiceOutput](t)(c.CreateService(ctx, &servicediscovery.CreateServiceInput{Name: aws.String("backend"), NamespaceId: svc.NamespaceId}))
	if _, after := discover(t, c, all); after <= before {
		t.Errorf("revision %d after %d", after, before)
	}
}

func TestErrorsAreTheSDKs(t *testing.T) {
	c, ctx := client(t, newServer(t, &store.Memory{})), t.Context()
	id := life(t, c)
	_, err := c.CreateHttpNamespace(ctx, &servicediscovery.CreateHttpNamespaceInput{Name: aws.String("demo")})
	var nsExists *types.NamespaceAlreadyExists
	if !errors.As(err, &nsExists) || nsExists.NamespaceId == nil {
		t.Errorf("namespace twice: %v", err)
	}
	ns := must[*servicediscovery.ListNamespacesOutput](t)(c.ListNamespaces(ctx, &servicediscovery.ListNamespacesInput{Filters: []types.NamespaceFilter{{Name: types.NamespaceFilterNameHttpName, Values: []string{"demo"}}}})).Namespaces
	if len(ns) != 1 || *ns[0].Properties.HttpProperties.HttpName != "demo" {
		t.Fatalf("namespaces: %+v", ns)
	}
	var svcExists *types.ServiceAlreadyExists
	if _, err := c.CreateService(ctx, &servicediscovery.CreateServiceInput{Name: aws.String("backend"), NamespaceId: ns[0].Id}); !errors.As(err, &svcExists) || *svcExists.ServiceId != id {
		t.Errorf("service twice: %v", err)
	}
	var noService *types.ServiceNotFound
	if _, err := c.DiscoverInstances(ctx, &servicediscovery.DiscoverInstancesInput{NamespaceName: aws.String("demo"), ServiceName: aws.String("x")}); !errors.As(err, &noService) {
		t.Errorf("unknown service: %v", err)
	}
	var noNamespace *types.NamespaceNotFound
	if _, err := c.DiscoverInstancesRevision(ctx, &servicediscovery.DiscoverInstancesRevisionInput{NamespaceName: aws.String("x"), ServiceName: aws.String("x")}); !errors.As(err, &noNamespace) {
		t.Errorf("unknown namespace: %v", err)
	}
	var noInstance *types.InstanceNotFound
	if _, err := c.DeregisterInstance(ctx, &servicediscovery.DeregisterInstanceInput{ServiceId: &id, InstanceId: aws.String("x")}); !errors.As(err, &noInstance) {
		t.Errorf("unknown instance: %v", err)
	}
	var invalid *types.InvalidInput
	for name, a := range map[string]map[string]string{
		"host name": {"AWS_INSTANCE_IPV4": "backend"}, "port": {"AWS_INSTANCE_PORT": "0"}, "health": {"AWS_INIT_HEALTH_STATUS": "FINE"},
		"key": {"a b": "c"}, "value": {"a": strings.Repeat("x", 1025)},
	} {
		if _, err := c.RegisterInstance(ctx, &servicediscovery.RegisterInstanceInput{ServiceId: &id, InstanceId: aws.String("i"), Attributes: a}); !errors.As(err, &invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestListServicesPages(t *testing.T) {
	c, ctx := client(t, newServer(t, &store.Memory{})), t.Context()
	life(t, c)
	ns := must[*servicediscovery.ListNamespacesOutput](t)(c.ListNamespaces(ctx, &servicediscovery.ListNamespacesInput{})).Namespaces[0]
	for i := range 24 {
		must[*servicediscovery.CreateServiceOutput](t)(c.CreateService(ctx, &servicediscovery.CreateServiceInput{Name: aws.String(fmt.Sprintf("s%d", i)), NamespaceId: ns.Id}))
	}
	seen := map[string]bool{}
	pages := servicediscovery.NewListServicesPaginator(c, &servicediscovery.ListServicesInput{MaxResults: aws.Int32(7), Filters: []types.ServiceFilter{{Name: types.ServiceFilterNameNamespaceId, Values: []string{*ns.Arn}}}})
	n := 0
	for ; pages.HasMorePages(); n++ {
		for _, v := range must[*servicediscovery.ListServicesOutput](t)(pages.NextPage(ctx)).Services {
			seen[*v.Name] = true
		}
	}
	if len(seen) != 25 || n != 4 {
		t.Errorf("%d services on %d pages", len(seen), n)
	}
}

func TestWhatIsNotTheAPI(t *testing.T) {
	srv := httptest.NewServer(newServer(t, &store.Memory{}))
	defer srv.Close()
	for name, c := range map[string]struct{ target, body, want string }{
		"unknown operation": {"Route53AutoNaming_v20170314.Nonsense", "{}", "UnknownOperationException"},
		"no operation":      {"", "{}", "UnknownOperationException"},
		"not JSON":          {"Route53AutoNaming_v20170314.ListServices", "{", "SerializationException"},
		"wrong type":        {"Route53AutoNaming_v20170314.GetService", `{"Id": 5}`, "SerializationException"},
		"too large":         {"Route53AutoNaming_v20170314.GetService", `{"Id": "` + strings.Repeat("x", protocol.MaxRequest) + `"}`, "RequestEntityTooLargeException"},
		"another path":      {"Route53AutoNaming_v20170314.GetService", `{"Id": "x"}`, "ServiceNotFound"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/any/path", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Amz-Target", c.target)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		status := http.StatusBadRequest
		if name == "too large" {
			status = http.StatusRequestEntityTooLarge // AWS's common errors
		}
		if resp.StatusCode != status || !strings.Contains(string(body), `"`+c.want+`"`) {
			t.Errorf("%s: %d %s", name, resp.StatusCode, body)
		}
	}
}

// The watch wakes for writes and for nothing else.
func TestChangesWakeWatchers(t *testing.T) {
	s := newServer(t, &store.Memory{})
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	t.Cleanup(srv.CloseClientConnections)
	w, events := &watch.Client{URL: srv.URL + "/any/path"}, make(chan watch.Event, 100)
	go func() { _ = w.Run(t.Context(), func(e watch.Event) { events <- e }) }()
	if e := <-events; e.Kind != watch.Resync {
		t.Fatalf("first %+v", e)
	}
	c := client(t, s)
	must[*servicediscovery.ListNamespacesOutput](t)(c.ListNamespaces(t.Context(), &servicediscovery.ListNamespacesInput{}))
	life(t, c)
	var got []watch.Event
	for range 4 {
		got = append(got, <-events)
	}
	want := []watch.Event{
		{Revision: 1, Kind: watch.Namespaces, Namespace: "demo"},
		{Revision: 2, Kind: watch.Services, Namespace: "demo", Service: "backend"},
		{Revision: 3, Kind: watch.Instances, Namespace: "demo", Service: "backend"},
		{Revision: 4, Kind: watch.Instances, Namespace: "demo", Service: "backend"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
