// Package agents is the control plane's end of the agent stream
// (patchbay.agent.v1.Agent): one stream for each task of the mesh.
//
// It owns the life of these streams: what an agent may say, when its ports are
// registered, that it always knows the names of its namespace, and the order
// of a drain. It must not know how the registry is written ([Registrar]), how
// sidecars acknowledge ([Barrier]) or how a peer proves who it is
// ([Options.Peer]). Start reading at [Server.Connect], then [port].
//
// A stream that breaks changes nothing: what it registered stays until its
// lease ends, and the agent's next stream goes on from there.
package agents

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"patchbay/agentapi"
	"patchbay/agents/traffic"
	"patchbay/mesh"
)

// Port is what a task offers under one portName.
type Port struct {
	mesh.Ingress
	Aliases []mesh.Alias // without VIPs; sorted, never empty
	// Revision is the deployment that the task is of; may be empty.
	Revision string
}

// Instance says under which names a port stands in the registry.
type Instance struct {
	ServiceARN string
	InstanceID string
}

// Registrar writes the registry on behalf of authenticated nodes. It is called
// concurrently, but never twice at once for one port of one node. Its calls
// are idempotent; the caller retries what is neither [Refused] nor
// ErrNotRegistered.
type Registrar interface {
	// Declare makes sure that the port's service exists with its settings, so
	// that certificates and names are ready before the first instance.
	Declare(ctx context.Context, n mesh.Node, p Port) error
	// Register makes the port an instance of its service at addr. Registering
	// again what is registered already disturbs nobody.
	Register(ctx context.Context, n mesh.Node, p Port, addr netip.AddrPort, zone string) (Instance, error)
	// Deregister removes the instance and announces that it leaves. An
	// instance that is not there is a success.
	Deregister(ctx context.Context, n mesh.Node, p Port) error
	// SetHealth records the instance's health.
	SetHealth(ctx context.Context, n mesh.Node, p Port, h mesh.Health) error
	// Heartbeat renews the lease; it does not change the health.
	Heartbeat(ctx context.Context, n mesh.Node, p Port) error
}

// ErrNotRegistered is what SetHealth and Heartbeat return for an instance that
// the registry does not have: it is registered again.
var ErrNotRegistered = errors.New("the instance is not registered")

// Refused is a registration that will not succeed by trying again soon: not
// allowed, or in conflict. Its text says why and what to do.
type Refused struct{ Reason string }

func (r *Refused) Error() string { return r.Reason }

// Barrier knows what subscribers have acknowledged.
type Barrier interface {
	// Removed waits until every connected subscriber of the service has
	// acknowledged endpoints without addr, or ctx ends: then it returns the
	// ids of the nodes that have not.
	Removed(ctx context.Context, service mesh.ServiceName, addr netip.AddrPort) (missing []string, err error)
}

// Options are what a Server works with. All but Lease and CallersIssuer are required.
type Options struct {
	Store     *mesh.Store
	Registrar Registrar
	Barrier   Barrier
	// Peer is the authenticated node behind a stream's context.
	Peer func(context.Context) (mesh.Node, error)
	// Lease is how long the registry keeps an instance without a heartbeat;
	// zero: for ever.
	Lease time.Duration
	// CallersIssuer is the issuer of the certificates that workloads call with;
	// empty: no service can ask for them.
	CallersIssuer string
	// Name and version of this replica, for agents' logs.
	Name string
	Log  *slog.Logger
}

// Server implements agentapi.AgentServer. It is safe for concurrent use.
type Server struct {
	agentapi.UnimplementedAgentServer
	o     Options
	names nameLists

	mu       sync.Mutex
	sessions map[string]*session        // by node id: the newest stream
	memory   map[string]map[string]kept // by node id and portName: of ended streams
	asked    uint64                     // the id of the last question
	rivals   map[string][]replacement   // by node id
	traffic  *traffic.Ledger
}

// New makes a server without streams.
func New(o Options) *Server {
	return &Server{o: o, sessions: map[string]*session{}, traffic: traffic.New(o.Store), memory: map[string]map[string]kept{}, rivals: map[string][]replacement{}}
}

// Traffic is what the sidecars have counted.
func (s *Server) Traffic() *traffic.Ledger { return s.traffic }

// NodeStatus is one connected agent, for people.
type NodeStatus struct {
	Node         string       `json:"node"`
	Address      string       `json:"address"`
	Zone         string       `json:"zone,omitempty"`
	Since        time.Time    `json:"since"`
	LastHealth   time.Time    `json:"lastHealth,omitzero"`
	AgentVersion string       `json:"agentVersion"`
	EnvoyVersion string       `json:"envoyVersion"`
	Wiring       string       `json:"wiring"`
	EnvoyReady   bool         `json:"envoyReady"`
	EnvoyError   string       `json:"envoyError,omitempty"`
	Draining     bool         `json:"draining,omitempty"`
	NamesSent    string       `json:"namesSent,omitempty"`    // version
	NamesApplied string       `json:"namesApplied,omitempty"` // version
	NamesWaiting []string     `json:"namesWaiting,omitempty"`
	NamesRefused []string     `json:"namesRefused,omitempty"`
	Dependencies []string     `json:"dependencies,omitempty"` // discoveryNames; empty: all
	Rivalry      *Rivalry     `json:"rivalry,omitempty"`      // absent: no stream was replaced of late
	Ports        []PortStatus `json:"ports"`
}

// PortStatus is one port of a connected agent.
type PortStatus struct {
	PortName   string `json:"portName"`
	Service    string `json:"service"`
	InstanceID string `json:"instanceId,omitempty"`
	Health     string `json:"health"`
	Why        string `json:"why,omitempty"` // it is not healthy
	Registered bool   `json:"registered"`
	Error      string `json:"error,omitempty"`
}

// Status lists the connected agents, sorted by node id.
func (s *Server) Status() []NodeStatus {
	s.mu.Lock()
	all := make([]*session, 0, len(s.sessions))
	for _, v := range s.sessions {
		all = append(all, v)
	}
	s.mu.Unlock()
	rivalry := s.rivalry()
	out := make([]NodeStatus, 0, len(all))
	for _, v := range all {
		one := v.status()
		one.Rivalry = rivalry[one.Node]
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b NodeStatus) int { return strings.Compare(a.Node, b.Node) })
	return out
}
