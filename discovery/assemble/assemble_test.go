package assemble

import (
	"net/netip"
	"slices"
	"testing"

	"patchbay/discovery/cloud"
	"patchbay/mesh"
	"patchbay/mesh/record"
)

// While calls are divided, health says as much about a revision as its presence:
// the share of one that is all unhealthy goes to the other, and comes back.
func TestAShareFollowsHealth(t *testing.T) {
	p := Parts{
		Name: mesh.ServiceName{Namespace: "demo", DiscoveryName: "backend"},
		Settings: &record.Service{
			Current: "x", Documents: map[string]record.Settings{"x": {Protocol: mesh.HTTP}},
			Shift: &mesh.Shift{ID: "1", From: "blue", To: "green", Weights: []uint32{500}},
		},
		Instances: make([]cloud.Instance, 2),
	}
	for i, revision := range []string{"blue", "green"} {
		p.Instances[i].Endpoint = mesh.Endpoint{
			InstanceID: revision, Revision: revision, Weight: 1, Health: mesh.Healthy,
			Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80),
		}
	}
	for _, step := range []struct {
		green mesh.Health
		want  []mesh.Share
	}{
		{mesh.Healthy, []mesh.Share{{Revision: "blue", Weight: 500}, {Revision: "green", Weight: 500}}},
		{mesh.Unhealthy, []mesh.Share{{Revision: "blue", Weight: 1000}, {Revision: "green", Weight: 0}}},
		{mesh.Unknown, []mesh.Share{{Revision: "blue", Weight: 500}, {Revision: "green", Weight: 500}}},
	} {
		p.Instances[1].Endpoint.Health = step.green
		s, _ := Service(p)
		if !slices.Equal(s.Deployment.Shares, step.want) || s.Deployment.Test != "green" || len(s.Endpoints) != 2 {
			t.Errorf("green is %v: %+v of %d endpoints; want %v", step.green, s.Deployment, len(s.Endpoints), step.want)
		}
	}
}
