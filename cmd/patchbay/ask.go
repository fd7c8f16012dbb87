package main

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

// actions are what POST /api/v1/NAME does.
func (c *control) actions() map[string]func(context.Context, url.Values) (any, error) {
	return map[string]func(context.Context, url.Values) (any, error){"rotate": c.rotate, "call": c.callAction, "shift": c.shiftAction}
}

// queries are what GET /api/v1/NAME?… answers.
func (c *control) queries() map[string]func(context.Context, url.Values) (any, error) {
	return map[string]func(context.Context, url.Values) (any, error){"service": c.serviceQuery, "handshake": c.handshakeQuery, "task": c.taskQuery, "aws": c.awsQuery}
}

// handshakeQuery has the agent of ?node look at the port ?address, which must
// be an endpoint of ?service.
func (c *control) handshakeQuery(ctx context.Context, v url.Values) (any, error) {
	var found *mesh.Service
	for _, s := range c.store.Snapshot().Services {
		if s.Name.String() == v.Get("service") {
			found = s
		}
	}
	if found == nil || !slices.ContainsFunc(found.Endpoints, func(e mesh.Endpoint) bool { return e.Addr.String() == v.Get("address") }) {
		return nil, admin.Invalid{Err: fmt.Errorf("address %q is no endpoint of service %q", v.Get("address"), v.Get("service"))}
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var o verify.Observation
	c.agents.Expect(v.Get("address"))
	h2 := found.Protocol == mesh.HTTP2 || found.Protocol == mesh.GRPC
	err := c.agents.Ask(ctx, v.Get("node"), &agentapi.Ask{Question: &agentapi.Ask_Handshake{Handshake: &agentapi.Handshake{
		Address: v.Get("address"), ServerName: found.Name.String(), H2: h2,
	}}}, &o)
	return o, err
}

// callAction has the agent of ?node make one call of ?url, as an application
// of its task would. Only names and ports of the mesh are called.
func (c *control) callAction(ctx context.Context, v url.Values) (any, error) {
	u, err := url.Parse(v.Get("url"))
	if err != nil || u.Scheme != "http" && u.Scheme != "tcp" || u.Host == "" {
		return nil, admin.Invalid{Err: fmt.Errorf("url %q; allowed: http://NAME:PORT/PATH and tcp://NAME:PORT", v.Get("url"))}
	}
	if !c.hasAlias(u) {
		return nil, admin.Invalid{Err: errors.New("no service of the mesh is called " + u.Host)}
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var out agentapi.Outcome
	err = c.agents.Ask(ctx, v.Get("node"), &agentapi.Ask{Question: &agentapi.Ask_Call{Call: &agentapi.Call{
		Url: u.String(), Timeout: durationpb.New(askTime / 2),
	}}}, &out)
	return out, err
}

func (c *control) hasAlias(u *url.URL) bool {
	port := u.Port()
	if port == "" {
		port = "80"
	}
	for _, s := range c.store.Snapshot().Services {
		if slices.ContainsFunc(s.Aliases, func(a mesh.Alias) bool { return a.DNSName == u.Hostname() && fmt.Sprint(a.Port) == port }) {
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
func (c *control) taskQuery(ctx context.Context, v url.Values) (any, error) {
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
	err := c.agents.Ask(ctx, v.Get("node"), &agentapi.Ask{Question: &agentapi.Ask_Look{Look: look}}, &seen)
	if err != nil {
		return nil, err
	}
	return dump.Task(v.Get("node"), &seen), nil
}
