// Package authz turns who may call a service ([policy.Authorization]) into
// Envoy's words for it: a filter in the ingress that refuses, or in a dry run
// counts, with a log line for each such call; of tcp the names that get through
// the handshake.
//
// It owns these filters and what they leave behind for people to read. Like
// its parent it is pure; it must not know listeners. A service without an
// authorization has none of this. Start reading at [HTTP].
package authz

import (
	"fmt"
	"strings"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	httprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"patchbay/mesh"
	"patchbay/mesh/policy"
	"patchbay/xds/translate/extension"
)

// The filters' names, which are also where they leave what they decided.
const (
	httpFilter = "envoy.filters.http.rbac"
	tcpFilter  = "envoy.filters.network.rbac"
)

// Port is an ingress port whose service has an authorization.
type Port struct {
	Service     mesh.ServiceName
	TrustDomain string // of the callers' SPIFFE IDs
	Rules       *policy.Authorization
}

// HTTP answers 403 (grpc: PERMISSION_DENIED) to what no rule allows. It stands
// before every other filter.
func HTTP(p Port) *hcmv3.HttpFilter {
	m := &httprbacv3.RBAC{}
	if p.Rules.DryRun {
		m.ShadowRules = p.rbac()
	} else {
		m.Rules = p.rbac()
	}
	return &hcmv3.HttpFilter{Name: httpFilter, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: extension.Pack(m)}}
}

// TCP counts connections that no rule allows, in a dry run: who is refused in
// earnest does not get through the handshake, see [Names]. It stands before
// every other filter.
func TCP(p Port) *listenerv3.Filter {
	return &listenerv3.Filter{Name: tcpFilter, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: extension.Pack(&tcprbacv3.RBAC{
		StatPrefix: "tcp.ingress.", ShadowRules: p.rbac(),
	})}}
}

// Names match the SPIFFE IDs that some rule allows: of tcp, who may connect.
func Names(p Port) []*matcherv3.StringMatcher {
	var out []*matcherv3.StringMatcher
	for _, r := range p.Rules.Rules {
		for _, x := range p.principals(r.From) {
			if m := x.GetAuthenticated().GetPrincipalName(); m != nil {
				out = append(out, m)
			}
		}
	}
	if out == nil { // nobody: no workload has this name
		return []*matcherv3.StringMatcher{exactly(mesh.WorkloadsOf(p.TrustDomain, ""))}
	}
	return out
}

// Normalize lets rules and application read one path: see
// [policy.Authorization.MakesPlain].
func Normalize(m *hcmv3.HttpConnectionManager, a *policy.Authorization) {
	if a.MakesPlain() {
		m.NormalizePath = wrapperspb.Bool(true)
		m.MergeSlashes = true
		m.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_REJECT_REQUEST
	}
}

// rbac allows what a rule allows. A policy's name is the rule's place.
func (p Port) rbac() *rbacv3.RBAC {
	out := &rbacv3.RBAC{Action: rbacv3.RBAC_ALLOW, Policies: map[string]*rbacv3.Policy{}}
	for i, r := range p.Rules.Rules {
		out.Policies[fmt.Sprintf("rules[%d]", i)] = &rbacv3.Policy{
			Permissions: []*rbacv3.Permission{permission(r)}, Principals: p.principals(r.From),
		}
	}
	return out
}

func (p Port) principals(from []string) []*rbacv3.Principal {
	var out []*rbacv3.Principal
	for _, f := range from {
		if f == policy.Anybody {
			return []*rbacv3.Principal{{Identifier: &rbacv3.Principal_Any{Any: true}}}
		}
		namespace, name, ok := policy.Workload(f, p.Service.Namespace)
		if !ok {
			continue // the rules of a policy have refused it
		}
		id := exactly(mesh.Workload{Namespace: namespace, Name: name}.SPIFFEID(p.TrustDomain))
		switch {
		case namespace == "*":
			id = beginning(mesh.WorkloadsOf(p.TrustDomain, ""))
		case name == "*":
			id = beginning(mesh.WorkloadsOf(p.TrustDomain, namespace))
		}
		out = append(out, &rbacv3.Principal{Identifier: &rbacv3.Principal_Authenticated_{
			Authenticated: &rbacv3.Principal_Authenticated{PrincipalName: id},
		}})
	}
	return out
}

// permission is what a rule restricts, all of it.
func permission(r policy.Rule) *rbacv3.Permission {
	var all []*rbacv3.Permission
	if len(r.Methods) > 0 {
		var methods []*rbacv3.Permission
		for _, m := range r.Methods {
			methods = append(methods, &rbacv3.Permission{Rule: &rbacv3.Permission_Header{Header: &routev3.HeaderMatcher{
				Name: ":method", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: exactly(m)},
			}}})
		}
		all = append(all, either(methods))
	}
	var paths, below []*rbacv3.Permission
	for _, p := range r.Paths {
		paths = append(paths, path(exactly(p)))
	}
	for _, p := range r.Prefixes {
		if !strings.HasSuffix(p, "/") {
			paths = append(paths, path(exactly(p)))
			p += "/"
		}
		below = append(below, path(beginning(p)))
	}
	if below != nil {
		climbs := path(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Contains{Contains: policy.Climb}})
		paths = append(paths, both([]*rbacv3.Permission{either(below), {Rule: &rbacv3.Permission_NotRule{NotRule: climbs}}}))
	}
	if paths != nil {
		all = append(all, either(paths))
	}
	if all == nil {
		return &rbacv3.Permission{Rule: &rbacv3.Permission_Any{Any: true}}
	}
	return both(all)
}

func both(all []*rbacv3.Permission) *rbacv3.Permission {
	if len(all) == 1 {
		return all[0]
	}
	return &rbacv3.Permission{Rule: &rbacv3.Permission_AndRules{AndRules: &rbacv3.Permission_Set{Rules: all}}}
}

func either(all []*rbacv3.Permission) *rbacv3.Permission {
	if len(all) == 1 {
		return all[0]
	}
	return &rbacv3.Permission{Rule: &rbacv3.Permission_OrRules{OrRules: &rbacv3.Permission_Set{Rules: all}}}
}

func path(m *matcherv3.StringMatcher) *rbacv3.Permission {
	return &rbacv3.Permission{Rule: &rbacv3.Permission_UrlPath{UrlPath: &matcherv3.PathMatcher{Rule: &matcherv3.PathMatcher_Path{Path: m}}}}
}

func exactly(s string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: s}}
}

func beginning(s string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: s}}
}
