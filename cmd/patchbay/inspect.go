package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"patchbay/admin"
	"patchbay/admin/api"
	"patchbay/agentapi"
	"patchbay/agents"
	"patchbay/config"
	"patchbay/inspect"
	"patchbay/mesh"
)

// books are what the admin interface shows of single sidecars.
func (c *control) books() inspect.Books { return inspect.Books{Cache: c.cache} }

// inspections are what GET /api/v1/NAME?… answers about one sidecar.
func (c *control) inspections(all map[string]func(context.Context, url.Values) (any, error)) map[string]func(context.Context, url.Values) (any, error) {
	all["xds"], all["diff"], all["policy"] = c.xdsQuery, c.diffQuery, c.policyQuery
	return all
}

// watches are the streams of the admin interface that only read.
func (c *control) watches(all map[string]http.Handler) map[string]http.Handler {
	all["GET /api/v1/xds/watch"] = http.HandlerFunc(c.books().Watch)
	all["POST /api/v1/diff"] = http.HandlerFunc(c.forecast)
	return all
}

func (c *control) xdsQuery(_ context.Context, v url.Values) (any, error) {
	if t := v.Get("type"); t != "" && !slices.Contains(inspect.Kinds, t) {
		return nil, admin.Invalid{Err: fmt.Errorf("type %q; allowed: %s", t, strings.Join(inspect.Kinds, ", "))}
	}
	out, err := c.books().Sent(v.Get("node"), v.Get("type"), v.Get("name"))
	return out, invalid(err)
}

// policyQuery is what holds for calls of ?node to ?service.
func (c *control) policyQuery(_ context.Context, v url.Values) (any, error) {
	name, namespace, _ := strings.Cut(v.Get("service"), ".")
	words, ok := c.pusher.Words(v.Get("node"), mesh.ServiceName{Namespace: namespace, DiscoveryName: name})
	if !ok {
		return nil, admin.Invalid{Err: fmt.Errorf("node %q has no stream to this control plane, or is not told of service %q; ask with ?node=NAMESPACE/WORKLOAD/TASK&service=DISCOVERYNAME.NAMESPACE", v.Get("node"), v.Get("service"))}
	}
	return api.Policy{Node: v.Get("node"), Service: v.Get("service"), Words: words}, nil
}

// diffQuery compares the Envoy of ?node with what it should have.
func (c *control) diffQuery(ctx context.Context, v url.Values) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var seen agentapi.Seen
	ask := &agentapi.Ask{Question: &agentapi.Ask_Look{Look: &agentapi.Look{Pages: []string{"config_dump"}}}}
	switch err := c.agents.Ask(ctx, v.Get("node"), ask, &seen); {
	case errors.Is(err, agents.ErrNoAgent):
		return nil, admin.Invalid{Err: fmt.Errorf("node %q: %w; `patchbay status` lists those that are", v.Get("node"), err)}
	case err != nil:
		return nil, err
	}
	if text := seen.Errors["config_dump"]; text != "" {
		return nil, errors.New(text)
	}
	out, err := c.books().Differs(v.Get("node"), seen.At, seen.Pages["config_dump"])
	return out, invalid(err)
}

// noFaults says why a mesh may not be broken on purpose; empty: it is a local
// one.
func noFaults(cfg config.Config) string {
	switch {
	case cfg.Registry == nil:
		return "faults are made on local meshes only: the registry of this one is " + cmp.Or(cfg.CloudMap.Endpoint, "AWS Cloud Map") + ", so its services may be others' too"
	case cfg.Registry.Etcd != nil:
		return "faults are made on local meshes only: the registry of this one is shared through etcd, so its services are others' too"
	}
	return ""
}

// invalid marks an error as the caller's, where it is.
func invalid(err error) error {
	if _, is := errors.AsType[inspect.NotHere](err); is {
		return admin.Invalid{Err: err}
	}
	return err
}
