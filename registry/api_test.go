package registry

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
)

func str(s string) *string { return &s }

func TestOperationsTakeTheirTime(t *testing.T) {
	over(t, Options{OperationDelay: 4 * time.Second}, func(t *testing.T, l *lab) {
		op := must[*sd.CreateHttpNamespaceOutput](t)(l.CreateHttpNamespace(t.Context(), &sd.CreateHttpNamespaceInput{Name: str("demo")}))
		_, err := l.CreateHttpNamespace(t.Context(), &sd.CreateHttpNamespaceInput{Name: str("demo")})
		failsWith(t, "the same name meanwhile", err, "DuplicateRequest", *op.OperationId)
		began := time.Now()
		for _, want := range []types.OperationStatus{types.OperationStatusSubmitted, types.OperationStatusPending, types.OperationStatusSuccess} {
			o := l.outcome(op.OperationId)
			if o.Status != want || o.Type != types.OperationTypeCreateNamespace || o.CreateDate.After(*o.UpdateDate) || aws.ToString(o.OwnerAccount) != "000000000000" {
				t.Errorf("after %s: %+v", time.Since(began), o)
			}
			names := must[*sd.ListNamespacesOutput](t)(l.ListNamespaces(t.Context(), &sd.ListNamespacesInput{})).Namespaces
			if (len(names) == 1) != (want == types.OperationStatusSuccess) {
				t.Errorf("%s, and there are %d namespaces", want, len(names))
			}
			l.sleep(2*time.Second + time.Millisecond)
		}
		ns := l.outcome(op.OperationId).Targets["NAMESPACE"]
		svc := l.service(ns, "backend")
		reg := l.register(svc, "a")
		_, err = l.RegisterInstance(t.Context(), &sd.RegisterInstanceInput{ServiceId: &svc, InstanceId: str("a"), Attributes: map[string]string{"x": "y"}})
		failsWith(t, "the same instance meanwhile", err, "DuplicateRequest", *reg.Id)
		_, err = l.DeregisterInstance(t.Context(), &sd.DeregisterInstanceInput{ServiceId: &svc, InstanceId: str("a")})
		failsWith(t, "its removal meanwhile", err, "DuplicateRequest", *reg.Id)
		must[*sd.DeleteServiceOutput](t)(l.DeleteService(t.Context(), &sd.DeleteServiceInput{Id: &svc}))
		l.restart() // what was accepted is carried out by the next process
		l.sleep(5 * time.Second)
		if o := l.outcome(reg.Id); o.Status != types.OperationStatusFail || aws.ToString(o.ErrorCode) != "SERVICE_NOT_FOUND" || !strings.Contains(aws.ToString(o.ErrorMessage), svc) {
			t.Errorf("registered with a service that is gone: %+v", o)
		}
	})
}

func TestOperationsAreForgotten(t *testing.T) {
	over(t, Options{}, func(t *testing.T, l *lab) {
		old := l.register(l.service(l.namespace("demo"), "backend"), "a")
		l.sleep(keepFor - time.Second)
		l.outcome(old.Id)
		l.sleep(time.Minute)
		_, err := l.GetOperation(t.Context(), &sd.GetOperationInput{OperationId: old.Id})
		failsWith(t, "after its time", err, "OperationNotFound")
		if n := l.rows("operations"); n != 0 {
			t.Errorf("%d operations in the store", n)
		}
		l.expect("its instance", "a:HEALTHY")
	})
}

// rows is how many records a table of the store has.
func (l *lab) rows(table string) (n int) {
	l.t.Helper()
	err := l.store.Load(func(name, _ string, _ []byte) error {
		if name == table {
			n++
		}
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return n
}

func TestOperationsDoNotGrowForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &counting{}
		l := &lab{t: t, open: m.open}
		l.start()
		defer func() { l.stop() }()
		svc := l.service(l.namespace("demo"), "backend")
		in := `{"ServiceId":"` + svc + `","InstanceId":"a","Attributes":{"n":"%d"}}`
		for i := range keepMost + 500 {
			if _, err := l.server.call("POST", "RegisterInstance", fmt.Appendf(nil, in, i)); err != nil {
				t.Fatal(err)
			}
			l.done()
		}
		if n := l.rows("operations"); n < keepMost || n > keepMost+2*batch {
			t.Errorf("%d operations in the store", n)
		}
	})
}

func TestTheSameRequestAgain(t *testing.T) {
	over(t, Options{}, func(t *testing.T, l *lab) {
		create := &sd.CreateHttpNamespaceInput{Name: str("demo"), CreatorRequestId: str("token")}
		first := must[*sd.CreateHttpNamespaceOutput](t)(l.CreateHttpNamespace(t.Context(), create))
		l.done()
		ns := l.outcome(first.OperationId).Targets["NAMESPACE"]
		svc := l.service(ns, "backend", func(in *sd.CreateServiceInput) { in.CreatorRequestId = str("s") })
		reg := &sd.RegisterInstanceInput{ServiceId: &svc, InstanceId: str("a"), CreatorRequestId: str("token"), Attributes: map[string]string{"AWS_INSTANCE_IPV4": "10.0.0.1", "v": "1"}}
		registered := must[*sd.RegisterInstanceOutput](t)(l.RegisterInstance(t.Context(), reg))
		l.done()
		_, revision := l.seen("demo", "backend")
		for _, restarted := range []bool{false, true} {
			if restarted {
				l.restart()
			}
			if again := must[*sd.CreateHttpNamespaceOutput](t)(l.CreateHttpNamespace(t.Context(), create)); *again.OperationId != *first.OperationId {
				t.Errorf("namespace: operation %s, then %s", *first.OperationId, *again.OperationId)
			}
			if again := l.service(ns, "backend", func(in *sd.CreateServiceInput) { in.CreatorRequestId = str("s") }); again != svc {
				t.Errorf("service: %s, then %s", svc, again)
			}
			if again := must[*sd.RegisterInstanceOutput](t)(l.RegisterInstance(t.Context(), reg)); *again.OperationId != *registered.OperationId {
				t.Errorf("instance: operation %s, then %s", *registered.OperationId, *again.OperationId)
			}
			l.done()
			if _, r := l.seen("demo", "backend"); r != revision {
				t.Errorf("revision %d, then %d", revision, r)
			}
		}
		other := *reg
		other.InstanceId = str("b")
		_, err := l.RegisterInstance(t.Context(), &other)
		failsWith(t, "a token of another request", err, "InvalidInput", "token", *registered.OperationId)
		_, err = l.CreateHttpNamespace(t.Context(), &sd.CreateHttpNamespaceInput{Name: str("demo"), CreatorRequestId: str("other")})
		failsWith(t, "the name with another token", err, "NamespaceAlreadyExists")
	})
}

func TestRevisionCountsMembership(t *testing.T) {
	over(t, Options{}, func(t *testing.T, l *lab) {
		svc := l.service(l.namespace("demo"), "backend")
		revision := func() int64 {
			out := must[*sd.DiscoverInstancesRevisionOutput](t)(l.DiscoverInstancesRevision(t.Context(), &sd.DiscoverInstancesRevisionInput{NamespaceName: str("demo"), ServiceName: str("backend")}))
			if _, other := l.seen("demo", "backend"); other != *out.InstancesRevision {
				t.Errorf("revision %d, and %d with the instances", *out.InstancesRevision, other)
			}
			return *out.InstancesRevision
		}
		last := revision()
		for _, c := range []struct {
			what string
			do   func()
			more int64
		}{
			{"a registration", func() { l.register(svc, "a", "v=1") }, 1},
			{"the same again", func() { l.register(svc, "a", "v=1") }, 0},
			{"an attribute", func() { l.register(svc, "a", "v=2") }, 1},
			{"its health", func() { _ = l.set(svc, "a", types.CustomHealthStatusUnhealthy) }, 0},
			{"another instance", func() { l.register(svc, "b") }, 1},
			{"a removal", func() { l.deregister(svc, "a") }, 1},
			{"a restart", l.restart, 0},
		} {
			c.do()
			if now := revision(); now != last+c.more {
				t.Errorf("%s: revision %d after %d", c.what, now, last)
			}
			last = revision()
		}
		// Neither a service nor a namespace that is made again starts below.
		l.deregister(svc, "b")
		must[*sd.DeleteServiceOutput](t)(l.DeleteService(t.Context(), &sd.DeleteServiceInput{Id: &svc}))
		ns := must[*sd.ListNamespacesOutput](t)(l.ListNamespaces(t.Context(), &sd.ListNamespacesInput{})).Namespaces[0]
		must[*sd.DeleteNamespaceOutput](t)(l.DeleteNamespace(t.Context(), &sd.DeleteNamespaceInput{Id: ns.Arn}))
		l.done()
		l.service(l.namespace("demo"), "backend")
		if now := revision(); now <= last {
			t.Errorf("made again: revision %d after %d", now, last)
		}
	})
}

func TestPagesCoverEverythingOnce(t *testing.T) {
	over(t, Options{}, func(t *testing.T, l *lab) {
		ns, other := l.namespace("demo"), l.namespace("other")
		var names, ids []string
		svc := ""
		for i := range 23 {
			svc = l.service(ns, fmt.Sprint("s", i))
			names = append(names, fmt.Sprint("s", i))
			l.service(other, fmt.Sprint("o", i))
		}
		for i := range 23 {
			l.register(svc, fmt.Sprint("i", i))
			ids = append(ids, fmt.Sprint("i", i))
		}
		same := func(what string, got, want []string, pages, least int) {
			t.Helper()
			slices.Sort(got)
			if want = slices.Sorted(slices.Values(want)); !slices.Equal(got, want) || pages < least {
				t.Errorf("%s: %v on %d pages, want %v", what, got, pages, want)
			}
		}
		var got []string
		n := 0
		services := sd.NewListServicesPaginator(l, &sd.ListServicesInput{MaxResults: aws.Int32(5), Filters: []types.ServiceFilter{{Name: types.ServiceFilterNameNamespaceId, Values: []string{ns}}}})
		for ; services.HasMorePages(); n++ {
			for _, v := range must[*sd.ListServicesOutput](t)(services.NextPage(t.Context())).Services {
				got = append(got, *v.Name)
			}
		}
		same("services", got, names, n, 9)
		got, n = nil, 0
		instances := sd.NewListInstancesPaginator(l, &sd.ListInstancesInput{ServiceId: &svc, MaxResults: aws.Int32(5)})
		for ; instances.HasMorePages(); n++ {
			for _, v := range must[*sd.ListInstancesOutput](t)(instances.NextPage(t.Context())).Instances {
				got = append(got, *v.Id)
			}
		}
		same("instances", got, ids, n, 5)
		got, n = nil, 0
		health := sd.NewGetInstancesHealthStatusPaginator(l, &sd.GetInstancesHealthStatusInput{ServiceId: &svc, MaxResults: aws.Int32(5)})
		for ; health.HasMorePages(); n++ {
			got = append(got, slices.Collect(maps.Keys(must[*sd.GetInstancesHealthStatusOutput](t)(health.NextPage(t.Context())).Status))...)
		}
		same("health", got, ids, n, 5)
		got, n = nil, 0
		operations := sd.NewListOperationsPaginator(l, &sd.ListOperationsInput{MaxResults: aws.Int32(5), Filters: []types.OperationFilter{
			{Name: types.OperationFilterNameType, Condition: types.FilterConditionIn, Values: []string{"REGISTER_INSTANCE", "UPDATE_SERVICE"}}, {Name: types.OperationFilterNameServiceId, Values: []string{svc}}}})
		for ; operations.HasMorePages(); n++ {
			for _, o := range must[*sd.ListOperationsOutput](t)(operations.NextPage(t.Context())).Operations {
				got = append(got, l.outcome(o.Id).Targets["INSTANCE"])
			}
		}
		same("operations", got, ids, n, 5)
		_, err := l.ListServices(t.Context(), &sd.ListServicesInput{NextToken: str("made up")})
		failsWith(t, "a made-up token", err, "InvalidInput", "NextToken")
	})
}

func TestFilters(t *testing.T) {
	over(t, Options{}, func(t *testing.T, l *lab) {
		l.namespace("prod-a")
		l.namespace("prod-b")
		l.namespace("test")
		must[*sd.CreatePublicDnsNamespaceOutput](t)(l.CreatePublicDnsNamespace(t.Context(), &sd.CreatePublicDnsNamespaceInput{Name: str("example.com")}))
		l.done()
		for _, c := range []struct {
			filters string // NAME CONDITION VALUE, joined by commas
			want    string
		}{
			{"", "example.com prod-a prod-b test"},
			{"NAME EQ test", "test"},
			{"NAME  test", "test"},
			{"NAME BEGINS_WITH prod-", "prod-a prod-b"},
			{"HTTP_NAME BEGINS_WITH exam", "example.com"},
			{"TYPE EQ DNS_PUBLIC", "example.com"},
			{"TYPE EQ HTTP,NAME BEGINS_WITH prod-", "prod-a prod-b"},
			{"TYPE BEGINS_WITH DNS", "example.com"},
			{"RESOURCE_OWNER EQ SELF", "example.com prod-a prod-b test"},
			{"RESOURCE_OWNER EQ OTHER_ACCOUNTS", ""},
			{"NAME IN test", "InvalidInput"},
			{"RESOURCE_OWNER EQ ME", "InvalidInput"},
			{"COLOUR EQ red", "InvalidInput"},
		} {
			in := &sd.ListNamespacesInput{}
			for f := range strings.SplitSeq(c.filters, ",") {
				if p := strings.Split(f, " "); len(p) == 3 {
					in.Filters = append(in.Filters, types.NamespaceFilter{Name: types.NamespaceFilterName(p[0]), Condition: types.FilterCondition(p[1]), Values: []string{p[2]}})
				}
			}
			out, err := l.ListNamespaces(t.Context(), in)
			if c.want == "InvalidInput" {
				failsWith(t, c.filters, err, "InvalidInput")
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, n := range out.Namespaces {
				got = append(got, *n.Name)
			}
			if slices.Sort(got); strings.Join(got, " ") != c.want {
				t.Errorf("%s: %v, want %s", c.filters, got, c.want)
			}
		}
		middle := time.Now()
		l.sleep(time.Minute)
		l.namespace("later")
		list := func(f ...types.OperationFilter) int {
			return len(must[*sd.ListOperationsOutput](t)(l.ListOperations(t.Context(), &sd.ListOperationsInput{Filters: f})).Operations)
		}
		between := func(from, to time.Time) types.OperationFilter {
			return types.OperationFilter{Name: types.OperationFilterNameUpdateDate, Condition: types.FilterConditionBetween, Values: []string{fmt.Sprint(from.Unix()), fmt.Sprint(to.Unix() + 1)}}
		}
		status := types.OperationFilter{Name: types.OperationFilterNameStatus, Condition: types.FilterConditionIn, Values: []string{"SUCCEED", "FAIL"}}
		if all, early, late, ok := list(), list(between(middle.Add(-time.Hour), middle)), list(between(middle.Add(time.Second), time.Now())), list(status); all != early+1 || late != 1 || ok != all {
			t.Errorf("operations: %d, of them %d early, %d late, %d over", all, early, late, ok)
		}
	})
}

func TestDiscoverFilters(t *testing.T) {
	over(t, Options{}, func(t *testing.T, l *lab) {
		ns := l.namespace("demo")
		svc := l.service(ns, "backend")
		l.register(svc, "a", "zone=1", "v=x")
		l.register(svc, "b", "zone=2", "v=x", "AWS_INIT_HEALTH_STATUS=UNHEALTHY")
		l.register(svc, "c", "zone=2", "v=y")
		plain := l.service(ns, "plain", func(in *sd.CreateServiceInput) { in.HealthCheckCustomConfig = nil })
		l.register(plain, "p")
		health := func(h types.HealthStatusFilter) func(*sd.DiscoverInstancesInput) {
			return func(in *sd.DiscoverInstancesInput) { in.HealthStatus = h }
		}
		query := func(kv ...string) func(*sd.DiscoverInstancesInput) {
			return func(in *sd.DiscoverInstancesInput) {
				in.QueryParameters, in.OptionalParameters = map[string]string{}, map[string]string{}
				for i, s := range kv {
					k, v, _ := strings.Cut(s, "=")
					[]map[string]string{in.QueryParameters, in.OptionalParameters}[i][k] = v
				}
			}
		}
		for _, c := range []struct {
			what, service string
			change        []func(*sd.DiscoverInstancesInput)
			want          string
		}{
			{"all", "backend", nil, "a:HEALTHY b:UNHEALTHY c:HEALTHY"},
			{"healthy", "backend", []func(*sd.DiscoverInstancesInput){health("HEALTHY")}, "a:HEALTHY c:HEALTHY"},
			{"unhealthy", "backend", []func(*sd.DiscoverInstancesInput){health("UNHEALTHY")}, "b:UNHEALTHY"},
			{"or else all", "backend", []func(*sd.DiscoverInstancesInput){health("HEALTHY_OR_ELSE_ALL")}, "a:HEALTHY c:HEALTHY"},
			{"or else all, of none", "backend", []func(*sd.DiscoverInstancesInput){health("HEALTHY_OR_ELSE_ALL"), query("zone=2", "v=x")}, "b:UNHEALTHY"},
			{"query", "backend", []func(*sd.DiscoverInstancesInput){query("zone=2")}, "b:UNHEALTHY c:HEALTHY"},
			{"optional that fits", "backend", []func(*sd.DiscoverInstancesInput){query("zone=2", "v=y")}, "c:HEALTHY"},
			{"optional that fits nothing", "backend", []func(*sd.DiscoverInstancesInput){query("zone=2", "v=z")}, "b:UNHEALTHY c:HEALTHY"},
			{"query that fits nothing", "backend", []func(*sd.DiscoverInstancesInput){query("none=")}, ""},
			{"health without a check", "plain", []func(*sd.DiscoverInstancesInput){health("UNHEALTHY")}, "p:UNKNOWN"},
			{"our own account", "plain", []func(*sd.DiscoverInstancesInput){func(in *sd.DiscoverInstancesInput) { in.OwnerAccount = str("000000000000") }}, "p:UNKNOWN"},
		} {
			if got, _ := l.seen("demo", c.service, c.change...); got != c.want {
				t.Errorf("%s: %q, want %q", c.what, got, c.want)
			}
		}
		_, err := l.DiscoverInstances(t.Context(), &sd.DiscoverInstancesInput{NamespaceName: str("demo"), ServiceName: str("plain"), OwnerAccount: str("123456789012")})
		failsWith(t, "another account", err, "NamespaceNotFound")
		two := must[*sd.DiscoverInstancesOutput](t)(l.DiscoverInstances(t.Context(), &sd.DiscoverInstancesInput{NamespaceName: str("demo"), ServiceName: str("backend"), MaxResults: aws.Int32(2)}))
		firsts := map[string]bool{}
		for range 100 { // the order is random: each comes first at some time
			firsts[*must[*sd.DiscoverInstancesOutput](t)(l.DiscoverInstances(t.Context(), &sd.DiscoverInstancesInput{NamespaceName: str("demo"), ServiceName: str("backend")})).Instances[0].InstanceId] = true
		}
		if len(two.Instances) != 2 || len(firsts) != 3 {
			t.Errorf("%d instances of at most 2, %d different ones came first", len(two.Instances), len(firsts))
		}
	})
}
