package translate

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"patchbay/mesh"
	"patchbay/xds/translate/traffic"
	"patchbay/xds/views"
)

// egressRoute sends the requests of an alias to its service, or where the
// policy wants them. It is apart from the listener, so that a change of route
// touches no connection.
func egressRoute(v views.View, s *mesh.Service, name string) Resource {
	p := v.Effective(s)
	r := traffic.Routes(traffic.Call{
		Cluster: s.Name.String(),
		Of: func(other string) string {
			return mesh.ServiceName{Namespace: s.Name.Namespace, DiscoveryName: other}.String()
		},
		Split: split(s),
		Test:  test(s),
		Host:  hostOf(s),
		GRPC:  s.Protocol == mesh.GRPC,
	}, p)
	if s.External != nil && s.External.TLS != nil {
		for _, one := range r { // Envoy says what the application spoke; the target would take it for its own
			one.RequestHeadersToRemove = []string{"x-forwarded-proto"}
		}
	}
	return route(name, traffic.Fault(p.Fault), r)
}

// ingressRoute sends every request to the application. The caller's sidecar
// keeps the time: limits here could only be stricter than what it was told. What
// the service has its callers ask for its health is no part of its limit: else
// all of them would take it for sick when it has much to do.
func ingressRoute(in mesh.Ingress) Resource {
	action := &routev3.Route_Route{Route: &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: "app-" + in.PortName},
		Timeout:          durationpb.New(0),
		IdleTimeout:      durationpb.New(0),
	}}
	routes := []*routev3.Route{{Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}, Action: action}}
	if p := in.Policy; p != nil && p.RateLimit != nil {
		if m := traffic.HealthRequest(p.HealthCheck); m != nil {
			routes = append([]*routev3.Route{{Match: m, Action: action, TypedPerFilterConfig: traffic.Unlimiting()}}, routes...)
		}
	}
	return route("ingress-"+in.PortName, nil, routes)
}

func route(name string, filters map[string]*anypb.Any, routes []*routev3.Route) Resource {
	return Resource{RouteType, name, &routev3.RouteConfiguration{
		Name: name,
		VirtualHosts: []*routev3.VirtualHost{{
			Name: name, Domains: []string{"*"},
			Routes:               routes,
			TypedPerFilterConfig: filters,
		}},
		ValidateClusters: wrapperspb.Bool(false),
	}}
}
