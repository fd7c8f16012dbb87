package translate

import (
	"net/netip"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"

	"patchbay/mesh"
	"patchbay/mesh/policy"
	"patchbay/xds/views"
)

// TestWhatIsSaidHolds: the time that an operator is told of is the one that
// Envoy is told of, whoever has said it, and whatever the protocol.
func TestWhatIsSaidHolds(t *testing.T) {
	for _, own := range []string{"", `{"b":{"timeout":{"perRequest":"3s"}}}`, `{"b":{"timeout":{"idle":"7s"}}}`, `{"b":{"timeout":{"perRequest":"0s","idle":"0s"}}}`} {
		for _, block := range []mesh.Timeouts{{}, {Idle: new(11 * time.Second), PerRequest: new(13 * time.Second)}} {
			for _, p := range protocols {
				v := views.View{Namespace: "demo", Wiring: mesh.Redirect, Policies: own}
				s := named("b", p)
				s.Timeouts, s.Aliases = block, []mesh.Alias{{DNSName: "b.demo", Port: 80, VIP: netip.MustParseAddr("127.128.1.1")}}
				said := map[string]any{}
				for _, w := range v.Words(s) {
					said[w.Member] = w.Value
				}
				if _, is := said["timeout.perRequest"]; is != p.L7() {
					t.Errorf("%s: %v", p, said)
				}
				for member, d := range told(t, v, s) {
					if said[member] != policy.Duration(d) {
						t.Errorf("%s, the block %+v, the caller %s: %s is said to be %v, and is %s", p, block, own, member, said[member], d)
					}
				}
			}
		}
	}
}

// told are the timeouts in the resources of a service.
func told(t *testing.T, v views.View, s *mesh.Service) map[string]time.Duration {
	t.Helper()
	out := map[string]time.Duration{}
	for _, r := range Service(v, s) {
		switch m := r.Message.(type) {
		case *routev3.RouteConfiguration:
			a := m.VirtualHosts[0].Routes[0].GetRoute()
			out["timeout.perRequest"], out["timeout.idle"] = a.Timeout.AsDuration(), a.IdleTimeout.AsDuration()
		case *listenerv3.Listener:
			p := &tcpv3.TcpProxy{}
			if m.FilterChains[0].Filters[0].GetTypedConfig().MessageIs(p) {
				if err := m.FilterChains[0].Filters[0].GetTypedConfig().UnmarshalTo(p); err != nil {
					t.Fatal(err)
				}
				out["timeout.idle"] = p.IdleTimeout.AsDuration()
			}
		}
	}
	if len(out) == 0 {
		t.Fatalf("%s: no timeout", describe(s))
	}
	return out
}
