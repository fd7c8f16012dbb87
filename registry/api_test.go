package registry

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
)

func str(s string) *string { return &s }

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
