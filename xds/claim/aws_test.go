package claim

import (
	"net/netip"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"patchbay/mesh"
	"patchbay/xds/bootstrap"
	"patchbay/xds/translate"
	"patchbay/xds/views"
)

// Where an application is, a node says by container and by IP family.
func TestWhereAnApplicationIs(t *testing.T) {
	app, lo6 := netip.MustParseAddr("172.17.0.2"), netip.IPv6Loopback()
	s := Socket{Workload: mesh.Workload{Namespace: "prod", Name: "web"},
		Ports: []Port{{Port: bootstrap.Port{PortName: "p", DiscoveryName: "web", Protocol: mesh.TCP, AppPort: 80}, Container: "app"}}}
	for _, x := range []struct {
		said bootstrap.AWS
		want netip.Addr
	}{
		{bootstrap.AWS{IPv4: true}, netip.Addr{}},
		{bootstrap.AWS{IPv6: true}, lo6},
		{bootstrap.AWS{IPv4: true, ContainerIPs: map[string]netip.Addr{"app": app}}, app},
	} {
		x.said.Listeners = map[string]uint16{"ingress-p": 81, "egress": 82}
		meta, err := s.place(x.said)
		if err != nil {
			t.Fatal(err)
		}
		if got := meta.AWS.Apps["p"]; got != x.want || meta.IPv6 != x.said.IPv6 || meta.AWS.EgressPort != 82 || len(meta.Ports) != 1 || meta.Ports[0].ListenerPort != 81 {
			t.Errorf("%+v: the application is at %s; %+v", x.said, got, meta)
		}
		offers := mesh.Node{Workload: mesh.Workload{Namespace: "prod", Name: "web", DiscoveryNames: []string{"web"}}}
		var at string
		for _, r := range translate.Node(offers, meta, nil, translate.Identity{}, views.Tracing{}) {
			if c, ok := r.Message.(*clusterv3.Cluster); ok {
				at = c.GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints()[0].GetEndpoint().GetAddress().GetSocketAddress().GetAddress()
			}
		}
		want := "127.0.0.1"
		if x.want.IsValid() {
			want = x.want.String()
		}
		if at != want {
			t.Errorf("%+v: Envoy is told %s; want %s", x.said, at, want)
		}
	}
}
