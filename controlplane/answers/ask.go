package answers

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"patchbay/admin"
	"patchbay/agentapi"
	"patchbay/diagnose/dump"
	"patchbay/diagnose/verify"
	"patchbay/mesh"
)

// askTime bounds a question to an agent.
const askTime = 15 * time.Second

// handshakeQuery has the agent of ?node look at the port ?address, which must
// be an endpoint of ?service.
func (s *Source) handshakeQuery(ctx context.Context, v url.Values) (any, error) {
	var found *mesh.Service
	for _, one := range s.Store.Snapshot().Services {
		if one.Name.String() == v.Get("service") {
			found = one
		}
	}
	if found == nil || !slices.ContainsFunc(found.Endpoints, func(e mesh.Endpoint) bool { return e.Addr.String() == v.Get("address") }) {
		return nil, admin.Invalid{Err: fmt.Errorf("address %q is no endpoint of service %q", v.Get("address"), v.Get("service"))}
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var o verify.Observation
	s.Agents.Expect(v.Get("address"))
	h2 := found.Protocol == mesh.HTTP2 || found.Protocol == mesh.GRPC
	err := s.Agents.Ask(ctx, v.Get("node"), &agentapi.Ask{Question: &agentapi.Ask_Handshake{Handshake: &agentapi.Handshake{
		Address: v.Get("address"), ServerName: found.Name.String(), H2: h2,
	}}}, &o)
	return o, err
}

// callAction has the agent of ?node make one call of ?url, as an application
// of its task would. Only names and ports of the mesh are called.
func (s *Source) callAction(ctx context.Context, v url.Values) (any, error) {
	u, err := url.Parse(v.Get("url"))
	if err != nil || u.Scheme != "http" && u.Scheme != "tcp" || u.Host == "" {
		return nil, admin.Invalid{Err: fmt.Errorf("url %q; allowed: http://NAME:PORT/PATH and tcp://NAME:PORT", v.Get("url"))}
	}
	if !s.hasAlias(u) {
		return nil, admin.Invalid{Err: errors.New("no service of the mesh is called " + u.Host)}
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var out agentapi.Outcome
	err = s.Agents.Ask(ctx, v.Get("node"), &agentapi.Ask{Question: &agentapi.Ask_Call{Call: &agentapi.Call{
		Url: u.String(), Timeout: durationpb.New(askTime / 2),
	}}}, &out)
	return out, err
}

func (s *Source) hasAlias(u *url.URL) bool {
	port := u.Port()
	if port == "" {
		port = "80"
	}
	for _, one := range s.Store.Snapshot().Services {
		if slices.ContainsFunc(one.Aliases, func(a mesh.Alias) bool { return a.DNSName == u.Hostname() && fmt.Sprint(a.Port) == port }) {
			return true
		}
	}
	return false
}

// counters are the statistics that show a call on its way.
const counters = `^(cluster\..*\.(upstream_(rq|cx)_(total|[1-5]xx|timeout|connect_fail|retry|retry_overflow|pending_overflow|overflow)|ssl\.(handshake|connection_error|fail_.*|versions\..*)|outlier_detection\.ejections_active)|` +
	`http\.(ingress|egress)\.(downstream_rq_(total|[1-5]xx)|fault\.(aborts|delays)_injected)|(http\.ingress\.http_local_rate_limit|local_rate_limit\.ingress)\.rate_limited|` +
	`tcp\.(ingress|egress)\.downstream_cx_total|listener\..*\.ssl\.(handshake|connection_error|fail_.*|versions\..*))$`

// taskQuery is what the sidecar of ?node has; with ?stats=only, its counters
// alone.
func (s *Source) taskQuery(ctx context.Context, v url.Values) (any, error) {
	if v.Get("node") == "" {
		return nil, admin.Invalid{Err: errors.New("which one? ask with ?node=NAMESPACE/WORKLOAD/TASK")}
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	look := &agentapi.Look{Pages: []string{"server_info", "memory", "config_dump", "clusters", "listeners", "stats"}, Stats: counters, Task: true}
	if v.Get("stats") == "only" {
		look = &agentapi.Look{Pages: []string{"stats"}, Stats: counters}
	}
	var seen agentapi.Seen
	err := s.Agents.Ask(ctx, v.Get("node"), &agentapi.Ask{Question: &agentapi.Ask_Look{Look: look}}, &seen)
	if err != nil {
		return nil, err
	}
	return dump.Task(v.Get("node"), &seen), nil
}
