// Package bootstrap is what a sidecar's Envoy is started with: the node
// metadata that it will send, and the bootstrap file.
//
// It owns the form of both, for the agent that writes them and the control
// plane that reads them. It must not know the mesh's services nor do any I/O.
// Start reading at [NodeMeta], then [Config].
package bootstrap

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"patchbay/mesh"
	"patchbay/mesh/policy"
)

// metadataKey is the key of [NodeMeta] in the node's metadata.
const metadataKey = "patchbay"

// OutsideTTL is the time to live (IP_TTL) of the packets that Envoy sends to
// addresses which it has by DNS. It is how a task tells Envoy's own connections
// to a virtual IP from those of its applications, which have the system's (64 on
// Linux; net.ipv4.ip_default_ttl): a name outside the mesh that resolves to a
// virtual IP would otherwise lead Envoy to itself, over and over. Paths in the
// internet are half as long.
const OutsideTTL = 50

// RedirectPort is where Envoy takes redirected connections, on 127.0.0.1. No
// offered port may have this number.
const RedirectPort = 15001

// LeafSecrets begins the name of the SDS secret with a service's certificate and
// key; discoveryName.namespace follows. A sidecar is given those of its own
// services only.
const LeafSecrets = "leaf/"

// NodeMeta is what a sidecar says of itself. It may add ports and features,
// never identity: that is the certificate's.
type NodeMeta struct {
	Version        string      `json:"version"` // of the agent
	Wiring         mesh.Wiring `json:"wiring"`
	IPv6           bool        `json:"ipv6,omitempty"`           // the task can listen on [::]; the ingress then does
	EitherLoopback bool        `json:"eitherLoopback,omitempty"` // an application without an address of its own may listen on ::1 alone
	ContainerPorts []uint16    `json:"containerPorts,omitempty"` // all that the task's containers use
	Ports          []Port      `json:"ports,omitempty"`          // what the task offers; empty: client-only
	Dependencies   []string    `json:"dependencies,omitempty"`   // discovery names of what the task calls; empty: all of its namespace
	Exclusive      bool        `json:"exclusive,omitempty"`      // other Envoys share the network namespace: no port is shared with them
	AccessLog      AccessLog   `json:"accessLog,omitzero"`
	// ExclusiveIngress is Exclusive for the ports of the ingress alone.
	ExclusiveIngress bool `json:"exclusiveIngress,omitempty"`
	Tap              bool `json:"tap,omitempty"` // the agent can show requests: the bootstrap has [TapCluster]
	// Policies are the task's own word on services that it calls, by
	// discoveryName.
	Policies map[string]*policy.Policy `json:"policies,omitempty"`
	// Profile is [mesh.Strict] where the task sees of the mesh what Service
	// Connect would show it; empty: [mesh.Live].
	Profile mesh.Profile `json:"profile,omitempty"`
	// Names are those that a strict task knows, each with its virtual IP.
	Names map[string]netip.Addr `json:"names,omitempty"`
	// AWS is set by the control plane for a node in the form of AWS's agent,
	// and is no part of the metadata.
	AWS *Placed `json:"-"`
}

// AccessLog is ECS's accessLogConfiguration: what Envoy logs of requests and
// connections, of those that come in and those that go out.
type AccessLog struct {
	Format          string `json:"format"` // "TEXT" or "JSON"; empty: nothing is logged
	QueryParameters bool   `json:"queryParameters,omitempty"`
}

// Port is one offered port: an ingress listener.
type Port struct {
	PortName          string         `json:"portName"`
	DiscoveryName     string         `json:"discoveryName"`
	Protocol          mesh.Protocol  `json:"protocol"`
	AppPort           uint16         `json:"appPort"`              // where the application listens
	AppAddress        string         `json:"appAddress,omitempty"` // IP address of the application; empty: loopback
	ListenerPort      uint16         `json:"listenerPort"`         // where Envoy listens for the other tasks
	TLS               *PortTLS       `json:"tls,omitempty"`
	IdleSeconds       *int64         `json:"idleSeconds,omitempty"`
	PerRequestSeconds *int64         `json:"perRequestSeconds,omitempty"`
	Policy            *policy.Policy `json:"policy,omitempty"` // what its own sidecar does of it
}

// PortTLS says that the port speaks TLS with a leaf of this issuer.
type PortTLS struct {
	Issuer string `json:"issuer"`
}

// Ingress is the port in the mesh's words.
func (p Port) Ingress(namespace string) mesh.Ingress {
	in := mesh.Ingress{
		PortName: p.PortName, Service: mesh.ServiceName{Namespace: namespace, DiscoveryName: p.DiscoveryName},
		Protocol: p.Protocol, AppPort: p.AppPort, ListenerPort: p.ListenerPort,
		Timeouts: mesh.Timeouts{Idle: seconds(p.IdleSeconds), PerRequest: seconds(p.PerRequestSeconds)},
		Policy:   p.Policy,
	}
	in.AppAddr, _ = netip.ParseAddr(p.AppAddress) //nolint:errcheck // checked when it was read; empty is the zero Addr
	if p.TLS != nil {
		in.TLS = &mesh.ServiceTLS{Issuer: p.TLS.Issuer}
	}
	return in
}

func seconds(n *int64) *time.Duration {
	if n == nil {
		return nil
	}
	d := time.Duration(*n) * time.Second
	return &d
}

// Struct is the node's metadata that carries m.
func (m NodeMeta) Struct() (*structpb.Struct, error) {
	b, err := json.Marshal(map[string]NodeMeta{metadataKey: m})
	if err != nil {
		return nil, fmt.Errorf("encode node metadata: %w", err)
	}
	s := &structpb.Struct{}
	if err := protojson.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("encode node metadata: %w", err)
	}
	return s, nil
}
