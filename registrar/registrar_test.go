package registrar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"

	"patchbay/mesh"
	"patchbay/mesh/policy"
	"patchbay/mesh/record"
)

// told records what discovery is told, in order.
type told struct {
	mu  sync.Mutex
	log []string
}

func (d *told) Hint(n mesh.ServiceName) { d.add("hint " + n.String()) }

func (d *told) HintSettings(n mesh.ServiceName) { d.add("settings " + n.String()) }

func (d *told) Leaving(n mesh.ServiceName, id string) { d.add("leaving " + n.String() + " " + id) }

func (d *told) add(s string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = append(d.log, s)
}

func (d *told) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.log, ", ")
}

func replica(api API, change ...func(*Config)) (*Registrar, *told) {
	cfg := Config{CreateNamespace: true}
	for _, f := range change {
		f(&cfg)
	}
	d := &told{}
	return New(cfg, api, d, slog.New(slog.DiscardHandler)), d
}

// request is a plain http service of a workload of the same name.
func request(name, task string, last byte) Request {
	return Request{
		Instance: Instance{
			Node:          mesh.Node{Workload: mesh.Workload{Namespace: "prod", Name: name, DiscoveryNames: []string{name}}, Task: task},
			DiscoveryName: name, PortName: "web",
		},
		Peer: netip.AddrFrom4([4]byte{10, 0, 0, last}), ListenerPort: 15010, Health: mesh.Healthy,
		Protocol: mesh.HTTP, Aliases: []mesh.Alias{{DNSName: name, Port: 8080}},
	}
}

func must(t *testing.T, r *Registrar, req Request) Registration {
	t.Helper()
	reg, err := r.Register(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return reg
}

func serviceID(reg Registration) string {
	return reg.ServiceARN[strings.LastIndex(reg.ServiceARN, "/")+1:]
}

func instances(t *testing.T, api sdAPI, name string) map[string]types.HttpInstanceSummary {
	t.Helper()
	out, err := api.DiscoverInstances(t.Context(), &sd.DiscoverInstancesInput{NamespaceName: aws.String("prod"), ServiceName: &name,
		MaxResults: aws.Int32(1000), HealthStatus: types.HealthStatusFilterAll})
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]types.HttpInstanceSummary{}
	for _, i := range out.Instances {
		m[aws.ToString(i.InstanceId)] = i
	}
	return m
}

func attributes(t *testing.T, api API, reg Registration) map[string]string {
	t.Helper()
	out, err := api.GetServiceAttributes(t.Context(), &sd.GetServiceAttributesInput{ServiceId: aws.String(serviceID(reg))})
	if err != nil {
		t.Fatal(err)
	}
	return out.ServiceAttributes.Attributes
}

func TestRegister(t *testing.T) {
	api := newCloud(t)
	calls := &faulty{sdAPI: api}
	r, d := replica(calls)
	req := request("backend", "t1", 1)
	req.Zone, req.TLS = "use1-az1", &mesh.ServiceTLS{Issuer: "default"}
	reg := must(t, r, req)
	if reg.InstanceID != "t1.web" || d.String() != "settings backend.prod" {
		t.Errorf("%+v, told %s", reg, d)
	}
	s, err := record.ParseService(attributes(t, api, reg))
	if err != nil || s.Settings().Protocol != mesh.HTTP || s.Settings().TLS.Issuer != "default" || !s.Aliases()[0].VIP.IsValid() {
		t.Errorf("%+v, %v", s, err)
	}
	i, err := record.ParseInstance("t1.web", mesh.Unknown, instances(t, api, "backend")["t1.web"].Attributes)
	if err != nil || i.Endpoint.Addr.String() != "10.0.0.1:15010" || !i.Endpoint.TLS || i.Owner != "prod/backend" || i.Settings != s.Current || i.Since.IsZero() {
		t.Errorf("%+v, %v", i, err)
	}
	settings, instance := calls.index("UpdateServiceAttributes"), calls.index("RegisterInstance")
	if settings < 0 || instance < settings {
		t.Errorf("settings must stand before the instance: %v", calls.log)
	}
	calls.log = nil
	must(t, r, req)
	if calls.index("RegisterInstance") >= 0 || calls.index("UpdateServiceAttributes") >= 0 {
		t.Errorf("asking again wrote: %v", calls.log)
	}
}

func TestRefusals(t *testing.T) {
	api := newCloud(t)
	r, _ := replica(api)
	first := must(t, r, request("backend", "t1", 1))
	ns := namespaceOf(t, api, "prod")
	legacy := createService(t, api, &sd.CreateServiceInput{Name: aws.String("legacy"), NamespaceId: &ns})
	managed := createService(t, api, &sd.CreateServiceInput{Name: aws.String("managed"), NamespaceId: &ns,
		Tags: []types.Tag{{Key: aws.String("AmazonECSManaged"), Value: aws.String("true")}}})
	for _, c := range []struct {
		what   string
		change func(*Request)
		reason error
		says   []string
	}{
		{"another's service", func(q *Request) { q.DiscoveryName = "payments" }, ErrNotOffered, []string{"prod/evil", "payments"}},
		{"another address", func(q *Request) { q.Claimed = netip.MustParseAddr("10.9.9.9") }, ErrAddress, []string{"10.9.9.9", "10.0.0.66"}},
		{"an alias that is held", func(q *Request) { q.Aliases[0] = mesh.Alias{DNSName: "backend", Port: 8080} }, ErrAliasHeld, []string{"backend:8080", "backend.prod", first.ServiceARN}},
		{"another's default name", func(q *Request) { q.Aliases[0] = mesh.Alias{DNSName: "backend.prod", Port: 1} }, ErrAliasHeld, []string{"backend.prod:1", first.ServiceARN}},
		{"a foreign default name", func(q *Request) { q.Aliases[0] = mesh.Alias{DNSName: "legacy.prod", Port: 1} }, ErrAliasHeld, []string{legacy}},
		{"another protocol", func(q *Request) { *q = request("backend", "t2", 2); q.Protocol = mesh.GRPC }, ErrProtocol, []string{"http", "grpc", first.ServiceARN}},
		{"a foreign service", func(q *Request) { *q = request("legacy", "t", 2) }, ErrForeign, []string{legacy, "patchbay:managed-by=patchbay"}},
		{"a service of ECS", func(q *Request) { *q = request("managed", "t", 2) }, ErrForeign, []string{managed, "Amazon ECS"}},
		{"another's instance", func(q *Request) {
			*q = request("backend", "t1", 2)
			q.Node.Workload.Name = "canary"
		}, ErrOtherOwner, []string{"prod/backend", "t1.web", first.ServiceARN}},
		{"everything malformed", func(q *Request) {
			q.PortName, q.ListenerPort, q.Node.Task = "UP", 0, "a b"
			q.Protocol = "udp"
		}, ErrInvalid, []string{`"UP"`, "port 0", `"a b"`, `"udp"`}},
		{"too many names", func(q *Request) {
			for i := range 300 {
				q.Aliases = append(q.Aliases, mesh.Alias{DNSName: fmt.Sprintf("name-%d.with.a.long.tail.that.fills.up", i), Port: 80})
			}
		}, ErrNoRoom, []string{"fewer aliases"}},
		{"too much policy", func(q *Request) {
			q.Policy = &policy.Policy{Retries: &policy.Retries{On: slices.Repeat([]string{"connect-failure"}, 2000)}}
		}, ErrNoRoom, []string{"settings of", "smaller policy"}},
	} {
		req := request("evil", "t", 66)
		c.change(&req)
		_, err := r.Register(t.Context(), req)
		var refusal *Refusal
		if !errors.Is(err, c.reason) || !errors.As(err, &refusal) || refusal.Remedy == "" {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		for _, want := range c.says {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", c.what, err, want)
			}
		}
	}
	if got := instances(t, api, "backend"); len(got) != 1 || got["t1.web"].Attributes[record.AttrIPv4] != "10.0.0.1" {
		t.Errorf("a refused request wrote: %v", got)
	}
	for _, s := range services(t, api, ns) {
		if aws.ToString(s.Name) == "evil" {
			t.Error("a refused request made a service")
		}
	}
	strict, _ := replica(api, func(c *Config) { c.CreateNamespace = false })
	req := request("x", "t", 1)
	req.Node.Workload.Namespace = "absent"
	if _, err := strict.Register(t.Context(), req); !errors.Is(err, ErrNamespace) {
		t.Errorf("a missing namespace: %v", err)
	}
}

func ours() []types.Tag {
	return []types.Tag{{Key: aws.String(record.TagManagedBy), Value: aws.String(record.TagManagedByValue)}}
}

func TestHandedOverByTag(t *testing.T) {
	api := newCloud(t)
	r, _ := replica(api)
	must(t, r, request("backend", "t1", 1))
	ns := namespaceOf(t, api, "prod")
	createService(t, api, &sd.CreateServiceInput{Name: aws.String("prepared"), NamespaceId: &ns, Tags: ours()})
	must(t, r, request("prepared", "t1", 1))
}

func TestVIPsNeverMove(t *testing.T) {
	api := newCloud(t)
	r, _ := replica(api)
	var regs []Registration
	vips := map[string]netip.Addr{}
	for i := range 8 {
		req := request(fmt.Sprintf("s%d", i), "t", 1)
		req.Aliases = append(req.Aliases, mesh.Alias{DNSName: "shared", Port: uint16(1000 + i)})
		regs = append(regs, must(t, r, req))
	}
	for _, reg := range regs {
		for n, v := range record.ParseVIPs(attributes(t, api, reg)) {
			if old, ok := vips[n]; ok && old != v {
				t.Errorf("%s has the VIPs %s and %s", n, old, v)
			}
			vips[n] = v
		}
	}
	if len(vips) != 9 {
		t.Fatalf("%d names have VIPs: %v", len(vips), vips)
	}
	// A table that somebody wrote by hand is respected, and so is its address.
	odd := netip.MustParseAddr("127.150.0.9")
	c, err := record.Plan(attributes(t, api, regs[0]), request("s0", "t", 1).settings(), map[string]netip.Addr{"s0": odd})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.UpdateServiceAttributes(t.Context(), &sd.UpdateServiceAttributesInput{ServiceId: aws.String(serviceID(regs[0])), Attributes: c.Put}); err != nil {
		t.Fatal(err)
	}
	fresh, _ := replica(api)
	req := request("s0", "t2", 2)
	req.Aliases = append(req.Aliases, mesh.Alias{DNSName: "later", Port: 80})
	got := record.ParseVIPs(attributes(t, api, must(t, fresh, req)))
	if got["s0"] != odd || !got["later"].IsValid() {
		t.Errorf("VIPs are %v", got)
	}
}

func TestTLSIsSwitchedOnByANewTask(t *testing.T) {
	api := newCloud(t)
	r, _ := replica(api)
	old := request("backend", "old", 1)
	must(t, r, old)
	fresh := request("backend", "new", 2)
	fresh.TLS = &mesh.ServiceTLS{Issuer: "default"}
	reg := must(t, r, fresh)
	got := instances(t, api, "backend")
	if got["old.web"].Attributes[record.AttrTLS] != "" || got["new.web"].Attributes[record.AttrTLS] != "true" {
		t.Errorf("instances: %v", got)
	}
	again, _ := replica(api) // the control plane restarts; the old task reports again
	must(t, again, old)
	s, err := record.ParseService(attributes(t, api, reg))
	if err != nil || s.Settings().TLS == nil || len(s.Documents) != 2 {
		t.Errorf("the old task's settings came back: %+v, %v", s, err)
	}
}

func TestDeregister(t *testing.T) {
	api := newCloud(t)
	calls := &faulty{sdAPI: api}
	r, d := replica(calls)
	req := request("backend", "t1", 1)
	must(t, r, req)
	thief := req.Instance
	thief.Node.Workload.Name = "canary"
	if err := r.Deregister(t.Context(), thief); !errors.Is(err, ErrOtherOwner) {
		t.Errorf("by another workload: %v", err)
	}
	if err := r.Deregister(t.Context(), req.Instance); err != nil {
		t.Fatal(err)
	}
	if d.String() != "settings backend.prod, leaving backend.prod t1.web, hint backend.prod" {
		t.Errorf("told %s", d)
	}
	if got := instances(t, api, "backend"); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
	if err := r.Deregister(t.Context(), req.Instance); err != nil {
		t.Errorf("again: %v", err)
	}
	if err := r.SetHealth(t.Context(), req.Instance, mesh.Unhealthy); !errors.Is(err, ErrNotRegistered) {
		t.Errorf("health of what is not there: %v", err)
	}

	must(t, r, req)
	calls.fail("DeregisterInstance", errors.New("connection refused"))
	if err := r.Deregister(t.Context(), req.Instance); err == nil {
		t.Fatal("a failed deregistration was reported as done")
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	calls.fail("", nil)
	wait(t, "the second try", func() bool { return len(instances(t, api, "backend")) == 0 })
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
}

func TestHealthAndHeartbeat(t *testing.T) {
	api := newCloud(t)
	r, _ := replica(api, func(c *Config) { c.Lease = 15 * time.Second })
	req := request("backend", "t1", 1)
	reg := must(t, r, req)
	if err := r.SetHealth(t.Context(), req.Instance, mesh.Unhealthy); err != nil {
		t.Fatal(err)
	}
	wait(t, "UNHEALTHY", func() bool { return instances(t, api, "backend")["t1.web"].HealthStatus == types.HealthStatusUnhealthy })
	if err := r.Heartbeat(t.Context(), req.Instance); err != nil {
		t.Fatal(err)
	}
	if got := instances(t, api, "backend")["t1.web"]; got.HealthStatus != types.HealthStatusUnhealthy || got.Attributes[record.AttrLease] != "15" {
		t.Errorf("a heartbeat changed the health, or there is no lease: %v", got)
	}
	out, err := api.DeregisterInstance(t.Context(), &sd.DeregisterInstanceInput{ServiceId: aws.String(serviceID(reg)), InstanceId: aws.String("t1.web")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.finish(t.Context(), *out.OperationId, nil); err != nil {
		t.Fatal(err)
	}
	if err := r.Heartbeat(t.Context(), req.Instance); !errors.Is(err, ErrNotRegistered) {
		t.Errorf("what the registry lost: %v", err)
	}
	must(t, r, req)
	if err := r.Deregister(t.Context(), req.Instance); err != nil {
		t.Fatal(err)
	}
	if err := r.Heartbeat(t.Context(), req.Instance); !errors.Is(err, ErrNotRegistered) {
		t.Errorf("what has left: %v", err)
	}
	if got := instances(t, api, "backend"); len(got) != 0 {
		t.Error("a heartbeat brought back what has left")
	}
}

// What died without a word is not remembered for ever; what lives is.
func TestTheDeadAreForgotten(t *testing.T) {
	r, _ := replica(newCloud(t), func(c *Config) { c.Lease = time.Second })
	dead, alive := request("backend", "dead", 1), request("backend", "alive", 2)
	must(t, r, dead)
	must(t, r, alive)
	for _, l := range r.live {
		l.seen = l.seen.Add(-time.Hour)
	}
	if err := r.Heartbeat(t.Context(), alive.Instance); err != nil {
		t.Fatal(err)
	}
	r.swept = r.swept.Add(-time.Hour)
	must(t, r, request("backend", "new", 3))
	if r.live[dead.key()] != nil || r.live[alive.key()] == nil || len(r.live) != 2 {
		t.Errorf("remembered: %v", r.live)
	}
	if err := r.Heartbeat(t.Context(), dead.Instance); !errors.Is(err, ErrNotRegistered) {
		t.Errorf("a sign of what was forgotten: %v", err)
	}
}

func TestDeclare(t *testing.T) {
	api := newCloud(t)
	r, d := replica(api)
	req := request("backend", "t1", 1)
	req.Peer, req.ListenerPort = netip.Addr{}, 0 // not known yet
	if err := r.Declare(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	all := services(t, api, namespaceOf(t, api, "prod"))
	if len(all) != 1 || len(instances(t, api, "backend")) != 0 || d.String() != "settings backend.prod" {
		t.Fatalf("%v, told %s", all, d)
	}
	s, err := record.ParseService(attributes(t, api, Registration{ServiceARN: "/" + aws.ToString(all[0].Id)}))
	if err != nil || !s.Aliases()[0].VIP.IsValid() {
		t.Errorf("%+v, %v", s, err)
	}
	req.Protocol = mesh.TCP
	if err := r.Declare(t.Context(), req); !errors.Is(err, ErrProtocol) {
		t.Errorf("another protocol: %v", err)
	}
}

func TestARestartedRegistryIsFilledAgain(t *testing.T) {
	api := newCloud(t)
	r, _ := replica(api)
	req := request("backend", "t1", 1)
	reg := must(t, r, req)
	if err := r.Deregister(t.Context(), req.Instance); err != nil {
		t.Fatal(err)
	}
	if _, err := api.DeleteService(t.Context(), &sd.DeleteServiceInput{Id: aws.String(serviceID(reg))}); err != nil {
		t.Fatal(err)
	}
	if again := must(t, r, req); again.ServiceARN == reg.ServiceARN {
		t.Error("a deleted service is still written to")
	}
}

// Two replicas register the tasks of several services at the same time, some
// of them with new settings.
func TestParallelRegistrations(t *testing.T) {
	api := newCloud(t)
	a, _ := replica(api)
	b, _ := replica(api)
	var wg sync.WaitGroup
	errs := make(chan error, 200)
	for i := range 60 {
		wg.Go(func() {
			req := request(fmt.Sprintf("s%d", i%4), fmt.Sprintf("t%d", i), byte(i+1))
			if i%3 == 0 {
				req.Aliases = append(req.Aliases, mesh.Alias{DNSName: fmt.Sprintf("extra-%d", i%4), Port: 80})
			}
			r := a
			if i%2 == 0 {
				r = b
			}
			if _, err := r.Register(t.Context(), req); err != nil {
				errs <- fmt.Errorf("task %d: %w", i, err)
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	seen := map[netip.Addr]string{}
	all := services(t, api, namespaceOf(t, api, "prod"))
	if len(all) != 4 {
		t.Errorf("%d services", len(all))
	}
	for _, s := range all {
		if n := len(instances(t, api, aws.ToString(s.Name))); n != 15 {
			t.Errorf("%s has %d instances", aws.ToString(s.Name), n)
		}
		got, err := record.ParseService(attributes(t, api, Registration{ServiceARN: "/" + aws.ToString(s.Id)}))
		if err != nil {
			t.Errorf("%s: %v", aws.ToString(s.Name), err)
		}
		for n, v := range got.VIPs {
			if was, dup := seen[v]; dup && was != n {
				t.Errorf("%s and %s share %s", was, n, v)
			}
			seen[v] = n
		}
	}
}

// A fault in any call leaves nothing behind that a second try can't complete.
func TestEveryFaultCanBeTriedAgain(t *testing.T) {
	for _, op := range []string{"ListNamespaces", "CreateHttpNamespace", "ListServices", "CreateService", "GetServiceAttributes", "UpdateServiceAttributes", "GetInstance", "RegisterInstance", "GetOperation"} {
		api := newCloud(t)
		calls := &faulty{sdAPI: api}
		calls.fail(op, errors.New("connection refused"))
		r, _ := replica(calls)
		req := request("backend", "t1", 1)
		if _, err := r.Register(t.Context(), req); op == "GetInstance" {
			if err != nil {
				t.Fatal(err) // a new service has no instance to look at
			}
			if _, err = r.Register(t.Context(), req); err == nil {
				t.Errorf("%s: no error", op)
			}
		} else if err == nil {
			t.Errorf("%s: no error", op)
		}
		calls.fail("", nil)
		must(t, r, req)
		if got := instances(t, api, "backend"); len(got) != 1 {
			t.Errorf("%s: %v", op, got)
		}
	}
}

// wait polls a real peer; it fails after a minute.
func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	for tick := time.Tick(5 * time.Millisecond); !ok(); {
		select {
		case <-tick:
		case <-deadline:
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

func namespaceOf(t *testing.T, api API, name string) string {
	t.Helper()
	out, err := api.ListNamespaces(t.Context(), &sd.ListNamespacesInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range out.Namespaces {
		if aws.ToString(n.Name) == name {
			return aws.ToString(n.Id)
		}
	}
	t.Fatalf("no namespace %s", name)
	return ""
}

func services(t *testing.T, api API, ns string) []types.ServiceSummary {
	t.Helper()
	out, err := api.ListServices(t.Context(), &sd.ListServicesInput{Filters: []types.ServiceFilter{{
		Name: types.ServiceFilterNameNamespaceId, Values: []string{ns}, Condition: types.FilterConditionEq}}})
	if err != nil {
		t.Fatal(err)
	}
	return out.Services
}

func createService(t *testing.T, api API, in *sd.CreateServiceInput) (arn string) {
	t.Helper()
	out, err := api.CreateService(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return aws.ToString(out.Service.Arn)
}

// TestReap takes out what is of that task and ours, and nothing else.
func TestReap(t *testing.T) {
	api := newCloud(t)
	r, d := replica(api)
	reg := must(t, r, request("backend", "t1", 1))
	must(t, r, request("backend", "t2", 2))
	id := serviceID(reg)
	foreign, err := api.RegisterInstance(t.Context(), &sd.RegisterInstanceInput{ServiceId: &id, InstanceId: aws.String("t3.web"), Attributes: map[string]string{"AWS_INSTANCE_IPV4": "10.0.0.3", "AWS_INSTANCE_PORT": "80"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.finish(t.Context(), *foreign.OperationId, nil); err != nil {
		t.Fatal(err)
	}
	backend := mesh.ServiceName{Namespace: "prod", DiscoveryName: "backend"}
	other, _ := replica(api) // another process
	for _, c := range []struct {
		service  mesh.ServiceName
		id, task string
		want     bool
	}{
		{backend, "t1.web", "t2", false}, {backend, "t3.web", "t3", false}, {backend, "t9.web", "t9", false},
		{mesh.ServiceName{Namespace: "prod", DiscoveryName: "none"}, "t1.web", "t1", false}, {mesh.ServiceName{Namespace: "none", DiscoveryName: "backend"}, "t1.web", "t1", false},
		{backend, "t1.web", "t1", true}, {backend, "t1.web", "t1", false},
	} {
		if got, err := other.Reap(t.Context(), c.service, c.id, c.task); err != nil || got != c.want {
			t.Errorf("%s %s of %s: %v, %v; want %v", c.service, c.id, c.task, got, err, c.want)
		}
	}
	if left := instances(t, api, "backend"); len(left) != 2 || left["t2.web"].InstanceId == nil || left["t3.web"].InstanceId == nil {
		t.Errorf("left: %v", left)
	}
	if got, err := r.Reap(t.Context(), backend, "t2.web", "t2"); err != nil || !got || !strings.HasSuffix(d.String(), "leaving backend.prod t2.web, hint backend.prod") {
		t.Errorf("%v, %v, told %s", got, err, d)
	}
}

// TestTakenOutByMistake: without leases, a task that lives finds out that its
// instance is gone, and its agent registers it again.
func TestTakenOutByMistake(t *testing.T) {
	api := newCloud(t)
	r, _ := replica(api)
	req := request("backend", "t1", 1)
	must(t, r, req)
	other, _ := replica(api)
	if got, err := other.Reap(t.Context(), req.Service(), "t1.web", "t1"); err != nil || !got {
		t.Fatal(got, err)
	}
	if err := r.Heartbeat(t.Context(), req.Instance); err != nil {
		t.Errorf("at once: %v", err)
	}
	l := r.live[req.key()]
	if left := time.Until(l.look); left > lookEvery || left < lookEvery/2 {
		t.Errorf("it is looked for in %s", left)
	}
	l.look = time.Now()
	if err := r.Heartbeat(t.Context(), req.Instance); !errors.Is(err, ErrNotRegistered) {
		t.Errorf("when it is time: %v", err)
	}
	must(t, r, req)
	r.live[req.key()].look = time.Now()
	if err := r.Heartbeat(t.Context(), req.Instance); err != nil {
		t.Errorf("registered again: %v", err)
	}
}

// Amending leaves everything else alone, waits for its word to be read back,
// and is refused for services of others.
func TestAmend(t *testing.T) {
	api := newCloud(t)
	r, told := replica(api)
	reg := must(t, r, request("api", "1", 1))
	asked := 0
	set := func(value string) func(map[string]string) (record.Change, error) {
		return func(attrs map[string]string) (record.Change, error) {
			asked++
			if _, err := record.ParseService(attrs); err != nil {
				t.Errorf("the settings: %v", err)
			}
			return record.Change{Put: map[string]string{"patchbay.test": value}}, nil
		}
	}
	if err := r.Amend(t.Context(), reg.Service, set("a")); err != nil || asked != 2 {
		t.Errorf("asked %d times, %v", asked, err)
	}
	if !strings.HasSuffix(told.String(), "settings api.prod") {
		t.Errorf("discovery was told %s", told)
	}
	// Registering again, and with other settings, keeps it.
	other := request("api", "2", 2)
	other.Aliases[0].Port = 9090
	must(t, r, other)
	out, err := api.GetServiceAttributes(t.Context(), &sd.GetServiceAttributesInput{ServiceId: aws.String(serviceID(reg))})
	if err != nil || out.ServiceAttributes.Attributes["patchbay.test"] != "a" {
		t.Errorf("%v, %v", out, err)
	}
	stop := errors.New("no")
	if err := r.Amend(t.Context(), reg.Service, func(map[string]string) (record.Change, error) { return record.Change{}, stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
	if err := r.Amend(t.Context(), mesh.ServiceName{Namespace: "prod", DiscoveryName: "nobody"}, set("a")); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
}
