package traffic

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previousv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"patchbay/mesh/policy"
	"patchbay/xds/translate/extension"
)

// hostTries is how often another host is picked until one is found that has
// not failed this request.
const hostTries = 5

// Call is a service as its route knows it.
type Call struct {
	Cluster string
	Of      func(discoveryName string) string // the cluster of another service of the namespace
	Split   []Part                            // of what goes to Cluster; empty: nothing is divided
	Test    *Test                             // nil: there is none
	Host    string                            // what requests to Cluster name as their host; empty: what the caller said
	GRPC    bool
}

// Routes are those of a virtual host: the policy's in their order, then the
// one for everything else. The policy's timeouts are complete.
func Routes(c Call, p policy.Policy) []*routev3.Route {
	var out []*routev3.Route
	for _, r := range p.Routes {
		action := c.action(p, r)
		if c.Test != nil && len(r.To) == 0 {
			out = append(out, c.Test.route(match(r.Match), action))
		}
		out = append(out, &routev3.Route{Match: match(r.Match), Action: &routev3.Route_Route{Route: action}})
	}
	all, action := &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}, c.action(p, policy.Route{})
	if c.Test != nil {
		out = append(out, c.Test.route(all, action))
	}
	return append(out, &routev3.Route{Match: all, Action: &routev3.Route_Route{Route: action}})
}

func (c Call) action(p policy.Policy, r policy.Route) *routev3.RouteAction {
	t := r.Timeout.Or(p.Timeout)
	a := &routev3.RouteAction{
		Timeout:     duration(*t.PerRequest),
		IdleTimeout: duration(*t.Idle),
		RetryPolicy: c.retries(r.Retries.Or(p.Retries)),
		HashPolicy:  hash(p.LoadBalancing.HashOn),
	}
	c.aim(a, r.To)
	if c.Host != "" && a.GetCluster() == c.Cluster {
		a.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: c.Host}
	}
	if m := r.Mirror; m != nil {
		a.RequestMirrorPolicies = []*routev3.RouteAction_RequestMirrorPolicy{{
			Cluster:         c.Of(m.Service),
			RuntimeFraction: &corev3.RuntimeFractionalPercent{DefaultValue: &typev3.FractionalPercent{Numerator: m.Percent}},
			// A copy has the host of what it is a copy of, not one with -shadow.
			DisableShadowHostSuffixAppend: true,
		}}
	}
	if w := r.Rewrite; w != nil {
		rewrite(a, r.Match, w.Prefix)
		if w.Host != "" {
			a.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: w.Host}
		}
	}
	return a
}

// rewrite puts prefix in the place of what m has matched, by whole segments: one
// slash stands between it and what follows. Envoy itself would make //x of
// /api/x with / for /api, and /v1x with /v1 for /api/ (measured).
func rewrite(a *routev3.RouteAction, m policy.Match, prefix string) {
	bare := strings.TrimSuffix(prefix, "/")
	switch {
	case prefix == "" || m.Path != "":
		a.PrefixRewrite = prefix
	case m.Prefix == "" || strings.HasSuffix(m.Prefix, "/"):
		a.PrefixRewrite = bare + "/"
	case bare != "":
		a.PrefixRewrite = bare
	default: // what is in its place is nothing, which Envoy takes for no rewrite
		a.RegexRewrite = &matcherv3.RegexMatchAndSubstitute{
			Pattern: &matcherv3.RegexMatcher{Regex: "^" + regexp.QuoteMeta(m.Prefix) + "/?"}, Substitution: "/",
		}
	}
}

// aim sends what a takes to the targets, or to the service itself.
func (c Call) aim(a *routev3.RouteAction, targets []policy.Target) {
	switch len(targets) {
	case 0:
		divide(a, c.Cluster, c.Split)
		return
	case 1:
		a.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: c.target(targets[0])}
		return
	}
	w := &routev3.WeightedCluster{}
	for _, t := range targets {
		share := &routev3.WeightedCluster_ClusterWeight{Name: c.target(t), Weight: wrapperspb.UInt32(t.Weight)}
		if c.Host != "" && share.Name == c.Cluster {
			share.HostRewriteSpecifier = &routev3.WeightedCluster_ClusterWeight_HostRewriteLiteral{HostRewriteLiteral: c.Host}
		}
		w.Clusters = append(w.Clusters, share)
	}
	a.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: w}
}

func (c Call) target(t policy.Target) string {
	if t.Service == "" {
		return c.Cluster
	}
	return c.Of(t.Service)
}

func (c Call) retries(r *policy.Retries) *routev3.RetryPolicy {
	if r.Max == nil || *r.Max == 0 {
		return nil
	}
	out := &routev3.RetryPolicy{
		NumRetries: wrapperspb.UInt32(*r.Max),
		RetryHostPredicate: []*routev3.RetryPolicy_RetryHostPredicate{{
			Name:       "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: extension.Pack(&previousv3.PreviousHostsPredicate{})},
		}},
		HostSelectionRetryMaxAttempts: hostTries,
	}
	var words []string
	for _, on := range r.On {
		if status, err := strconv.ParseUint(on, 10, 32); err == nil {
			out.RetriableStatusCodes = append(out.RetriableStatusCodes, uint32(status))
			on = "retriable-status-codes"
		} else if policy.ForGRPC(on) && !c.GRPC {
			continue
		}
		if !slices.Contains(words, on) {
			words = append(words, on)
		}
	}
	out.RetryOn = strings.Join(words, ",")
	if r.PerTry != nil {
		out.PerTryTimeout = duration(*r.PerTry)
	}
	for _, m := range r.IfMethodIs {
		out.RetriableRequestHeaders = append(out.RetriableRequestHeaders, exactly(":method", m))
	}
	return out
}

func hash(on string) []*routev3.RouteAction_HashPolicy {
	kind, name, _ := strings.Cut(on, ":")
	switch kind {
	case "source-ip":
		return []*routev3.RouteAction_HashPolicy{{PolicySpecifier: &routev3.RouteAction_HashPolicy_ConnectionProperties_{
			ConnectionProperties: &routev3.RouteAction_HashPolicy_ConnectionProperties{SourceIp: true},
		}}}
	case "header":
		return []*routev3.RouteAction_HashPolicy{{PolicySpecifier: &routev3.RouteAction_HashPolicy_Header_{
			Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: name},
		}}}
	case "cookie":
		return []*routev3.RouteAction_HashPolicy{{PolicySpecifier: &routev3.RouteAction_HashPolicy_Cookie_{
			Cookie: &routev3.RouteAction_HashPolicy_Cookie{Name: name},
		}}}
	}
	return nil
}

func match(m policy.Match) *routev3.RouteMatch {
	out := &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
	switch {
	case m.Path != "":
		out.PathSpecifier = &routev3.RouteMatch_Path{Path: m.Path}
	case m.Prefix == "" || strings.HasSuffix(m.Prefix, "/"):
		out.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "/" + strings.TrimPrefix(m.Prefix, "/")}
	default:
		out.PathSpecifier = &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: m.Prefix}
	}
	if len(m.Methods) > 0 {
		out.Headers = append(out.Headers, anyOf(":method", m.Methods))
	}
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		if m.Headers[name] == "*" {
			out.Headers = append(out.Headers, &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}})
			continue
		}
		out.Headers = append(out.Headers, exactly(name, m.Headers[name]))
	}
	return out
}

func exactly(header, value string) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: header, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{
		StringMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: value}},
	}}
}

// anyOf is a header with one of the values.
func anyOf(header string, values []string) *routev3.HeaderMatcher {
	if len(values) == 1 {
		return exactly(header, values[0])
	}
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = regexp.QuoteMeta(v)
	}
	return &routev3.HeaderMatcher{Name: header, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{
		StringMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
			SafeRegex: &matcherv3.RegexMatcher{Regex: strings.Join(quoted, "|")},
		}},
	}}
}
