package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
	"github.com/aws/smithy-go"

	"patchbay/registry/cloudmap"
	"patchbay/registry/store"
)

// TestRequiredMembers: an empty request lacks just the members that the SDK's
// own validation asks for.
func TestRequiredMembers(t *testing.T) {
	s := New(&store.Memory{}, Options{})
	none := sd.New(sd.Options{Region: "x", HTTPClient: refuser{}, RetryMaxAttempts: 1})
	total, said := 0, regexp.MustCompile(`Value null at '([^']+)'`)
	for name := range s.http.Operations {
		method := reflect.ValueOf(none).MethodByName(name)
		in := reflect.New(method.Type().In(1).Elem())
		err, _ := reflect.TypeAssert[error](method.Call([]reflect.Value{reflect.ValueOf(context.Background()), in})[1])
		var want []string
		if invalid, ok := errors.AsType[smithy.InvalidParamsError](err); ok {
			for _, e := range invalid.Errs() {
				if p, is := errors.AsType[smithy.InvalidParamError](e); is {
					_, field, _ := strings.Cut(p.Field(), ".")
					want = append(want, strings.ToLower(field))
				}
			}
		}
		if name == "CreateService" {
			want = append(want, "namespaceid") // here or in DnsConfig, where it was once
		}
		var got []string
		_, err = s.http.Call("POST", name, []byte("{}"))
		if err != nil {
			for _, m := range said.FindAllStringSubmatch(err.Error(), -1) {
				got = append(got, strings.ToLower(m[1]))
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		total += len(want)
		if name == "UpdateInstanceCustomHealthStatus" { // an enum: the empty word is none of it
			want = slices.DeleteFunc(want, func(s string) bool { return s == "status" })
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s lacks %v, and the SDK asks for %v", name, got, want)
		}
	}
	if total < 30 {
		t.Errorf("the SDK asks for %d members in all", total)
	}
}

type refuser struct{}

func (refuser) Do(*http.Request) (*http.Response, error) { return nil, errors.New("no network") }

func words[E ~string](all []E) (out []string) {
	for _, e := range all {
		out = append(out, string(e))
	}
	return out
}

// TestEnums: every word that the SDK knows is accepted where it belongs, and
// no other.
func TestEnums(t *testing.T) {
	for what, c := range map[string]struct {
		request func(word string) interface{ Check(*cloudmap.Problems) }
		words   []string
	}{
		"health filter": {func(w string) interface{ Check(*cloudmap.Problems) } {
			return &cloudmap.DiscoverInstancesRequest{NamespaceName: "n", ServiceName: "s", HealthStatus: w}
		}, words(types.HealthStatusFilter("").Values())},
		"custom health": {func(w string) interface{ Check(*cloudmap.Problems) } {
			return &cloudmap.UpdateHealthRequest{ServiceID: "s", InstanceID: "i", Status: w}
		}, words(types.CustomHealthStatus("").Values())},
		"operation status": {func(w string) interface{ Check(*cloudmap.Problems) } {
			return &cloudmap.ListOperationsRequest{Filters: []cloudmap.Filter{{Name: "STATUS", Values: []string{w}}}}
		}, append(words(types.OperationStatus("").Values()), cloudmap.Succeed)},
		"operation type": {func(w string) interface{ Check(*cloudmap.Problems) } {
			return &cloudmap.ListOperationsRequest{Filters: []cloudmap.Filter{{Name: "TYPE", Values: []string{w}}}}
		}, words(types.OperationType("").Values())},
		"operation filter": {func(w string) interface{ Check(*cloudmap.Problems) } {
			return &cloudmap.ListOperationsRequest{Filters: []cloudmap.Filter{{Name: w, Values: map[string][]string{
				"STATUS": {"FAIL"}, "TYPE": {"UPDATE_SERVICE"}, "UPDATE_DATE": {"1", "2.5"}, "NAMESPACE_ID": {"x"}, "SERVICE_ID": {"x"}}[w]}}}
		}, words(types.OperationFilterName("").Values())},
		"namespace filter": {func(w string) interface{ Check(*cloudmap.Problems) } {
			return &cloudmap.ListNamespacesRequest{Filters: []cloudmap.Filter{{Name: w, Values: []string{"SELF"}}}}
		}, words(types.NamespaceFilterName("").Values())},
		"service filter": {func(w string) interface{ Check(*cloudmap.Problems) } {
			return &cloudmap.ListServicesRequest{Filters: []cloudmap.Filter{{Name: w, Values: []string{"SELF"}}}}
		}, words(types.ServiceFilterName("").Values())},
		"routing policy": {func(w string) interface{ Check(*cloudmap.Problems) } {
			return &cloudmap.CreateServiceRequest{Name: "s", NamespaceID: "n", DNSConfig: &cloudmap.DNSConfig{RoutingPolicy: w, DNSRecords: record("A")}}
		}, words(types.RoutingPolicy("").Values())},
		"record type": {func(w string) interface{ Check(*cloudmap.Problems) } {
			return &cloudmap.CreateServiceRequest{Name: "s", NamespaceID: "n", DNSConfig: &cloudmap.DNSConfig{RoutingPolicy: "WEIGHTED", DNSRecords: record(w)}}
		}, words(types.RecordType("").Values())},
		"health check": {func(w string) interface{ Check(*cloudmap.Problems) } {
			return &cloudmap.CreateServiceRequest{Name: "s", NamespaceID: "n", HealthCheckConfig: &cloudmap.HealthCheckConfig{Type: w}}
		}, words(types.HealthCheckType("").Values())},
		"service type": {func(w string) interface{ Check(*cloudmap.Problems) } {
			return &cloudmap.CreateServiceRequest{Name: "s", NamespaceID: "n", Type: w}
		}, words(types.ServiceTypeOption("").Values())},
	} {
		if len(c.words) == 0 {
			t.Errorf("%s: the SDK knows no word", what)
		}
		for _, w := range append(slices.Clone(c.words), "OTHER", "healthy") {
			var p cloudmap.Problems
			c.request(w).Check(&p)
			if known := slices.Contains(c.words, w); (p.Err() == nil) != known {
				t.Errorf("%s %q: %v", what, w, p.Err())
			}
		}
	}
}

func record(kind string) []cloudmap.DNSRecord {
	ttl := int64(60)
	return []cloudmap.DNSRecord{{Type: kind, TTL: &ttl}}
}

// TestLengths: the longest of each member is accepted, one more is not.
func TestLengths(t *testing.T) {
	s := New(&store.Memory{}, Options{})
	fits := func(op, body string, args ...any) bool {
		_, err := s.http.Call("POST", op, fmt.Appendf(nil, body, args...))
		return err == nil || !strings.HasPrefix(err.Error(), "InvalidInput")
	}
	long := strings.Repeat
	label := long("a", 63)
	for _, c := range []struct{ what, op, body, longest, tooLong string }{
		{"namespace name", "CreateHttpNamespace", `{"Name":"%s"}`, long("n", 1024), long("n", 1025)},
		{"namespace name", "CreateHttpNamespace", `{"Name":"%s"}`, "arn-", "arn:x"},
		{"namespace name", "CreateHttpNamespace", `{"Name":"%s"}`, "a!~", "a b"},
		{"private name", "CreatePrivateDnsNamespace", `{"Vpc":"v","Name":"%s"}`, long("n", 253), long("n", 254)},
		{"public name", "CreatePublicDnsNamespace", `{"Name":"%s"}`, label + ".com", label + "a.com"},
		{"public name", "CreatePublicDnsNamespace", `{"Name":"%s"}`, "a.b", "com"},
		{"service name", "CreateService", `{"NamespaceId":"x","Name":"%s"}`, label + "." + label, label + "." + label + ".a"},
		{"service name", "CreateService", `{"NamespaceId":"x","Name":"%s"}`, "_a-b_._tcp", "-a"},
		{"service name", "CreateService", `{"NamespaceId":"x","Name":"%s"}`, "A.b-0", "a..b"},
		{"description", "CreateHttpNamespace", `{"Name":"a","Description":"%s"}`, long("é", 1024), long("é", 1025)},
		{"request id", "CreateHttpNamespace", `{"Name":"b","CreatorRequestId":"%s"}`, long("r", 64), long("r", 65)},
		{"id or ARN", "GetService", `{"Id":"%s"}`, long("i", 255), long("i", 256)},
		{"instance id", "RegisterInstance", `{"ServiceId":"x","Attributes":{},"InstanceId":"%s"}`, long("i", 64), long("i", 65)},
		{"instance id", "RegisterInstance", `{"ServiceId":"x","Attributes":{},"InstanceId":"%s"}`, "a_/:.@-", "a b"},
		{"attribute key", "RegisterInstance", `{"ServiceId":"x","InstanceId":"i","Attributes":{"%s":"v"}}`, long("k", 255), long("k", 256)},
		{"attribute value", "RegisterInstance", `{"ServiceId":"x","InstanceId":"i","Attributes":{"k":"%s"}}`, long("v", 1024), long("v", 1025)},
		{"attribute value", "RegisterInstance", `{"ServiceId":"x","InstanceId":"i","Attributes":{"k":"%s"}}`, `a \tb `, " a"},
		{"attribute value", "RegisterInstance", `{"ServiceId":"x","InstanceId":"i","Attributes":{"k":"%s"}}`, "", "é"},
		{"port", "RegisterInstance", `{"ServiceId":"x","InstanceId":"i","Attributes":{"AWS_INSTANCE_PORT":"%s"}}`, "65535", "65536"},
		{"IPv4", "RegisterInstance", `{"ServiceId":"x","InstanceId":"i","Attributes":{"AWS_INSTANCE_IPV4":"%s"}}`, "10.0.0.1", "::1"},
		{"IPv6", "RegisterInstance", `{"ServiceId":"x","InstanceId":"i","Attributes":{"AWS_INSTANCE_IPV6":"%s"}}`, "fd00::1", "fe80::1%%eth0"},
		{"lease", "RegisterInstance", `{"ServiceId":"x","InstanceId":"i","Attributes":{"PATCHBAY_LEASE_SECONDS":"%s"}}`, "86400", "0"},
		{"lease", "RegisterInstance", `{"ServiceId":"x","InstanceId":"i","Attributes":{"PATCHBAY_LEASE_SECONDS":"%s"}}`, "1", "1.5"},
		{"service attribute", "UpdateServiceAttributes", `{"ServiceId":"x","Attributes":{"k":"%s"}}`, long("v", 1024), long("v", 1025)},
		{"MaxResults", "ListServices", `{"MaxResults":%s}`, "100", "101"},
		{"MaxResults", "ListServices", `{"MaxResults":%s}`, "1", "0"},
		{"MaxResults", "DiscoverInstances", `{"NamespaceName":"n","ServiceName":"s","MaxResults":%s}`, "1000", "1001"},
		{"owner", "DiscoverInstancesRevision", `{"NamespaceName":"n","ServiceName":"s","OwnerAccount":"%s"}`, "123456789012", "1234"},
		{"tag value", "TagResource", `{"ResourceARN":"x","Tags":[{"Key":"k","Value":"%s"}]}`, long("v", 256), long("v", 257)},
		{"tag key", "UntagResource", `{"ResourceARN":"x","TagKeys":["%s"]}`, long("k", 128), long("k", 129)},
	} {
		if !fits(c.op, c.body, c.longest) {
			t.Errorf("%s %.40q is refused", c.what, c.longest)
		}
		if fits(c.op, c.body, c.tooLong) {
			t.Errorf("%s %.40q is accepted", c.what, c.tooLong)
		}
	}
	// All problems of a request come at once, and as AWS words them.
	_, err := s.http.Call("POST", "CreateHttpNamespace", []byte(`{"Name":"a b","CreatorRequestId":"`+long("r", 65)+`"}`))
	text, _ := json.Marshal(err)
	if !strings.Contains(string(text), `"__type":"InvalidInput"`) || !strings.Contains(string(text), "2 validation errors detected: Value 'a b' at 'name' failed to satisfy constraint") {
		t.Errorf("%s", text)
	}
}
