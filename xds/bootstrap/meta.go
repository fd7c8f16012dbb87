// Package bootstrap is what a sidecar's Envoy is started with: the node
// metadata that it will send, and the bootstrap file.
//
// It owns the form of both, for the agent that writes them and the control
// plane that reads them. It must not know the mesh's services nor do any I/O.
// Start reading at [NodeMeta], then [Config].
package bootstrap

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"patchbay/mesh"
)

// MetadataKey is the key of [NodeMeta] in the node's metadata.
const MetadataKey = "patchbay"

// NodeMeta is what a sidecar says of itself. It may add ports and features,
// never identity: that is the certificate's.
type NodeMeta struct {
	Version        string      `json:"version"` // of the agent
	Wiring         mesh.Wiring `json:"wiring"`
	ContainerPorts []uint16    `json:"containerPorts,omitempty"` // all that the task's containers use
	Ports          []Port      `json:"ports,omitempty"`          // what the task offers; empty: client-only
}

// Port is one offered port: an ingress listener.
type Port struct {
	PortName          string        `json:"portName"`
	DiscoveryName     string        `json:"discoveryName"`
	Protocol          mesh.Protocol `json:"protocol"`
	AppPort           uint16        `json:"appPort"`
	ListenerPort      uint16        `json:"listenerPort"`
	TLS               *PortTLS      `json:"tls,omitempty"`
	IdleSeconds       *int64        `json:"idleSeconds,omitempty"`
	PerRequestSeconds *int64        `json:"perRequestSeconds,omitempty"`
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
	}
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
	b, err := json.Marshal(map[string]NodeMeta{MetadataKey: m})
	if err != nil {
		return nil, fmt.Errorf("encode node metadata: %w", err)
	}
	s := &structpb.Struct{}
	if err := protojson.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("encode node metadata: %w", err)
	}
	return s, nil
}

// DecodeMeta reads m out of a node's metadata. Its error lists every problem.
func DecodeMeta(s *structpb.Struct) (NodeMeta, error) {
	var m NodeMeta
	v := s.GetFields()[MetadataKey]
	if v == nil {
		return m, fmt.Errorf("node metadata: the key %q is missing; docs/reference/node.md has its form", MetadataKey)
	}
	b, err := protojson.Marshal(v)
	if err != nil {
		return m, fmt.Errorf("node metadata: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil && !errors.Is(err, io.EOF) {
		return m, fmt.Errorf("node metadata %q: %w", MetadataKey, err)
	}
	return m, m.validate()
}

func (m NodeMeta) validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("node metadata %q: "+format, append([]any{MetadataKey}, args...)...))
	}
	if m.Wiring != mesh.Redirect && m.Wiring != mesh.Bind {
		bad("wiring: %q; allowed: redirect, bind", m.Wiring)
	}
	names, listeners := map[string]bool{}, map[uint16]bool{}
	for i, p := range m.Ports {
		if !mesh.ValidDiscoveryName(p.PortName) || names[p.PortName] {
			bad("ports[%d].portName: %q; allowed: up to 64 of [a-z0-9_-], each once", i, p.PortName)
		}
		if !mesh.ValidDiscoveryName(p.DiscoveryName) {
			bad("ports[%d].discoveryName: %q; allowed: up to 64 of [a-z0-9_-], not starting with '-'", i, p.DiscoveryName)
		}
		if !p.Protocol.Valid() {
			bad("ports[%d].protocol: %q; allowed: http, http2, grpc, tcp", i, p.Protocol)
		}
		if p.AppPort == 0 {
			bad("ports[%d].appPort: 0; allowed: 1 to 65535", i)
		}
		if p.ListenerPort == 0 || listeners[p.ListenerPort] {
			bad("ports[%d].listenerPort: %d; allowed: 1 to 65535, each once", i, p.ListenerPort)
		}
		if p.TLS != nil && p.TLS.Issuer == "" {
			bad("ports[%d].tls.issuer: empty; allowed: an issuer's name", i)
		}
		if p.IdleSeconds != nil && *p.IdleSeconds < 0 || p.PerRequestSeconds != nil && *p.PerRequestSeconds < 0 {
			bad("ports[%d]: a timeout is negative; allowed: 0 (off) or more", i)
		}
		names[p.PortName], listeners[p.ListenerPort] = true, true
	}
	return errors.Join(errs...)
}
