package traffic

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	limitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcplimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/local_ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"patchbay/mesh/policy"
	"patchbay/xds/translate/extension"
)

// Prefixes of the limits' statistics, which the bootstrap keeps:
// http.ingress.http_local_rate_limit.rate_limited, and
// local_rate_limit.ingress.rate_limited, of all ports of a task together.
const (
	statHTTPLimit = "http.ingress"
	statTCPLimit  = "ingress"
)

const limitFilter = "envoy.filters.http.local_ratelimit"

// Unlimiting is what a route says to [HTTPLimit] that does not count there.
func Unlimiting() map[string]*anypb.Any {
	return map[string]*anypb.Any{limitFilter: extension.Pack(&routev3.FilterConfig{Disabled: true})}
}

// HTTPLimit answers 429 above the limit; it stands before the router.
func HTTPLimit(r *policy.RateLimit) *hcmv3.HttpFilter {
	all := &corev3.RuntimeFractionalPercent{DefaultValue: &typev3.FractionalPercent{Numerator: 100}}
	return &hcmv3.HttpFilter{Name: limitFilter, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: extension.Pack(&limitv3.LocalRateLimit{
		StatPrefix: statHTTPLimit, TokenBucket: bucket(r), FilterEnabled: all, FilterEnforced: all,
	})}}
}

// TCPLimit closes connections above the limit; it stands before the proxy.
func TCPLimit(r *policy.RateLimit) *listenerv3.Filter {
	return &listenerv3.Filter{Name: "envoy.filters.network.local_ratelimit", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: extension.Pack(&tcplimitv3.LocalRateLimit{
		StatPrefix: statTCPLimit, TokenBucket: bucket(r),
	})}}
}

func bucket(r *policy.RateLimit) *typev3.TokenBucket {
	return &typev3.TokenBucket{
		MaxTokens: max(r.Burst, r.Requests), TokensPerFill: wrapperspb.UInt32(r.Requests), FillInterval: duration(r.Per),
	}
}
