package discovery_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"

	"patchbay/discovery"
	"patchbay/discovery/cloud"
	"patchbay/internal/awsfake/accounts"
	"patchbay/mesh"
	"patchbay/registrar"
	"patchbay/registry"
	"patchbay/registry/store"
)

const mine, theirs = "111111111111", "999988887777"

// clouds are two accounts with a registry each, theirs being shared with mine.
type clouds struct {
	mu    sync.Mutex
	calls []string // operations of mine

	view *sd.Client // as this account sees it
	own  map[string]*sd.Client
}

func newClouds(t *testing.T) *clouds {
	t.Helper()
	c := &clouds{own: map[string]*sd.Client{}}
	all := map[string]http.Handler{}
	client := func(h http.Handler) *sd.Client {
		srv := httptest.NewServer(h)
		t.Cleanup(srv.Close)
		return cloud.NewClient(aws.Config{Region: "us-east-1", Credentials: aws.AnonymousCredentials{}}, cloud.ClientOptions{Endpoint: srv.URL, Attempts: 1})
	}
	for _, account := range []string{mine, theirs} {
		reg := registry.New(&store.Memory{}, registry.Options{Account: account})
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = reg.Run(ctx) }()
		t.Cleanup(func() { stop(); <-done })
		all[account] = reg
		c.own[account] = client(reg)
	}
	view := accounts.View{Account: mine, All: all}
	c.view = client(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		c.mu.Lock()
		c.calls = append(c.calls, op)
		c.mu.Unlock()
		view.ServeHTTP(w, r)
	}))
	return c
}

// made waits for an operation of an account and returns what it made.
func (c *clouds) made(t *testing.T, account string, operation *string, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		out, err := c.own[account].GetOperation(t.Context(), &sd.GetOperationInput{OperationId: operation})
		if err != nil {
			t.Fatal(err)
		}
		if out.Operation.Status == types.OperationStatusSuccess {
			return out.Operation.Targets["NAMESPACE"]
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("the operation does not end")
	return ""
}

func (c *clouds) http(t *testing.T, account, name string) string {
	out, err := c.own[account].CreateHttpNamespace(t.Context(), &sd.CreateHttpNamespaceInput{Name: &name})
	return c.made(t, account, opened(out, err), err)
}

func opened[T any](out *T, err error) *string {
	if err != nil {
		return nil
	}
	switch o := any(out).(type) {
	case *sd.CreateHttpNamespaceOutput:
		return o.OperationId
	case *sd.CreatePrivateDnsNamespaceOutput:
		return o.OperationId
	case *sd.CreatePublicDnsNamespaceOutput:
		return o.OperationId
	}
	return nil
}

func (c *clouds) private(t *testing.T, account, name, vpc string) string {
	out, err := c.own[account].CreatePrivateDnsNamespace(t.Context(), &sd.CreatePrivateDnsNamespaceInput{Name: &name, Vpc: &vpc})
	return c.made(t, account, opened(out, err), err)
}

func (c *clouds) public(t *testing.T, account, name string) string {
	out, err := c.own[account].CreatePublicDnsNamespace(t.Context(), &sd.CreatePublicDnsNamespaceInput{Name: &name})
	return c.made(t, account, opened(out, err), err)
}

// foreign makes a service with an instance, as other software does.
func (c *clouds) foreign(t *testing.T, account, namespace, name, ip string, dns bool) {
	t.Helper()
	in := &sd.CreateServiceInput{Name: &name, NamespaceId: &namespace}
	if dns {
		in.DnsConfig = &types.DnsConfig{DnsRecords: []types.DnsRecord{{Type: types.RecordTypeSrv, TTL: aws.Int64(10)}}}
	} else {
		in.Type = types.ServiceTypeOptionHttp
	}
	out, err := c.own[account].CreateService(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.own[account].RegisterInstance(t.Context(), &sd.RegisterInstanceInput{ServiceId: out.Service.Id, InstanceId: aws.String("i-" + name),
		Attributes: map[string]string{"AWS_INSTANCE_IPV4": ip, "AWS_INSTANCE_PORT": "8080"}})
	if err != nil {
		t.Fatal(err)
	}
}

func arn(account, id string) string {
	return "arn:aws:servicediscovery:us-east-1:" + account + ":namespace/" + id
}

// follow runs discovery over the view.
func (c *clouds) follow(t *testing.T, list ...discovery.Namespace) (*discovery.CloudMap, *mesh.Store) {
	t.Helper()
	s := mesh.NewStore()
	d, err := discovery.New(discovery.Config{Namespaces: list, Budget: cloud.Unlimited}, c.view, s, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = d.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	return d, s
}

func until(t *testing.T, s *mesh.Store, d *discovery.CloudMap, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute for %s: %+v, have %v", what, d.Status(), s.Snapshot().Services)
		}
	}
}

func address(s *mesh.Store, ns, name string) string {
	v := s.Snapshot().Service(mesh.ServiceName{Namespace: ns, DiscoveryName: name})
	if v == nil || len(v.Endpoints) != 1 {
		return ""
	}
	return v.Endpoints[0].Addr.String()
}

// Namespaces of every type are read over the wire: two that have one Name and
// differ in their HttpName, and two of another account.
func TestNamespacesOfEveryTypeAndAccount(t *testing.T) {
	c := newClouds(t)
	web := c.http(t, mine, "prod")
	internal := c.private(t, mine, "prod", "vpc-1") // the HttpName prod is taken
	public := c.public(t, mine, "prod.example")
	partner := c.http(t, theirs, "prod") // of the same name in another account
	records := c.private(t, theirs, "legacy.internal", "vpc-9")
	c.foreign(t, mine, web, "one", "10.0.0.1", false)
	c.foreign(t, mine, internal, "two", "10.0.0.2", true)
	c.foreign(t, mine, public, "three", "10.0.0.3", true)
	c.foreign(t, theirs, partner, "four", "10.0.0.4", false)
	c.foreign(t, theirs, records, "five", "10.0.0.5", true)
	n, err := c.view.GetNamespace(t.Context(), &sd.GetNamespaceInput{Id: &internal})
	if err != nil {
		t.Fatal(err)
	}
	if h := n.Namespace.Properties.HttpProperties.HttpName; aws.ToString(h) == "prod" {
		t.Fatalf("both have the HttpName %s", *h)
	}
	d, s := c.follow(t,
		discovery.Namespace{Name: "prod", Registry: arn(mine, web)},
		discovery.Namespace{Name: "internal", Registry: aws.ToString(n.Namespace.Properties.HttpProperties.HttpName)},
		discovery.Namespace{Name: "prod.example", Registry: "prod.example"},
		discovery.Namespace{Name: "partner", Registry: arn(theirs, partner)},
		discovery.Namespace{Name: "legacy.internal", Registry: "legacy.internal"}, // shared, by its HttpName
	)
	want := map[[2]string]string{
		{"prod", "one"}: "10.0.0.1:8080", {"internal", "two"}: "10.0.0.2:8080", {"prod.example", "three"}: "10.0.0.3:8080",
		{"partner", "four"}: "10.0.0.4:8080", {"legacy.internal", "five"}: "10.0.0.5:8080",
	}
	until(t, s, d, "every namespace", func() bool {
		for at, addr := range want {
			if address(s, at[0], at[1]) != addr {
				return false
			}
		}
		return true
	})
}

// Two namespaces of one HttpName, one of them of another account: nothing is
// guessed. The status and the refusal name both, and what to write.
func TestANamespaceThatIsNotCertain(t *testing.T) {
	c := newClouds(t)
	a, b := arn(mine, c.http(t, mine, "prod")), arn(theirs, c.http(t, theirs, "prod"))
	d, s := c.follow(t, discovery.Namespace{Name: "prod", Registry: "prod"})
	until(t, s, d, "an error", func() bool { return d.Status()[0].Error != "" })
	r := registrar.New(registrar.Config{}, c.view, d, slog.New(slog.DiscardHandler))
	_, err := r.Register(t.Context(), port("backend", 1))
	if err == nil {
		t.Fatal("something was registered")
	}
	for what, text := range map[string]string{"status": d.Status()[0].Error, "refusal": err.Error()} {
		for _, want := range []string{a, b, mine, theirs, "cloudMap: {namespaces: {prod: ARN}}"} {
			if !strings.Contains(text, want) {
				t.Errorf("the %s does not say %q: %s", what, want, text)
			}
		}
	}
	if s.Snapshot().Synced["prod"] {
		t.Error("a namespace was chosen")
	}
}

// A Name is not enough: the error says which HttpName it has.
func TestANameThatIsNotTheHTTPName(t *testing.T) {
	c := newClouds(t)
	old := c.http(t, mine, "prod")
	c.private(t, mine, "prod", "vpc-1")
	if _, err := c.own[mine].DeleteNamespace(t.Context(), &sd.DeleteNamespaceInput{Id: &old}); err != nil {
		t.Fatal(err)
	}
	d, s := c.follow(t, discovery.Namespace{Name: "prod", Registry: "prod"})
	until(t, s, d, "an error", func() bool { return strings.Contains(d.Status()[0].Error, `HttpName "prod-`) })
}

// The registrar writes to a shared namespace too: every call names its account.
func TestRegistrationInASharedNamespace(t *testing.T) {
	c := newClouds(t)
	c.http(t, mine, "prod")
	ref := arn(theirs, c.http(t, theirs, "prod"))
	d, s := c.follow(t, discovery.Namespace{Name: "prod", Registry: ref})
	r := registrar.New(registrar.Config{Namespaces: map[string]string{"prod": ref}}, c.view, d, slog.New(slog.DiscardHandler))
	req := port("backend", 0)
	if _, err := r.Register(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	until(t, s, d, "the instance", func() bool {
		return address(s, "prod", "backend") == netip.AddrPortFrom(req.Peer, req.ListenerPort).String()
	})
	if out, err := c.own[mine].ListServices(t.Context(), &sd.ListServicesInput{}); err != nil || len(out.Services) != 0 {
		t.Errorf("this account's own namespace has %v (%v)", out, err)
	}
	if err := r.SetHealth(t.Context(), req.Instance, mesh.Unhealthy); err != nil {
		t.Error(err)
	}
	if err := r.Deregister(t.Context(), req.Instance); err != nil {
		t.Error(err)
	}
	until(t, s, d, "its end", func() bool { return address(s, "prod", "backend") == "" })
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, op := range []string{"CreateService", "RegisterInstance", "UpdateInstanceCustomHealthStatus", "DeregisterInstance"} {
		if !slices.Contains(c.calls, op) {
			t.Errorf("there was no %s", op)
		}
	}
}
