package config

import (
	"patchbay/config/strict"
	"patchbay/mesh"
)

// Tracing is where sidecars send spans of requests, by OpenTelemetry's
// protocol.
type Tracing struct {
	Collector string `yaml:"collector"` // HOST:PORT, as a task reaches it
	Protocol  string `yaml:"protocol"`  // grpc or http; empty: grpc
	Sampling  uint8  `yaml:"sampling"`  // percent of the requests that come without a decision; absent: 100
}

// allSampled is what OpenTelemetry's own SDKs do unless they are told otherwise.
const allSampled = 100

// CollectorAddress is t's collector, apart. It has been checked. That of a nil
// Tracing is empty.
func (t *Tracing) CollectorAddress() mesh.HostPort {
	if t == nil {
		return mesh.HostPort{}
	}
	host, port, _ := hostPort(t.Collector)
	return mesh.HostPort{Host: host, Port: port}
}

func (k *checker) tracing(t *Tracing) {
	if t == nil {
		return
	}
	if _, _, err := hostPort(t.Collector); err != nil {
		k.Bad("tracing.collector", "%s: %v; allowed: an OpenTelemetry collector, as a task reaches it, such as otel.internal:4317: "+addressForm, strict.Quote(t.Collector), err)
	}
	k.ifAny("tracing.protocol", t.Protocol, "grpc", "http")
	if t.Sampling < 1 || t.Sampling > 100 {
		k.Bad("tracing.sampling", "%d; allowed: 1 to 100 percent, or no tracing at all", t.Sampling)
	}
}
