package transition

import (
	"net/netip"
	"slices"
	"testing"

	"patchbay/mesh"
	"patchbay/mesh/policy"
)

var (
	plain = mesh.Endpoint{InstanceID: "plain", Addr: netip.MustParseAddrPort("10.0.0.1:80")}
	tls   = mesh.Endpoint{InstanceID: "tls", Addr: netip.MustParseAddrPort("10.0.0.2:80"), TLS: true}
	issue = &mesh.ServiceTLS{Issuer: "default", Only: true}
)

func TestInterim(t *testing.T) {
	required := &policy.Policy{MutualTLS: &policy.MutualTLS{Mode: "required"}}
	blue := &mesh.Deployment{Shares: []mesh.Share{{Revision: "blue", Weight: 1}}}
	for name, c := range map[string]struct {
		old, now, want *mesh.Service
	}{
		"nothing was shown": {nil, &mesh.Service{Endpoints: []mesh.Endpoint{tls}}, nil},
		"an endpoint more":  {&mesh.Service{}, &mesh.Service{Endpoints: []mesh.Endpoint{plain}}, nil},
		"TLS is switched on: now's cluster, old's endpoints": {
			&mesh.Service{Endpoints: []mesh.Endpoint{plain}}, &mesh.Service{TLS: issue, Endpoints: []mesh.Endpoint{tls}},
			&mesh.Service{TLS: &mesh.ServiceTLS{Issuer: "default"}, Endpoints: []mesh.Endpoint{plain}},
		},
		"a revision begins: now's clusters, old's routes": {
			&mesh.Service{Protocol: mesh.HTTP}, &mesh.Service{Protocol: mesh.HTTP, Deployment: blue},
			&mesh.Service{Protocol: mesh.HTTP, Deployment: &mesh.Deployment{Warm: []string{"blue"}}},
		},
		"tcp has no routes": {&mesh.Service{Protocol: mesh.TCP}, &mesh.Service{Protocol: mesh.TCP, Deployment: blue}, nil},
		"certificates are required: now's cluster, old's endpoints": {
			&mesh.Service{TLS: issue, Endpoints: []mesh.Endpoint{plain}},
			&mesh.Service{TLS: issue, Policy: required, Endpoints: []mesh.Endpoint{plain, tls}},
			&mesh.Service{TLS: issue, Policy: required, Endpoints: []mesh.Endpoint{plain}},
		},
	} {
		got := Interim(c.old, c.now)
		if (got == nil) != (c.want == nil) {
			t.Errorf("%s: %+v", name, got)
			continue
		}
		if got != nil && !got.Equal(c.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

func TestCallable(t *testing.T) {
	s := &mesh.Service{TLS: issue, Endpoints: []mesh.Endpoint{plain, tls}}
	if got := Callable(s); !slices.Equal(got, []mesh.Endpoint{tls}) {
		t.Errorf("locked to TLS: %v", got)
	}
	if s.Endpoints[0] != plain {
		t.Error("the service has lost an endpoint")
	}
}

func TestProductionIsNeverEmpty(t *testing.T) {
	blue, green := plain, tls
	blue.Revision, green.Revision = "blue", "green"
	s := &mesh.Service{Endpoints: []mesh.Endpoint{blue, green}, Deployment: &mesh.Deployment{Shares: []mesh.Share{{Revision: "blue", Weight: 1}}}}
	if got := Production(s); len(got.Endpoints) != 1 || got.Endpoints[0].Revision != "blue" || got.TLS == nil {
		t.Errorf("with blue alone in production: %+v", got)
	}
	s.Deployment.Shares[0].Revision = "red"
	if got := Production(s); got != s {
		t.Errorf("without an endpoint in production: %+v", got)
	}
	if got := Revision(s, "red"); got != s {
		t.Errorf("a revision without endpoints: %+v", got)
	}
}
