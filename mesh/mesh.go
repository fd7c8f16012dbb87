// Package mesh is the vocabulary that every other package speaks: namespaces,
// services, their client aliases and endpoints, workloads and nodes, leaf
// certificates and trust bundles, and the [Store] that holds the newest
// immutable [Snapshot] of all of them.
//
// It owns what these words mean and how two values are compared. It must not
// know where they come from (Cloud Map, a file) nor where they go (Envoy), and
// imports the standard library and mesh/policy only.
//
// Start reading at [Snapshot], then [Service], then [Store].
package mesh

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"patchbay/mesh/policy"
)

// Protocol is the appProtocol of a port mapping, in ECS's words. It is fixed
// for the life of a service, as in ECS.
type Protocol string

// The protocols of Service Connect. An absent appProtocol means TCP.
const (
	HTTP  Protocol = "http"
	HTTP2 Protocol = "http2"
	GRPC  Protocol = "grpc"
	TCP   Protocol = "tcp"
)

// Valid reports whether p is one of the four protocols.
func (p Protocol) Valid() bool { return p == HTTP || p == HTTP2 || p == GRPC || p == TCP }

// L7 reports whether Envoy parses requests of this protocol.
func (p Protocol) L7() bool { return p == HTTP || p == HTTP2 || p == GRPC }

// ServiceName names a service: its discoveryName, unique in its namespace.
type ServiceName struct {
	Namespace     string // as Cloud Map has it (HttpName), lower case
	DiscoveryName string // at most 64 of [a-z0-9_-], not starting with '-'
}

// String is "discoveryName.namespace": the name of the service's cluster, and
// its default alias.
func (n ServiceName) String() string { return n.DiscoveryName + "." + n.Namespace }

// Compare orders by namespace, then by discoveryName.
func (n ServiceName) Compare(o ServiceName) int {
	return cmp.Or(strings.Compare(n.Namespace, o.Namespace), strings.Compare(n.DiscoveryName, o.DiscoveryName))
}

// Alias is a clientAlias: the name and port under which applications call a
// service. VIP is the address that the name resolves to inside a task; all
// ports of one DNSName share one VIP. The zero VIP means "not assigned yet".
type Alias struct {
	DNSName string // lower case, at most 127 of [a-z0-9_.-]
	Port    uint16
	VIP     netip.Addr
}

// Compare orders by DNSName, then Port, then VIP.
func (a Alias) Compare(o Alias) int {
	return cmp.Or(strings.Compare(a.DNSName, o.DNSName), cmp.Compare(a.Port, o.Port), a.VIP.Compare(o.VIP))
}

// MaxTimeout is ECS's bound of a timeout (the API's Duration, 32 bits). Envoy
// takes it, and refuses a whole cluster for a duration that it can't hold.
const MaxTimeout = 2147483647 * time.Second

// Timeouts are those of a service's `timeout` block. A nil field means Service
// Connect's default; zero disables.
type Timeouts struct {
	Idle       *time.Duration // default 5 min (http, http2, grpc) or 1 h (tcp)
	PerRequest *time.Duration // default 15 s; not for tcp
}

// Health is an endpoint's state in the registry.
type Health uint8

// Unknown endpoints are routable, as Cloud Map defines it for services without
// a health check.
const (
	Unknown Health = iota
	Healthy
	Unhealthy
)

// String is Cloud Map's word for h.
func (h Health) String() string { return [...]string{"UNKNOWN", "HEALTHY", "UNHEALTHY"}[h] }

// Endpoint is one instance of a service. Addr is an IP without zone and a port
// of 1..65535; [CleanAddr] is the only door through which one may come in.
type Endpoint struct {
	InstanceID string
	Addr       netip.AddrPort
	Zone       string // availability zone id; empty if not known
	Health     Health
	Weight     uint32 // at least 1
	Revision   string // deployment; empty if the service has only one
	TLS        bool   // its port speaks TLS; such an endpoint is never called in plain text
}

// Compare orders by address, then by instance id.
func (e Endpoint) Compare(o Endpoint) int {
	return cmp.Or(e.Addr.Compare(o.Addr), strings.Compare(e.InstanceID, o.InstanceID))
}

// ServiceTLS is a service's `tls` block.
type ServiceTLS struct {
	Issuer string // the issuer's name: awsPcaAuthorityArn as declared, or "default"
	Only   bool   // locked: endpoints that speak plain text are not called at all
	// KMSKey is the id, ARN or alias of the KMS key under which the service's
	// certificate and key rest; empty: the control plane's choice.
	KMSKey string
}

// Service is everything that a caller's sidecar needs to reach one service.
// Once stored it is immutable; an unchanged service keeps its pointer from one
// [Snapshot] to the next.
type Service struct {
	Name         ServiceName
	Protocol     Protocol
	Aliases      []Alias     // sorted by Compare, no duplicates
	Endpoints    []Endpoint  // sorted by Compare, one for each address
	TLS          *ServiceTLS // nil: plain
	Timeouts     Timeouts
	Policy       *policy.Policy // what the service wants of its callers; nil: the preset
	Deployment   *Deployment    // how calls are divided among revisions; nil: not at all
	Newest       Birth          // of its revisions; zero if no endpoint says of which it is
	Created      time.Time      // creation in the registry: the older keeps a contested alias
	Foreign      bool           // not ours: read leniently, never written
	External     *External      // where its calls go instead of to Endpoints, of which it has none; nil: a service of the registry
	ARN          string         // of the Cloud Map service; for messages only
	SettingsHash string         // of the settings document that it was read from; empty if foreign
	Detected     Detection      // of what is newest in it; it is not compared by Equal
}

// Detection is when a change of a service was noticed, and by what.
type Detection struct {
	At time.Time // zero: not known
	By string    // poll, hint, watch, replica, event, departure or disk
}

// Equal reports whether a and b would be presented to sidecars identically.
func (s *Service) Equal(o *Service) bool {
	if s == o {
		return true
	}
	if s == nil || o == nil {
		return false
	}
	return s.Name == o.Name && s.Protocol == o.Protocol && s.Foreign == o.Foreign && s.ARN == o.ARN &&
		s.SettingsHash == o.SettingsHash && s.Created.Equal(o.Created) &&
		slices.Equal(s.Aliases, o.Aliases) && slices.Equal(s.Endpoints, o.Endpoints) &&
		equalPtr(s.TLS, o.TLS) && equalPtr(s.Timeouts.Idle, o.Timeouts.Idle) && equalPtr(s.Timeouts.PerRequest, o.Timeouts.PerRequest) &&
		s.Policy.Equal(o.Policy) && s.Deployment.Equal(o.Deployment) && s.Newest.Revision == o.Newest.Revision && s.Newest.At.Equal(o.Newest.At) && s.External.equal(o.External)
}

func equalPtr[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// Workload is what an identity proves: the right to act for the listed
// discoveryNames of one namespace. A workload without any is client-only.
type Workload struct {
	Namespace      string
	Name           string
	DiscoveryNames []string // sorted
}

// String is "namespace/name".
func (w Workload) String() string { return w.Namespace + "/" + w.Name }

// Offers reports whether w may register name.
func (w Workload) Offers(name ServiceName) bool {
	return w.Namespace == name.Namespace && slices.Contains(w.DiscoveryNames, name.DiscoveryName)
}

// Node is one task of a workload, as its certificate proves it.
type Node struct {
	Workload Workload
	Task     string // unique in the workload: at most 64 of [0-9a-zA-Z_-]
}

// ID is "namespace/workload/task": the node.id of its Envoy.
func (n Node) ID() string { return n.Workload.String() + "/" + n.Task }

// Wiring is how a task's outgoing connections reach its Envoy.
type Wiring string

// Redirect needs NET_ADMIN: one rule sends the VIP range to a listener on
// loopback. Bind needs nothing: Envoy listens on VIP:port itself.
const (
	Redirect Wiring = "redirect"
	Bind     Wiring = "bind"
	NoEgress Wiring = "none" // they don't: the task only serves
)

// Ingress is a port that a node offers to others through its Envoy.
type Ingress struct {
	PortName     string
	Service      ServiceName
	Protocol     Protocol
	AppPort      uint16     // where the application listens
	AppAddr      netip.Addr // and at which address; the zero Addr is 127.0.0.1
	ListenerPort uint16     // where Envoy listens for the other tasks
	TLS          *ServiceTLS
	Timeouts     Timeouts
	Policy       *policy.Policy // nil: the preset
}
