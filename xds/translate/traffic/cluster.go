// Package traffic turns what is wanted of calls ([policy.Policy]) into Envoy's
// words for it.
//
// It owns the parts of clusters and routes that a policy decides. Like its
// parent it is pure; it must not know services, views or names of resources.
// The policies that it is given are effective ones: see [policy.Effective].
// Start reading at [Routes].
package traffic

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	weightedv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/client_side_weighted_round_robin/v3"
	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/common/v3"
	leastv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	randomv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/random/v3"
	ringv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/ring_hash/v3"
	roundv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"patchbay/mesh/policy"
	"patchbay/xds/translate/extension"
)

// Cluster puts what p wants into c. speak says how the endpoints are asked for
// their health; zones is in how many zones they are.
func Cluster(c *clusterv3.Cluster, p policy.Policy, speak Speak, zones int) {
	c.LoadBalancingPolicy = balancing(p.LoadBalancing, zones)
	c.CircuitBreakers = breakers(p.ConnectionLimits, p.Retries)
	c.OutlierDetection = outliers(p.OutlierDetection)
	if n := p.LoadBalancing.PanicThreshold; n != nil && *n != envoysPanic {
		c.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{Value: float64(*n)}}
	}
	if p.HealthCheck != nil {
		c.HealthChecks = []*corev3.HealthCheck{healthCheck(p.HealthCheck, speak)}
	}
}

// envoysPanic is Envoy's default threshold, in percent.
const envoysPanic = 50

// balancing is one entry, so that Envoy never falls back to another.
func balancing(b *policy.LoadBalancing, zones int) *clusterv3.LoadBalancingPolicy {
	local := locality(b, zones)
	name, m := "round_robin", proto.Message(&roundv3.RoundRobin{SlowStartConfig: slowStart(b.SlowStart), LocalityLbConfig: local})
	switch b.Algorithm {
	case "least_request":
		name, m = b.Algorithm, &leastv3.LeastRequest{SlowStartConfig: slowStart(b.SlowStart), LocalityLbConfig: local}
	case "random":
		name, m = b.Algorithm, &randomv3.Random{LocalityLbConfig: local}
	case "ring_hash":
		name, m = b.Algorithm, &ringv3.RingHash{}
	case "client_side_weighted_round_robin":
		name, m = b.Algorithm, &weightedv3.ClientSideWeightedRoundRobin{}
	}
	return &clusterv3.LoadBalancingPolicy{Policies: []*clusterv3.LoadBalancingPolicy_Policy{{
		TypedExtensionConfig: &corev3.TypedExtensionConfig{Name: "envoy.load_balancing_policies." + name, TypedConfig: extension.Pack(m)},
	}}}
}

// locality prefers the caller's own zone, with twice as many healthy endpoints
// as zones or more: that is ECS's rule. Without a word Envoy would do it with
// six. With one zone there is nothing to prefer, and nothing is said.
func locality(b *policy.LoadBalancing, zones int) *commonv3.LocalityLbConfig {
	aware := &commonv3.LocalityLbConfig_ZoneAwareLbConfig{}
	switch {
	case b.ZoneAware != nil && !*b.ZoneAware:
		aware.RoutingEnabled = &typev3.Percent{Value: 0}
	case zones < 2:
		return nil
	default:
		aware.MinClusterSize = wrapperspb.UInt64(2 * uint64(zones))
	}
	return &commonv3.LocalityLbConfig{LocalityConfigSpecifier: &commonv3.LocalityLbConfig_ZoneAwareLbConfig_{ZoneAwareLbConfig: aware}}
}

func slowStart(d *policy.Duration) *commonv3.SlowStartConfig {
	if d == nil {
		return nil
	}
	return &commonv3.SlowStartConfig{SlowStartWindow: duration(*d)}
}

// outliers ejects a host after failures in a row: of connections, or answers
// of a gateway (the peer's Envoy, when its application is gone). An
// application's other errors are answers unless the policy counts them, and
// nothing is judged by comparison with other hosts.
func outliers(o *policy.OutlierDetection) *clusterv3.OutlierDetection {
	never, always := wrapperspb.UInt32(0), wrapperspb.UInt32(100)
	failures, enforced := o.Failures, always
	if *failures == 0 {
		failures, enforced = new(uint32(5)), never // 0 is not allowed to count to
	}
	out := &clusterv3.OutlierDetection{
		Interval:                               duration(*o.Interval),
		BaseEjectionTime:                       duration(*o.BaseEjection),
		MaxEjectionTime:                        duration(max(*o.MaxEjection, *o.BaseEjection)),
		MaxEjectionPercent:                     wrapperspb.UInt32(*o.MaxPercent),
		SplitExternalLocalOriginErrors:         true,
		ConsecutiveLocalOriginFailure:          wrapperspb.UInt32(*failures),
		EnforcingConsecutiveLocalOriginFailure: enforced,
		ConsecutiveGatewayFailure:              wrapperspb.UInt32(*failures),
		EnforcingConsecutiveGatewayFailure:     enforced,
		EnforcingConsecutive_5Xx:               never,
		EnforcingSuccessRate:                   never,
		EnforcingLocalOriginSuccessRate:        never,
	}
	if n := o.ServerErrors; n != nil && *n > 0 {
		out.Consecutive_5Xx, out.EnforcingConsecutive_5Xx = wrapperspb.UInt32(*n), always
	}
	return out
}

func breakers(l *policy.ConnectionLimits, r *policy.Retries) *clusterv3.CircuitBreakers {
	t := &clusterv3.CircuitBreakers_Thresholds{
		MaxConnections: wrapperspb.UInt32(*l.MaxConnections), MaxPendingRequests: wrapperspb.UInt32(*l.MaxPendingRequests),
		MaxRequests: wrapperspb.UInt32(*l.MaxRequests), MaxRetries: wrapperspb.UInt32(*l.MaxRetries),
	}
	if r.BudgetPercent != nil {
		t.RetryBudget = &clusterv3.CircuitBreakers_Thresholds_RetryBudget{BudgetPercent: &typev3.Percent{Value: float64(*r.BudgetPercent)}}
	}
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{t}}
}

// Unlimited are circuit breakers that never open: of the way to the
// application beside Envoy, which no policy is about.
func Unlimited() *clusterv3.CircuitBreakers {
	p := policy.Effective(nil, nil)
	return breakers(p.ConnectionLimits, p.Retries)
}

// Speak is how endpoints are spoken to.
type Speak struct {
	H2   bool   // HTTP/2; else HTTP/1.1
	Host string // to send
}

// Defaults of a health check, those of App Mesh's examples: an endpoint that is
// dead is out of rotation within half a minute.
const (
	checkInterval = 10 * time.Second
	checkTimeout  = 2 * time.Second
	whenHealthy   = 2
	whenUnhealthy = 3
)

func healthCheck(h *policy.HealthCheck, speak Speak) *corev3.HealthCheck {
	out := &corev3.HealthCheck{
		Interval: duration(or(h.Interval, policy.Duration(checkInterval))), Timeout: duration(or(h.Timeout, policy.Duration(checkTimeout))),
		HealthyThreshold:   wrapperspb.UInt32(or(h.HealthyThreshold, whenHealthy)),
		UnhealthyThreshold: wrapperspb.UInt32(or(h.UnhealthyThreshold, whenUnhealthy)),
		// Many sidecars check one endpoint; they must not do so at one moment.
		IntervalJitterPercent: 20,
		// A new endpoint is asked at once, and again soon where nobody calls it.
		NoTrafficInterval: duration(or(h.Interval, policy.Duration(checkInterval))),
	}
	switch h.Kind() {
	case policy.CheckHTTP:
		check := &corev3.HealthCheck_HttpHealthCheck{Host: speak.Host, Path: h.Path}
		if speak.H2 {
			check.CodecClientType = typev3.CodecClientType_HTTP2
		}
		out.HealthChecker = &corev3.HealthCheck_HttpHealthCheck_{HttpHealthCheck: check}
	case policy.CheckGRPC:
		out.HealthChecker = &corev3.HealthCheck_GrpcHealthCheck_{GrpcHealthCheck: &corev3.HealthCheck_GrpcHealthCheck{Authority: speak.Host}}
	default:
		out.HealthChecker = &corev3.HealthCheck_TcpHealthCheck_{TcpHealthCheck: &corev3.HealthCheck_TcpHealthCheck{}}
	}
	return out
}

// HealthRequest matches what h has callers ask; nil where that is no request.
func HealthRequest(h *policy.HealthCheck) *routev3.RouteMatch {
	if h == nil || h.Kind() == policy.CheckTCP {
		return nil
	}
	method, path := h.Asks()
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: path}, Headers: []*routev3.HeaderMatcher{exactly(":method", method)}}
}

func or[T any](v *T, otherwise T) T {
	if v != nil {
		return *v
	}
	return otherwise
}

func duration(d policy.Duration) *durationpb.Duration { return durationpb.New(time.Duration(d)) }
