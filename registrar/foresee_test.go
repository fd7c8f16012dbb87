package registrar

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"

	"patchbay/mesh"
	"patchbay/mesh/record"
)

// instance registers one as other software does.
func instanceOf(t *testing.T, api sdAPI, r *Registrar, arn, id string) {
	t.Helper()
	out, err := api.RegisterInstance(t.Context(), &sd.RegisterInstanceInput{ServiceId: &arn, InstanceId: &id,
		Attributes: map[string]string{record.AttrIPv4: "10.1.2.3", record.AttrPort: "80"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.finish(t.Context(), aws.ToString(out.OperationId), nil); err != nil {
		t.Fatal(err)
	}
}

func names(all ...string) []mesh.ServiceName {
	var out []mesh.ServiceName
	for _, n := range all {
		out = append(out, mesh.ServiceName{Namespace: "prod", DiscoveryName: n})
	}
	return out
}

// Everything that would be refused of what workloads may offer is known before
// a task comes: with its ARN and what to do, and without a write.
func TestConflictsAreForeseen(t *testing.T) {
	api, wire := newTapped(t)
	r, _ := replica(api)
	mine := must(t, r, request("backend", "t1", 1))
	ns := namespaceOf(t, api, "prod")
	made := map[string]string{
		"iac":      createService(t, api, &sd.CreateServiceInput{Name: aws.String("iac"), NamespaceId: &ns}),
		"ecs":      createService(t, api, &sd.CreateServiceInput{Name: aws.String("ecs"), NamespaceId: &ns, Tags: []types.Tag{{Key: aws.String("AmazonECSManaged"), Value: aws.String("true")}}}),
		"Capital":  createService(t, api, &sd.CreateServiceInput{Name: aws.String("Capital"), NamespaceId: &ns, Tags: ours()}),
		"crowded":  createService(t, api, &sd.CreateServiceInput{Name: aws.String("crowded"), NamespaceId: &ns, Tags: ours()}),
		"prepared": createService(t, api, &sd.CreateServiceInput{Name: aws.String("prepared"), NamespaceId: &ns, Tags: ours()}),
	}
	for i := range 7 {
		instanceOf(t, api, r, made["crowded"], fmt.Sprintf("i-%d", i))
	}
	wire.since()
	got, err := r.Foresee(t.Context(), names("backend", "capital", "crowded", "ecs", "iac", "new", "prepared"))
	if err != nil {
		t.Fatal(err)
	}
	want := []struct{ service, arn, what string }{
		{"capital.prod", made["Capital"], "differs in case"},
		{"crowded.prod", made["crowded"], "7 instances in it: i-0, i-1, i-2, i-3, i-4, …"},
		{"ecs.prod", made["ecs"], "Amazon ECS manages it"},
		{"iac.prod", made["iac"], "was not made by patchbay"},
	}
	if len(got) != len(want) {
		t.Fatalf("foreseen: %v", got)
	}
	for i, w := range want {
		if g := got[i]; g.Service.String() != w.service || g.ARN != w.arn || !strings.Contains(g.What, w.what) || g.Remedy == "" {
			t.Errorf("%s: %v", w.service, g)
		}
	}
	if w := changing(wire.since()); len(w) > 0 {
		t.Errorf("looking called %v", w)
	}
	// A task that comes all the same is told the same.
	if _, err := r.Register(t.Context(), request("crowded", "t1", 1)); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), made["crowded"]) {
		t.Errorf("registered among others: %v", err)
	}
	// What is ours already is not taken away by instances of others, nor after a
	// restart.
	instanceOf(t, api, r, mine.ServiceARN, "i-stray")
	again, _ := replica(api)
	if got, err := again.Foresee(t.Context(), names("backend")); err != nil || len(got) != 0 {
		t.Errorf("our own service: %v, %v", got, err)
	}
	must(t, again, request("backend", "t2", 2))
	// A service that was handed over and taken is ours, whoever comes later.
	taken := must(t, again, request("prepared", "t1", 1))
	instanceOf(t, api, r, taken.ServiceARN, "i-stray")
	later, _ := replica(api)
	must(t, later, request("prepared", "t2", 2))
}

// A service with DNS records exists: its type is for life, so that not even a
// tag hands it over.
func TestAServiceWithRecordsIsForeseen(t *testing.T) {
	api := newCloud(t)
	r, _ := replica(api)
	out, err := api.(*sd.Client).CreatePrivateDnsNamespace(t.Context(), &sd.CreatePrivateDnsNamespaceInput{Name: aws.String("prod"), Vpc: aws.String("vpc-1")})
	if err != nil {
		t.Fatal(err)
	}
	targets, err := r.finish(t.Context(), aws.ToString(out.OperationId), nil)
	if err != nil {
		t.Fatal(err)
	}
	ns := targets["NAMESPACE"]
	arn := createService(t, api, &sd.CreateServiceInput{Name: aws.String("backend"), NamespaceId: &ns, Tags: ours(),
		DnsConfig: &types.DnsConfig{DnsRecords: []types.DnsRecord{{Type: types.RecordTypeA, TTL: aws.Int64(10)}}}})
	got, err := r.Foresee(t.Context(), names("backend", "other"))
	if err != nil || len(got) != 1 || got[0].ARN != arn || !strings.Contains(got[0].What, "DNS_HTTP") || !strings.Contains(got[0].Remedy, "delete it") {
		t.Errorf("foreseen: %v, %v", got, err)
	}
	must(t, r, request("other", "t1", 1)) // beside it, in a namespace of DNS
}

// What Amazon ECS manages is only read: whatever is asked of the registrar, no
// call that writes is made for such a service.
func TestWhatECSManagesIsNeverWritten(t *testing.T) {
	api, wire := newTapped(t)
	r, _ := replica(api)
	must(t, r, request("backend", "t1", 1))
	ns := namespaceOf(t, api, "prod")
	// Tagged as ours too: the tag of ECS counts.
	arn := createService(t, api, &sd.CreateServiceInput{Name: aws.String("managed"), NamespaceId: &ns,
		Tags: append(ours(), types.Tag{Key: aws.String("AmazonECSManaged"), Value: aws.String("true")})})
	instanceOf(t, api, r, arn, "t1.web") // by ECS, of a task of that name
	wire.since()
	req := request("managed", "t1", 1)
	for what, f := range map[string]func() error{
		"Register":   func() error { _, err := r.Register(t.Context(), req); return err },
		"Declare":    func() error { return r.Declare(t.Context(), req) },
		"Deregister": func() error { return r.Deregister(t.Context(), req.Instance) },
		"SetHealth":  func() error { return r.SetHealth(t.Context(), req.Instance, mesh.Unhealthy) },
	} {
		if err := f(); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), arn) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := r.Heartbeat(t.Context(), req.Instance); err != nil {
		t.Errorf("Heartbeat: %v", err)
	}
	if reaped, err := r.Reap(t.Context(), req.Service(), "t1.web", "t1"); reaped || err != nil {
		t.Errorf("Reap: %v, %v", reaped, err)
	}
	if _, err := r.Foresee(t.Context(), names("managed")); err != nil {
		t.Error(err)
	}
	// An alias that it has by default belongs to it, and looking at it writes
	// nothing there.
	other := request("other", "t1", 2)
	other.Aliases[0] = mesh.Alias{DNSName: "managed.prod", Port: 80}
	if _, err := r.Register(t.Context(), other); !errors.Is(err, ErrAliasHeld) {
		t.Errorf("its default name: %v", err)
	}
	all := wire.since()
	if w := changing(all); len(w) > 0 || len(all) < 5 {
		t.Errorf("calls that write: %v, of all: %v", w, all)
	}
}
