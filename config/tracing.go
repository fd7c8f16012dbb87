package config

import (
	"patchbay/config/strict"
	"patchbay/mesh"
)

// Tracing is where sidecars send spans of requests, by OpenTelemetry's
// protocol.
type Tracing struct {
	Collector string  `yaml:"collector"` // HOST:PORT, as a task reaches it
	Protocol  string  `yaml:"protocol"`  // grpc or http; empty: grpc
	Sampling  float64 `yaml:"sampling"`  // percent, to two decimals, of the requests that come without a decision; absent: 100
}

// allSampled is what OpenTelemetry's own SDKs do unless they are told otherwise.
const allSampled = 100

// leastSampled is the smallest step in which Envoy counts.
const leastSampled = 0.01

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
	if !(t.Sampling >= leastSampled && t.Sampling <= allSampled) { // so that NaN is none
		k.Bad("tracing.sampling", "%g; allowed: %g to %d percent, or no tracing at all", t.Sampling, leastSampled, allSampled)
	}
}
