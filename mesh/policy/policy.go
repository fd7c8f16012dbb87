// Package policy is what is wanted of calls to a service beyond what ECS's own
// block can say: retries, outlier detection, load balancing, limits, health
// checks, faults and routes, who must show a certificate and who may call.
//
// It owns the words, their one JSON form (which is that of the declaration, of
// the settings in Cloud Map and of the agent stream alike), the presets, and
// the rules by which a policy is valid. It must not know Envoy, and imports the
// standard library only.
//
// Start reading at [Policy], then [Effective].
package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Policy is what one service, or one of its callers, wants. A member that is
// absent says nothing: [Effective] decides then. A Policy is not changed once
// it is part of a service.
type Policy struct {
	// Preset is what the absent members are taken from: see [Presets].
	Preset           string            `json:"preset,omitempty"`
	Timeout          *Timeout          `json:"timeout,omitempty"` // of a caller only; a service says it in ECS's block
	Retries          *Retries          `json:"retries,omitempty"`
	OutlierDetection *OutlierDetection `json:"outlierDetection,omitempty"`
	LoadBalancing    *LoadBalancing    `json:"loadBalancing,omitempty"`
	ConnectionLimits *ConnectionLimits `json:"connectionLimits,omitempty"`
	HealthCheck      *HealthCheck      `json:"healthCheck,omitempty"`
	RateLimit        *RateLimit        `json:"rateLimit,omitempty"`     // of a service only: its own sidecar counts
	MutualTLS        *MutualTLS        `json:"mutualTls,omitempty"`     // of a service only
	Authorization    *Authorization    `json:"authorization,omitempty"` // of a service only: its own sidecar refuses
	Fault            *Fault            `json:"fault,omitempty"`
	Routes           []Route           `json:"routes,omitempty"` // the first that matches decides
	// TestTraffic says which requests reach a revision before it is in
	// production; of a service only. ECS's block says it as testTrafficRules.
	TestTraffic *TestTraffic `json:"testTraffic,omitempty"`
	// Deployment says how calls move to a new revision; of a service only.
	Deployment *Deployment `json:"deploymentConfiguration,omitempty"`
}

// TestTraffic is a header that marks test traffic of a deployment.
type TestTraffic struct {
	Header string `json:"header,omitempty"` // absent: x-amzn-ecs-blue-green-test
	Value  string `json:"value,omitempty"`  // exactly; absent: any
}

// Timeout replaces the service's for one caller. Zero disables.
type Timeout struct {
	PerRequest *Duration `json:"perRequest,omitempty"`
	Idle       *Duration `json:"idle,omitempty"`
}

// Retries says what is tried again. For tcp, only Max counts: connections are
// what can be tried again.
type Retries struct {
	Max *uint32 `json:"max,omitempty"` // further tries; 0: none
	// On lists conditions of [RetryConditions], and statuses such as "503".
	On         []string  `json:"on,omitempty"`
	PerTry     *Duration `json:"perTry,omitempty"`     // time of one try; absent: that of the request
	IfMethodIs []string  `json:"ifMethodIs,omitempty"` // absent: any; ["GET", "HEAD"] spares what must not happen twice
	// BudgetPercent bounds retries to a share of the requests under way, of at
	// least three at once; absent: no bound.
	BudgetPercent *uint32 `json:"budgetPercent,omitempty"`
}

// OutlierDetection says when an endpoint is avoided.
type OutlierDetection struct {
	Failures     *uint32   `json:"failures,omitempty"`     // in a row: of connections, or 502 to 504; 0: never
	ServerErrors *uint32   `json:"serverErrors,omitempty"` // any 5xx in a row; absent or 0: they are answers
	Interval     *Duration `json:"interval,omitempty"`     // between looks
	BaseEjection *Duration `json:"baseEjection,omitempty"` // the first time; then twice, three times …
	MaxEjection  *Duration `json:"maxEjection,omitempty"`
	MaxPercent   *uint32   `json:"maxPercent,omitempty"` // of the endpoints that may be avoided at once
}

// LoadBalancing says which endpoint is picked.
type LoadBalancing struct {
	Algorithm string `json:"algorithm,omitempty"` // one of [Algorithms]
	// HashOn says what ring_hash keeps together: "source-ip", "header:NAME" or
	// "cookie:NAME".
	HashOn         string    `json:"hashOn,omitempty"`
	SlowStart      *Duration `json:"slowStart,omitempty"`      // a new endpoint's share grows over this time
	PanicThreshold *uint32   `json:"panicThreshold,omitempty"` // percent: with fewer healthy, all are used
	// ZoneAware prefers endpoints of the caller's own zone; absent is on.
	ZoneAware *bool `json:"zoneAware,omitempty"`
}

// ConnectionLimits are those of one caller's Envoy towards the service; what
// is above is answered 503 at once.
type ConnectionLimits struct {
	MaxConnections     *uint32 `json:"maxConnections,omitempty"`
	MaxPendingRequests *uint32 `json:"maxPendingRequests,omitempty"`
	MaxRequests        *uint32 `json:"maxRequests,omitempty"`
	MaxRetries         *uint32 `json:"maxRetries,omitempty"` // at once
}

// HealthCheck makes callers' Envoys ask the endpoints themselves.
type HealthCheck struct {
	// Protocol is one of "http", "grpc" (grpc.health.v1) and "tcp" (a
	// connection that stands is enough); absent: http if there is a path, else
	// tcp.
	Protocol           string    `json:"protocol,omitempty"`
	Path               string    `json:"path,omitempty"`
	Interval           *Duration `json:"interval,omitempty"`           // default 10 s
	Timeout            *Duration `json:"timeout,omitempty"`            // default 2 s
	HealthyThreshold   *uint32   `json:"healthyThreshold,omitempty"`   // default 2
	UnhealthyThreshold *uint32   `json:"unhealthyThreshold,omitempty"` // default 3
}

// RateLimit is a token bucket in each of the service's sidecars; what is above
// is answered 429, or, for tcp, closed.
type RateLimit struct {
	Requests uint32   `json:"requests"` // in each Per; of tcp: connections
	Per      Duration `json:"per"`
	Burst    uint32   `json:"burst,omitempty"` // tokens at most; default: Requests
}

// Fault is made by the callers' Envoys, before anything is sent.
type Fault struct {
	Abort *Abort `json:"abort,omitempty"`
	Delay *Delay `json:"delay,omitempty"`
}

// Abort answers a share of the requests with a status.
type Abort struct {
	Status  uint32 `json:"status"`
	Percent uint32 `json:"percent" required:"0 to 100"`
}

// Delay holds a share of the requests.
type Delay struct {
	Duration Duration `json:"duration"`
	Percent  uint32   `json:"percent" required:"0 to 100"`
}

// Route sends matching requests elsewhere, or treats them differently.
type Route struct {
	Match   Match    `json:"match"`
	To      []Target `json:"to,omitempty"`     // empty: the service itself
	Mirror  *Mirror  `json:"mirror,omitempty"` // a copy whose answer nobody sees
	Rewrite *Rewrite `json:"rewrite,omitempty"`
	Timeout *Timeout `json:"timeout,omitempty"`
	Retries *Retries `json:"retries,omitempty"` // absent members: those of the service
}

// Match is what a request must fulfil, all of it.
type Match struct {
	Path    string            `json:"path,omitempty"`    // exactly
	Prefix  string            `json:"prefix,omitempty"`  // of the path, by whole segments unless it ends in "/"
	Methods []string          `json:"methods,omitempty"` // one of them
	Headers map[string]string `json:"headers,omitempty"` // each exactly; "*": present
}

// Target is a share of a route's requests.
type Target struct {
	Service string `json:"service,omitempty"` // discoveryName in the same namespace; absent: the service itself
	Weight  uint32 `json:"weight"`
}

// Mirror is where a share of the requests is sent as well.
type Mirror struct {
	Service string `json:"service"`
	Percent uint32 `json:"percent" required:"0 to 100"`
}

// Rewrite changes a request on its way.
type Rewrite struct {
	Prefix string `json:"prefix,omitempty"` // in place of what Match.Prefix or Match.Path matched
	Host   string `json:"host,omitempty"`
}

// Duration is a time in Go's notation in JSON: "250ms", "15s", "1h".
type Duration time.Duration

// String is d in Go's notation.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText is [Duration.String].
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads Go's notation.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a time; allowed: a number with its unit, such as 250ms, 15s or 1h", b)
	}
	*d = Duration(v)
	return nil
}

// Encode is p's JSON: equal policies give equal bytes. A nil Policy is nil.
func (p *Policy) Encode() []byte {
	if p == nil {
		return nil
	}
	b, err := json.Marshal(p)
	if err != nil { // only a type that JSON can't hold, and there is none
		return nil
	}
	return b
}

// Equal reports whether p and o say the same.
func (p *Policy) Equal(o *Policy) bool { return p == o || bytes.Equal(p.Encode(), o.Encode()) }

// Decode reads what Encode wrote; members that it does not know are ignored.
// Empty is nil. The error lists every problem.
func Decode(b []byte) (*Policy, error) {
	if len(b) == 0 {
		return nil, nil
	}
	p := &Policy{}
	if err := json.Unmarshal(b, p); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	var errs []error
	for _, x := range p.Problems() {
		errs = append(errs, fmt.Errorf("policy.%s: %s", x.Path, x.Text))
	}
	if errs != nil {
		return nil, errors.Join(errs...)
	}
	return p, nil
}

// Targets are the discoveryNames that p's routes lead to besides the service
// itself, sorted, each once.
func (p *Policy) Targets() []string {
	if p == nil {
		return nil
	}
	var out []string
	for _, r := range p.Routes {
		for _, t := range r.To {
			out = append(out, t.Service)
		}
		if r.Mirror != nil {
			out = append(out, r.Mirror.Service)
		}
	}
	slices.Sort(out)
	return slices.DeleteFunc(slices.Compact(out), func(s string) bool { return s == "" })
}

// What a health check asks, in [HealthCheck.Protocol].
const (
	CheckHTTP = "http"
	CheckGRPC = "grpc"
	CheckTCP  = "tcp"
)

// Asks is the request that h has callers make, where it is one.
func (h *HealthCheck) Asks() (method, path string) {
	if h.Kind() == CheckGRPC {
		return "POST", "/grpc.health.v1.Health/Check"
	}
	return "GET", h.Path
}

// Kind is what h asks: one of CheckHTTP, CheckGRPC and CheckTCP.
func (h *HealthCheck) Kind() string {
	switch {
	case h.Protocol != "":
		return h.Protocol
	case h.Path != "":
		return CheckHTTP
	}
	return CheckTCP
}
