package traffic

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Part is a share of a service's requests.
type Part struct {
	Cluster string
	Weight  uint32
}

// Test is where requests with a header go.
type Test struct {
	Header, Value string // an empty Value: the header is there
	Cluster       string
}

// divide aims an action at the parts; those of weight 0 are left out.
func divide(a *routev3.RouteAction, cluster string, parts []Part) {
	w := &routev3.WeightedCluster{}
	for _, p := range parts {
		if p.Weight > 0 {
			w.Clusters = append(w.Clusters, &routev3.WeightedCluster_ClusterWeight{Name: p.Cluster, Weight: wrapperspb.UInt32(p.Weight)})
		}
	}
	switch len(w.GetClusters()) {
	case 0:
	case 1:
		cluster = w.GetClusters()[0].GetName()
	default:
		a.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: w}
		return
	}
	a.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: cluster}
}

// route is another route's, for test traffic only.
func (t *Test) route(m *routev3.RouteMatch, action *routev3.RouteAction) *routev3.Route {
	only, there := proto.CloneOf(m), proto.CloneOf(action)
	h := &routev3.HeaderMatcher{Name: t.Header, HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}}
	if t.Value != "" {
		h = exactly(t.Header, t.Value)
	}
	only.Headers = append(only.Headers, h)
	there.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: t.Cluster}
	return &routev3.Route{Match: only, Action: &routev3.Route_Route{Route: there}}
}
