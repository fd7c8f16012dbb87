package bootstrap

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/types/known/structpb"
)

const awsSaid = `{"aws.ecs.serviceconnect.ListenerPortMapping": {"egress": 34365, "ingress-http": 15000},
	"aws.ecs.serviceconnect.ClusterIPMapping": {"app": "172.17.0.2"},
	"aws.ecs.serviceconnect.ServiceDiscovery": {"NamespaceName": "prod", "NamespaceArn": "arn:aws:servicediscovery:eu-west-1:111122223333:namespace/ns-abc"},
	"aws.appmesh.platformInfo": {"supportedIPFamilies": "IPv6_ONLY", "ecsPlatformInfo": {"ecsTaskArn": "arn:aws:ecs:eu-west-1:111122223333:task/c/0aaa"}},
	"aws.appmesh.metric_filter": {"level": "1"}}`

func TestDecodeAWS(t *testing.T) {
	s := &structpb.Struct{}
	if err := s.UnmarshalJSON([]byte(awsSaid)); err != nil {
		t.Fatal(err)
	}
	got, err := DecodeAWS(s)
	if err != nil {
		t.Fatal(err)
	}
	want := AWS{
		Listeners:    map[string]uint16{"egress": 34365, "ingress-http": 15000},
		ContainerIPs: map[string]netip.Addr{"app": netip.MustParseAddr("172.17.0.2")},
		Namespace:    "prod", Task: "0aaa", IPv6: true,
	}
	if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Error(d)
	}
}

// FuzzDecodeAWS: whatever a node says, what is accepted keeps the rules.
func FuzzDecodeAWS(f *testing.F) {
	f.Add(awsSaid)
	f.Add(`{"aws.ecs.serviceconnect.ListenerPortMapping": {"egress": 1.5, "ingress-a": null, "b": -1}, "aws.appmesh.platformInfo": []}`)
	f.Add(`{"aws.ecs.serviceconnect.ListenerPortMapping": {}, "aws.appmesh.platformInfo": {"ecsPlatformInfo": {"ecsTaskArn": "arn:"}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		s := &structpb.Struct{}
		if s.UnmarshalJSON([]byte(text)) != nil {
			return
		}
		a, err := DecodeAWS(s)
		if err != nil {
			return
		}
		taken := map[uint16]bool{}
		for name, port := range a.Listeners {
			if port == 0 || taken[port] {
				t.Errorf("%q listens on %d", name, port)
			}
			taken[port] = true
		}
		for name, ip := range a.ContainerIPs {
			if !ip.IsValid() || ip.IsUnspecified() {
				t.Errorf("%q is at %s", name, ip)
			}
		}
	})
}
