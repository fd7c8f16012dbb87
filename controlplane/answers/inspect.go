package answers

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"patchbay/admin"
	"patchbay/admin/api"
	"patchbay/agentapi"
	"patchbay/agents"
	"patchbay/inspect"
	"patchbay/mesh"
)

func (s *Source) xdsQuery(_ context.Context, v url.Values) (any, error) {
	if t := v.Get("type"); t != "" && !slices.Contains(inspect.Kinds, t) {
		return nil, admin.Invalid{Err: fmt.Errorf("type %q; allowed: %s", t, strings.Join(inspect.Kinds, ", "))}
	}
	out, err := s.books().Sent(v.Get("node"), v.Get("type"), v.Get("name"))
	return out, invalid(err)
}

// policyQuery is what holds for calls of ?node to ?service.
func (s *Source) policyQuery(_ context.Context, v url.Values) (any, error) {
	name, namespace, _ := strings.Cut(v.Get("service"), ".")
	words, ok := s.Pusher.Words(v.Get("node"), mesh.ServiceName{Namespace: namespace, DiscoveryName: name})
	if !ok {
		return nil, admin.Invalid{Err: fmt.Errorf("node %q has no stream to this control plane, or is not told of service %q; ask with ?node=NAMESPACE/WORKLOAD/TASK&service=DISCOVERYNAME.NAMESPACE", v.Get("node"), v.Get("service"))}
	}
	return api.Policy{Node: v.Get("node"), Service: v.Get("service"), Words: words}, nil
}

// diffQuery compares the Envoy of ?node with what it should have.
func (s *Source) diffQuery(ctx context.Context, v url.Values) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var seen agentapi.Seen
	pages := []string{"config_dump", "clusters"}
	ask := &agentapi.Ask{Question: &agentapi.Ask_Look{Look: &agentapi.Look{Pages: pages}}}
	switch err := s.Agents.Ask(ctx, v.Get("node"), ask, &seen); {
	case errors.Is(err, agents.ErrNoAgent):
		return nil, admin.Invalid{Err: fmt.Errorf("node %q: %w; `patchbay status` lists those that are", v.Get("node"), err)}
	case err != nil:
		return nil, err
	}
	for _, page := range pages {
		if text := seen.Errors[page]; text != "" {
			return nil, errors.New(text)
		}
	}
	out, err := s.books().Differs(v.Get("node"), seen.At, seen.Pages["config_dump"], seen.Pages["clusters"])
	return out, invalid(err)
}

// invalid marks an error as the caller's, where it is.
func invalid(err error) error {
	if _, is := errors.AsType[inspect.NotHere](err); is {
		return admin.Invalid{Err: err}
	}
	return err
}
