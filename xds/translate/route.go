package translate

import (
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previousv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"patchbay/mesh"
)

// egressRoute sends every request of an alias to its service. It is apart
// from the listener, so that a change of route touches no connection.
func egressRoute(s *mesh.Service, name string) Resource {
	on := retryOn
	if s.Protocol == mesh.GRPC {
		on = retryOnGRPC
	}
	return route(name, &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: s.Name.String()},
		Timeout:          durationpb.New(or(s.Timeouts.PerRequest, perRequest)),
		IdleTimeout:      durationpb.New(or(s.Timeouts.Idle, idleL7)),
		RetryPolicy: &routev3.RetryPolicy{
			RetryOn:              on,
			NumRetries:           wrapperspb.UInt32(retries),
			RetriableStatusCodes: []uint32{retriableStatus},
			RetryHostPredicate: []*routev3.RetryPolicy_RetryHostPredicate{{
				Name:       "envoy.retry_host_predicates.previous_hosts",
				ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: pack(&previousv3.PreviousHostsPredicate{})},
			}},
			HostSelectionRetryMaxAttempts: hostTries,
		},
	})
}

// ingressRoute sends every request to the application. The caller's sidecar
// keeps the time: limits here could only be stricter than what it was told.
func ingressRoute(in mesh.Ingress) Resource {
	return route("ingress-"+in.PortName, &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: "app-" + in.PortName},
		Timeout:          durationpb.New(0),
		IdleTimeout:      durationpb.New(0),
	})
}

func route(name string, to *routev3.RouteAction) Resource {
	return Resource{RouteType, name, &routev3.RouteConfiguration{
		Name: name,
		VirtualHosts: []*routev3.VirtualHost{{
			Name: name, Domains: []string{"*"},
			Routes: []*routev3.Route{{
				Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
				Action: &routev3.Route_Route{Route: to},
			}},
		}},
		ValidateClusters: wrapperspb.Bool(false),
	}}
}

// or is *d, or the default.
func or(d *time.Duration, otherwise time.Duration) time.Duration {
	if d != nil {
		return *d
	}
	return otherwise
}
