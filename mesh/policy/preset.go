package policy

import (
	"maps"
	"slices"
	"time"
)

// Default is the preset of whoever names none.
const Default = "ecs"

// What holds for a service whose block does not say (D: AWS's documentation of
// ServiceConnectConfiguration's timeout).
const (
	// PerRequest is the default of perRequestTimeoutSeconds.
	PerRequest = 15 * time.Second
	idleL7     = 5 * time.Minute
	idleTCP    = time.Hour
)

// IdleOf is what a block says of idleTimeoutSeconds, or the default.
func IdleOf(said *time.Duration, l7 bool) time.Duration {
	switch {
	case said != nil:
		return *said
	case l7:
		return idleL7
	}
	return idleTCP
}

// unlimited is what App Mesh had as circuit breakers: 2147483647 of everything
// (App Mesh user guide, envoy-defaults). Envoy's own 1,024 is in reach of one
// busy caller (measured).
const unlimited = 1<<31 - 1

// presets say everything, so that what is effective has no gaps. Where AWS
// publishes nothing, they are the place where our choice stands. Evidence: D =
// AWS's documentation, M = measured on Envoy 1.40.0, I = inferred, N = our
// choice because nothing is published.
var presets = map[string]Policy{
	// What Service Connect does where it says so, and what is safe where it
	// does not.
	"ecs": {
		Retries: &Retries{
			Max: new(uint32(2)), // D: "2 retries", the second try avoids the previous host
			// D and I: a failed connection, or 503. The request has not reached
			// an application, or says itself that it was not served. For grpc
			// UNAVAILABLE is the word for 503 (I).
			On: []string{"connect-failure", "refused-stream", "reset-before-request", "503", "unavailable"},
		},
		OutlierDetection: &OutlierDetection{
			Failures:     new(uint32(5)),                   // D: 5 failed connections
			Interval:     new(Duration(30 * time.Second)),  // D: within 30 s
			BaseEjection: new(Duration(30 * time.Second)),  // D: avoided for 30 s
			MaxEjection:  new(Duration(300 * time.Second)), // D: up to 300 s
			MaxPercent:   new(uint32(100)),                 // N: of two hosts the dead one must be ejectable
		},
		LoadBalancing:    &LoadBalancing{Algorithm: "round_robin", PanicThreshold: new(uint32(50))}, // D; Envoy's default (N)
		ConnectionLimits: same(unlimited),                                                           // I
	},
	// App Mesh's hidden defaults (D: user guide, envoy-defaults): more is tried
	// again, server errors included, and hosts are never avoided.
	"appmesh": {
		Retries: &Retries{
			Max: new(uint32(2)),
			On:  []string{"connect-failure", "refused-stream", "reset", "503", "unavailable"},
		},
		OutlierDetection: &OutlierDetection{Failures: new(uint32(0)), MaxPercent: new(uint32(100)),
			Interval: new(Duration(30 * time.Second)), BaseEjection: new(Duration(30 * time.Second)), MaxEjection: new(Duration(300 * time.Second))},
		LoadBalancing:    &LoadBalancing{Algorithm: "round_robin", PanicThreshold: new(uint32(50))},
		ConnectionLimits: same(unlimited),
	},
	// What Envoy does when nobody tells it anything.
	"envoy": {
		Retries: &Retries{Max: new(uint32(0))},
		OutlierDetection: &OutlierDetection{Failures: new(uint32(0)), MaxPercent: new(uint32(10)),
			Interval: new(Duration(10 * time.Second)), BaseEjection: new(Duration(30 * time.Second)), MaxEjection: new(Duration(300 * time.Second))},
		LoadBalancing:    &LoadBalancing{Algorithm: "round_robin", PanicThreshold: new(uint32(50))},
		ConnectionLimits: &ConnectionLimits{MaxConnections: new(uint32(1024)), MaxPendingRequests: new(uint32(1024)), MaxRequests: new(uint32(1024)), MaxRetries: new(uint32(3))},
	},
}

func same(n uint32) *ConnectionLimits {
	return &ConnectionLimits{MaxConnections: &n, MaxPendingRequests: &n, MaxRequests: &n, MaxRetries: &n}
}

// Presets are the names of the presets, sorted.
func Presets() []string { return slices.Sorted(maps.Keys(presets)) }

// Effective is what holds for a call: the caller's word, then the service's,
// then the preset's (the caller's, else the service's, else [Default]). Either
// may be nil. Retries, OutlierDetection, LoadBalancing and ConnectionLimits of
// the result are complete, but for members whose absence means something.
// Fault, HealthCheck and Routes are taken whole. The result is not to be changed.
func Effective(service, caller *Policy) Policy {
	var s, c Policy
	if service != nil {
		s = *service
	}
	if caller != nil {
		c = *caller
	}
	name := Default
	for _, n := range []string{s.Preset, c.Preset} {
		if _, known := presets[n]; known {
			name = n
		}
	}
	out := presets[name]
	out.Preset = name
	for _, p := range []Policy{s, c} {
		out.Timeout = over(out.Timeout, p.Timeout)
		out.Retries = over(out.Retries, p.Retries)
		out.OutlierDetection = over(out.OutlierDetection, p.OutlierDetection)
		out.LoadBalancing = over(out.LoadBalancing, p.LoadBalancing)
		out.ConnectionLimits = over(out.ConnectionLimits, p.ConnectionLimits)
		out.HealthCheck = whole(out.HealthCheck, p.HealthCheck)
		out.Fault = whole(out.Fault, p.Fault)
		out.RateLimit = whole(out.RateLimit, p.RateLimit)
		if p.Routes != nil {
			out.Routes = p.Routes
		}
	}
	return out
}

// Or is t with the members that it lacks from base.
func (t *Timeout) Or(base *Timeout) *Timeout { return over(base, t) }

// Or is r with the members that it lacks from base.
func (r *Retries) Or(base *Retries) *Retries { return over(base, r) }

func whole[T any](base, above *T) *T {
	if above != nil {
		return above
	}
	return base
}
