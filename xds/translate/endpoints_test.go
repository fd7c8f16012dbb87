package translate

import (
	"net/netip"
	"testing"

	"google.golang.org/protobuf/proto"

	"patchbay/mesh"
)

// TestSaysIsEverythingButTheAddress: two endpoints of one address are equal if
// and only if they say the same.
func TestSaysIsEverythingButTheAddress(t *testing.T) {
	var all []mesh.Endpoint
	for _, health := range []mesh.Health{mesh.Healthy, mesh.Unhealthy, mesh.Unknown} {
		for _, weight := range []uint32{0, 1, 2, 9} {
			for _, zone := range []string{"", "a"} {
				all = append(all, mesh.Endpoint{InstanceID: zone, Addr: netip.MustParseAddrPort("10.0.0.1:80"), Zone: zone, Health: health, Weight: weight})
			}
		}
	}
	for _, a := range all {
		for _, b := range all {
			for _, plain := range [][2]bool{{false, false}, {true, false}, {true, true}} {
				x, y := lbEndpoint(a, plain[0]), lbEndpoint(b, plain[1])
				if same := SaysOf(x) == SaysOf(y); same != proto.Equal(x, y) {
					t.Fatalf("%+v %v and %+v %v say the same: %v", a, plain[0], b, plain[1], same)
				}
			}
		}
	}
}
