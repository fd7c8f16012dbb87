package registry

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
)

// private makes a private DNS namespace.
func (l *lab) private(name, vpc string) (id string, err error) {
	l.t.Helper()
	op, err := l.CreatePrivateDnsNamespace(l.t.Context(), &sd.CreatePrivateDnsNamespaceInput{Name: &name, Vpc: &vpc})
	if err != nil {
		return "", err
	}
	l.done()
	return l.outcome(op.OperationId).Targets["NAMESPACE"], nil
}

func records(policy types.RoutingPolicy, kinds ...types.RecordType) *types.DnsConfig {
	d := &types.DnsConfig{RoutingPolicy: policy}
	for _, k := range kinds {
		d.DnsRecords = append(d.DnsRecords, types.DnsRecord{Type: k, TTL: aws.Int64(60)})
	}
	return d
}

// The name of a namespace may come again with another type or VPC; its
// HttpName then differs, and each is discovered by its own.
func TestNamespacesOfEveryType(t *testing.T) {
	over(t, Options{}, func(t *testing.T, l *lab) {
		l.namespace("demo")
		first, err := l.private("demo", "vpc-1")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.private("demo", "vpc-2"); err != nil {
			t.Fatal(err)
		}
		_, err = l.private("demo", "vpc-1")
		failsWith(t, "the same again", err, "NamespaceAlreadyExists", first)
		names := map[string]bool{}
		for _, n := range must[*sd.ListNamespacesOutput](t)(l.ListNamespaces(t.Context(), &sd.ListNamespacesInput{})).Namespaces {
			names[*n.Properties.HttpProperties.HttpName] = true
			if *n.Name != "demo" || (n.Type == types.NamespaceTypeHttp) != (n.Properties.DnsProperties == nil) {
				t.Errorf("%+v", n)
			}
			l.service(*n.Id, "backend")
			if got, _ := l.seen(*n.Properties.HttpProperties.HttpName, "backend"); got != "" {
				t.Errorf("%s: %q", *n.Id, got)
			}
		}
		if len(names) != 3 || !names["demo"] {
			t.Errorf("HttpNames: %v", names)
		}
		update := &sd.UpdatePrivateDnsNamespaceInput{Id: &first, Namespace: &types.PrivateDnsNamespaceChange{Description: str("new"),
			Properties: &types.PrivateDnsNamespacePropertiesChange{DnsProperties: &types.PrivateDnsPropertiesMutableChange{SOA: &types.SOAChange{TTL: aws.Int64(77)}}}}}
		must[*sd.UpdatePrivateDnsNamespaceOutput](t)(l.UpdatePrivateDnsNamespace(t.Context(), update))
		l.done()
		l.restart()
		n := must[*sd.GetNamespaceOutput](t)(l.GetNamespace(t.Context(), &sd.GetNamespaceInput{Id: str("arn:aws:servicediscovery:us-east-1:000000000000:namespace/" + first)})).Namespace
		if *n.Description != "new" || *n.Properties.DnsProperties.SOA.TTL != 77 || *n.Properties.DnsProperties.HostedZoneId == "" || *n.ServiceCount != 1 || n.CreatorRequestId == nil {
			t.Errorf("%+v", n)
		}
		_, err = l.UpdateHttpNamespace(t.Context(), &sd.UpdateHttpNamespaceInput{Id: &first, Namespace: &types.HttpNamespaceChange{Description: str("x")}})
		failsWith(t, "the operation of another type", err, "InvalidInput", "DNS_PRIVATE")
		_, err = l.DeleteNamespace(t.Context(), &sd.DeleteNamespaceInput{Id: &first})
		failsWith(t, "with services", err, "ResourceInUse", "1 service,")
	})
}

func TestServicesWithRecords(t *testing.T) {
	over(t, Options{}, func(t *testing.T, l *lab) {
		http := l.namespace("http")
		dns, err := l.private("dns", "vpc-1")
		if err != nil {
			t.Fatal(err)
		}
		pub := l.outcome(must[*sd.CreatePublicDnsNamespaceOutput](t)(l.CreatePublicDnsNamespace(t.Context(), &sd.CreatePublicDnsNamespaceInput{Name: str("example.com")})).OperationId).Targets["NAMESPACE"]
		l.done()
		check := &types.HealthCheckConfig{Type: types.HealthCheckTypeHttp}
		for what, c := range map[string]struct {
			in   sd.CreateServiceInput
			says string // empty: it is accepted
		}{
			"records in an HTTP namespace": {sd.CreateServiceInput{NamespaceId: &http, DnsConfig: records("", "A")}, "type HTTP can't have a DnsConfig"},
			"a check in private":           {sd.CreateServiceInput{NamespaceId: &dns, HealthCheckConfig: check}, "private DNS namespace"},
			"both checks":                  {sd.CreateServiceInput{NamespaceId: &pub, HealthCheckConfig: check, HealthCheckCustomConfig: &types.HealthCheckCustomConfig{}}, "not both"},
			"A and SRV":                    {sd.CreateServiceInput{NamespaceId: &dns, DnsConfig: records("", "A", "SRV")}, "A and AAAA"},
			"CNAME":                        {sd.CreateServiceInput{NamespaceId: &dns, DnsConfig: records("MULTIVALUE", "CNAME")}, "WEIGHTED"},
			"HTTP with records":            {sd.CreateServiceInput{NamespaceId: &dns, Type: "HTTP", DnsConfig: records("", "A")}, "type HTTP"},
			"no namespace":                 {sd.CreateServiceInput{}, "namespaceId"},
			"nothing wrong":                {sd.CreateServiceInput{NamespaceId: &pub, DnsConfig: records("", "A", "AAAA"), HealthCheckConfig: check}, ""},
			"HTTP in DNS":                  {sd.CreateServiceInput{NamespaceId: &dns, Type: "HTTP"}, ""},
		} {
			c.in.Name = str("s" + fmt.Sprint(len(what)))
			_, err := l.CreateService(t.Context(), &c.in)
			if c.says == "" && err != nil {
				t.Errorf("%s: %v", what, err)
			} else if c.says != "" {
				failsWith(t, what, err, "InvalidInput", c.says)
			}
		}
		_, err = l.CreateService(t.Context(), &sd.CreateServiceInput{Name: str("x"), NamespaceId: str("ns-none")})
		failsWith(t, "an unknown namespace", err, "NamespaceNotFound")
		srv := l.service(dns, "Backend", func(in *sd.CreateServiceInput) { in.DnsConfig = records("", "SRV") })
		_, err = l.CreateService(t.Context(), &sd.CreateServiceInput{Name: str("backenD"), NamespaceId: &dns, DnsConfig: records("", "A")})
		failsWith(t, "a name that differs in case", err, "ServiceAlreadyExists")
		l.service(http, "Backend")
		l.service(http, "backend") // where only the API finds them

		for what, c := range map[string]struct {
			attributes map[string]string
			says       string
		}{
			"no port":     {map[string]string{"AWS_INSTANCE_IPV4": "10.0.0.1"}, "AWS_INSTANCE_PORT"},
			"no address":  {map[string]string{"AWS_INSTANCE_PORT": "80"}, "AWS_INSTANCE_IPV4"},
			"an alias":    {map[string]string{"AWS_ALIAS_DNS_NAME": "x", "AWS_INSTANCE_PORT": "80"}, "can't be combined"},
			"an EC2 id":   {map[string]string{"AWS_EC2_INSTANCE_ID": "i-1"}, "HTTP namespaces only"},
			"31 customs":  {customs(31), "31 custom attributes"},
			"5001 chars":  {map[string]string{"a": strings.Repeat("x", 1000), "b": strings.Repeat("x", 1000), "c": strings.Repeat("x", 1000), "d": strings.Repeat("x", 1000), "e": strings.Repeat("x", 996)}, "5001 characters"},
			"a bad lease": {map[string]string{"PATCHBAY_LEASE_SECONDS": "86401"}, "1 to 86400"},
			"two at once": {map[string]string{"AWS_INSTANCE_IPV4": "x", "AWS_INSTANCE_IPV6": "10.0.0.1"}, "2 validation errors"},
		} {
			_, err := l.RegisterInstance(t.Context(), &sd.RegisterInstanceInput{ServiceId: &srv, InstanceId: str("a"), Attributes: c.attributes})
			failsWith(t, what, err, "InvalidInput", c.says)
		}
		l.register(srv, "a", "AWS_INSTANCE_PORT=80")
	})
}

func customs(n int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m[fmt.Sprint("k", i)] = "v"
	}
	return m
}

// An update sets TTLs, the Route 53 check and the description, and nothing
// else; what it leaves out goes, as AWS documents it for DNS namespaces.
func TestUpdateService(t *testing.T) {
	over(t, Options{}, func(t *testing.T, l *lab) {
		http := l.namespace("http")
		pub := l.outcome(must[*sd.CreatePublicDnsNamespaceOutput](t)(l.CreatePublicDnsNamespace(t.Context(), &sd.CreatePublicDnsNamespaceInput{Name: str("example.com")})).OperationId).Targets["NAMESPACE"]
		l.done()
		svc := l.service(pub, "backend", func(in *sd.CreateServiceInput) {
			in.DnsConfig, in.HealthCheckCustomConfig, in.HealthCheckConfig = records("WEIGHTED", "A"), nil, &types.HealthCheckConfig{Type: "HTTPS"}
		})
		update := func(id string, c types.ServiceChange) error {
			_, err := l.UpdateService(t.Context(), &sd.UpdateServiceInput{Id: &id, Service: &c})
			l.done()
			return err
		}
		get := func() *types.Service {
			return must[*sd.GetServiceOutput](t)(l.GetService(t.Context(), &sd.GetServiceInput{Id: &svc})).Service
		}
		if s := get(); s.Type != types.ServiceTypeDnsHttp || *s.HealthCheckConfig.ResourcePath != "/" || *s.HealthCheckConfig.FailureThreshold != 1 || *s.DnsConfig.NamespaceId != pub { //nolint:staticcheck // AWS still answers with it
			t.Errorf("%+v", s)
		}
		failsWith(t, "another record type", update(svc, types.ServiceChange{DnsConfig: &types.DnsConfigChange{DnsRecords: records("", "SRV").DnsRecords}}), "InvalidInput", "create it again")
		err := update(svc, types.ServiceChange{Description: str("d"), DnsConfig: &types.DnsConfigChange{DnsRecords: []types.DnsRecord{{Type: "A", TTL: aws.Int64(5)}}}})
		if s := get(); err != nil || *s.Description != "d" || *s.DnsConfig.DnsRecords[0].TTL != 5 || s.DnsConfig.RoutingPolicy != "WEIGHTED" || s.HealthCheckConfig != nil {
			t.Errorf("%+v, %v", s, err)
		}
		if err := update(svc, types.ServiceChange{}); err != nil || get().DnsConfig != nil || get().Type != types.ServiceTypeHttp {
			t.Errorf("records that were left out: %+v, %v", get(), err)
		}
		plain := l.service(http, "backend")
		failsWith(t, "records for HTTP", update(plain, types.ServiceChange{DnsConfig: &types.DnsConfigChange{DnsRecords: records("", "A").DnsRecords}}), "InvalidInput", "Description")
		if err := update(plain, types.ServiceChange{Description: str("d")}); err != nil {
			t.Error(err)
		}
		failsWith(t, "none", update("srv-none", types.ServiceChange{}), "ServiceNotFound")
	})
}

func TestTagsAndAttributes(t *testing.T) {
	over(t, Options{}, func(t *testing.T, l *lab) {
		ns := l.namespace("demo")
		svc := l.service(ns, "backend", func(in *sd.CreateServiceInput) { in.Tags = []types.Tag{{Key: str("a"), Value: str("1")}} })
		for _, arn := range []string{"arn:aws:servicediscovery:us-east-1:000000000000:service/" + svc, "arn:aws:servicediscovery:us-east-1:000000000000:namespace/" + ns} {
			tags := func(n int) (list []types.Tag) {
				for i := range n {
					list = append(list, types.Tag{Key: str(fmt.Sprint("k", i)), Value: str("")})
				}
				return list
			}
			must[*sd.TagResourceOutput](t)(l.TagResource(t.Context(), &sd.TagResourceInput{ResourceARN: &arn, Tags: tags(49)}))
			must[*sd.UntagResourceOutput](t)(l.UntagResource(t.Context(), &sd.UntagResourceInput{ResourceARN: &arn, TagKeys: []string{"a", "k48", "absent"}}))
			l.restart()
			if got := must[*sd.ListTagsForResourceOutput](t)(l.ListTagsForResource(t.Context(), &sd.ListTagsForResourceInput{ResourceARN: &arn})).Tags; len(got) != 48 || *got[0].Key != "k0" {
				t.Errorf("%d tags: %+v", len(got), got)
			}
			_, err := l.TagResource(t.Context(), &sd.TagResourceInput{ResourceARN: &arn, Tags: tags(51)})
			var many *types.TooManyTagsException
			if !errors.As(err, &many) || aws.ToString(many.ResourceName) != arn {
				t.Errorf("51 tags: %v", err)
			}
			_, err = l.TagResource(t.Context(), &sd.TagResourceInput{ResourceARN: &arn, Tags: []types.Tag{{Key: str("aws:x"), Value: str("")}}})
			failsWith(t, "a reserved key", err, "InvalidInput", "aws:")
		}
		for _, arn := range []string{svc, "arn:aws:servicediscovery:us-east-1:000000000000:service/" + ns, "arn:aws:ec2:us-east-1:000000000000:service/" + svc} {
			_, err := l.ListTagsForResource(t.Context(), &sd.ListTagsForResourceInput{ResourceARN: &arn})
			failsWith(t, arn, err, "ResourceNotFoundException")
		}
		must[*sd.UpdateServiceAttributesOutput](t)(l.UpdateServiceAttributes(t.Context(), &sd.UpdateServiceAttributesInput{ServiceId: &svc, Attributes: customs(30)}))
		_, err := l.UpdateServiceAttributes(t.Context(), &sd.UpdateServiceAttributesInput{ServiceId: &svc, Attributes: map[string]string{"one": "more"}})
		failsWith(t, "31 attributes", err, "ServiceAttributesLimitExceededException")
		must[*sd.DeleteServiceAttributesOutput](t)(l.DeleteServiceAttributes(t.Context(), &sd.DeleteServiceAttributesInput{ServiceId: &svc, Attributes: []string{"k0"}}))
		l.restart()
		got := must[*sd.GetServiceAttributesOutput](t)(l.GetServiceAttributes(t.Context(), &sd.GetServiceAttributesInput{ServiceId: &svc})).ServiceAttributes
		if len(got.Attributes) != 29 || !strings.HasSuffix(*got.ServiceArn, svc) {
			t.Errorf("%d attributes of %s", len(got.Attributes), *got.ServiceArn)
		}
		_, err = l.UpdateServiceAttributes(t.Context(), &sd.UpdateServiceAttributesInput{ServiceId: &svc, Attributes: map[string]string{"k": strings.Repeat("x", 1025)}})
		failsWith(t, "a long value", err, "InvalidInput", "1024")
	})
}

// One call of DiscoverInstances can be complete: a service has at most 1,000.
func TestInstancesOfOneService(t *testing.T) {
	over(t, Options{}, func(t *testing.T, l *lab) {
		svc := l.service(l.namespace("demo"), "backend")
		for i := range 1000 {
			in := fmt.Appendf(nil, `{"ServiceId":"%s","InstanceId":"i%d","Attributes":{}}`, svc, i)
			if _, err := l.server.http.Call("POST", "RegisterInstance", in); err != nil {
				t.Fatal(err)
			}
		}
		l.done()
		_, err := l.RegisterInstance(t.Context(), &sd.RegisterInstanceInput{ServiceId: &svc, InstanceId: str("one more"[:3]), Attributes: map[string]string{}})
		failsWith(t, "number 1,001", err, "ResourceLimitExceeded", "1000")
		if o := l.register(svc, "i7", "again=yes"); o.Status != types.OperationStatusSuccess {
			t.Errorf("one of them again: %+v", o)
		}
		if out := must[*sd.DiscoverInstancesOutput](t)(l.DiscoverInstances(t.Context(), &sd.DiscoverInstancesInput{NamespaceName: str("demo"), ServiceName: str("backend"), MaxResults: aws.Int32(1000)})); len(out.Instances) != 1000 {
			t.Errorf("%d discovered", len(out.Instances))
		}
		if s := must[*sd.GetServiceOutput](t)(l.GetService(t.Context(), &sd.GetServiceInput{Id: &svc})).Service; *s.InstanceCount != 1000 {
			t.Errorf("%d counted", *s.InstanceCount)
		}
	})
}

func TestHealthTakesItsTime(t *testing.T) {
	over(t, Options{HealthDelay: 30e9}, func(t *testing.T, l *lab) {
		svc := l.service(l.namespace("demo"), "backend")
		l.register(svc, "a")
		put := func(s types.CustomHealthStatus) {
			if err := l.set(svc, "a", s); err != nil {
				t.Fatal(err)
			}
		}
		put("UNHEALTHY")
		l.sleep(20e9)
		put("UNHEALTHY") // saying it twice does not speed it up, nor slow it down
		l.expect("after 20 s", "a:HEALTHY")
		l.restart()
		l.sleep(9e9)
		l.expect("after 29 s", "a:HEALTHY")
		l.sleep(1e9)
		l.expect("after 30 s", "a:UNHEALTHY")
		put("HEALTHY")
		put("UNHEALTHY") // taken back
		l.sleep(60e9)
		l.expect("taken back", "a:UNHEALTHY")
		if got := must[*sd.GetInstancesHealthStatusOutput](t)(l.GetInstancesHealthStatus(t.Context(), &sd.GetInstancesHealthStatusInput{ServiceId: &svc, Instances: []string{"a"}})).Status["a"]; got != "UNHEALTHY" {
			t.Errorf("health %s", got)
		}
		_, err := l.GetInstancesHealthStatus(t.Context(), &sd.GetInstancesHealthStatusInput{ServiceId: &svc, Instances: []string{"a", "b"}})
		failsWith(t, "of an unknown one", err, "InstanceNotFound")
	})
}
