// Package answers is what the control plane tells operators, and what they can
// have it do: the parts, questions and actions of its admin interface
// (docs/reference/admin.md). Each answer joins what the parts say of themselves,
// in the forms of admin/api.
//
// It owns no state but the newest answer of AWS, and must not know how the parts
// were built, nor who may ask. Start reading at [Source].
package answers

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"patchbay/admin"
	"patchbay/admin/api"
	"patchbay/admin/live"
	"patchbay/agents"
	"patchbay/config"
	"patchbay/discovery"
	"patchbay/discovery/events"
	"patchbay/external"
	"patchbay/fault"
	"patchbay/inspect"
	"patchbay/internal/health"
	"patchbay/mesh"
	"patchbay/pki"
	"patchbay/registrar"
	"patchbay/replicas"
	"patchbay/tap"
	"patchbay/xds"
	"patchbay/xds/csds"
	"patchbay/xds/delta"
)

// Source is what answers are made of: the parts of a control plane. It may be
// asked concurrently, and must not be copied or changed once it is.
type Source struct {
	Version string // of the program
	Replica string // names this process among others
	Started time.Time
	Config  config.Config
	// SecretPrefix begins the names of our secrets in Secrets Manager; empty:
	// they are elsewhere.
	SecretPrefix string

	// NotReady is what is being waited for; Foreseen what is in the way of
	// services that workloads may offer; Targets what a file has outside the mesh.
	NotReady func() []health.Problem
	Foreseen func() []api.Conflict
	Targets  func(config.Config) ([]*mesh.Service, error)

	Store     *mesh.Store
	Discovery *discovery.CloudMap
	External  *external.Sink
	Registrar *registrar.Registrar
	Rotator   *pki.Rotator
	Cache     *delta.Cache
	Pusher    *xds.Pusher
	Agents    *agents.Server
	Faults    *fault.Injector
	Queue     *events.Queue      // nil: no events
	Replicas  *replicas.Replicas // nil: there is one
	Content   func() string      // a hash of what is served; nil: there is one replica
	Log       *slog.Logger

	rehearsal rehearsal
}

// Interface is what the admin interface shows and does. Who may use it, and
// whether the control plane is well, is for the caller to add.
func (s *Source) Interface(watch *live.Watch) admin.Options {
	type query = func(context.Context, url.Values) (any, error)
	return admin.Options{
		Parts: map[string]func() any{
			"traffic":      func() any { return s.Traffic() },
			"status":       func() any { return s.Status() },
			"sidecars":     func() any { return s.Cache.Status() },
			"withheld":     func() any { return s.Pusher.Withheld() },
			"agents":       func() any { return s.Agents.Status() },
			"namespaces":   func() any { return namespacesAnswer(s.Namespaces()) },
			"certificates": func() any { return certificatesAnswer(s.Rotator, time.Now()) },
		},
		Queries: map[string]query{
			"service": s.serviceQuery, "handshake": s.handshakeQuery, "task": s.taskQuery, "aws": s.awsQuery,
			"xds": s.xdsQuery, "diff": s.diffQuery, "policy": s.policyQuery,
		},
		Actions:  map[string]query{"rotate": s.rotate, "call": s.callAction, "shift": s.shiftAction},
		Handlers: s.handlers(watch),
		Acting:   map[string]http.Handler{"POST /api/v1/fault": s.Faults, "POST /api/v1/tap": &tap.Server{Agents: s.Agents, Status: s.Status, Log: s.Log}},
	}
}

// handlers are the parts that only read and are no plain questions.
func (s *Source) handlers(watch *live.Watch) map[string]http.Handler {
	all := map[string]http.Handler{
		"GET /events":           watch,
		"GET /api/v1/xds/watch": http.HandlerFunc(s.books().Watch),
		"POST /api/v1/diff":     http.HandlerFunc(s.forecast),
	}
	envoys := csds.New(s.Cache) // Envoy's client status discovery protocol
	for _, pattern := range csds.Paths {
		all[pattern] = envoys
	}
	return all
}

// books are what is shown of single sidecars.
func (s *Source) books() inspect.Books { return inspect.Books{Cache: s.Cache} }
