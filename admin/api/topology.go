package api

import "time"

// Edge is the traffic of one workload to one service.
type Edge struct {
	Workload    string  `json:"workload"` // namespace/name
	Service     string  `json:"service"`
	RequestRate float64 `json:"requestRate"` // per second
	ErrorRate   float64 `json:"errorRate"`
	P50         float64 `json:"p50Ms,omitempty"`
	P99         float64 `json:"p99Ms,omitempty"`
	Requests    uint64  `json:"requests"`
	Connections uint64  `json:"connections"` // since the Envoys started
	Encryption
}

// Encryption counts connections by how they were protected.
type Encryption struct {
	TLS13      uint64 `json:"tls13"`
	TLSOlder   uint64 `json:"tlsOlder,omitempty"`
	Plain      uint64 `json:"plain,omitempty"`      // although the service has TLS
	Undeclared uint64 `json:"undeclared,omitempty"` // of a service that has no TLS
	Failed     uint64 `json:"failed,omitempty"`     // could not be made
	Unverified uint64 `json:"unverified,omitempty"` // because of the peer's certificate
	// Exposed is when a connection was last made with older TLS, or without it
	// although the service has it; Distrusted when Unverified last grew.
	Exposed    time.Time `json:"exposed,omitzero"`
	Distrusted time.Time `json:"distrusted,omitzero"`
}

// Share is how much of what should be TLS 1.3 was, from 0 to 1; false: there
// was nothing yet.
func (e Encryption) Share() (float64, bool) {
	all := e.TLS13 + e.TLSOlder + e.Plain
	if all == 0 {
		return 0, false
	}
	return float64(e.TLS13) / float64(all), true
}

// Ingress is what came to the tasks of one workload.
type Ingress struct {
	Workload    string  `json:"workload"`
	RequestRate float64 `json:"requestRate"`
	ErrorRate   float64 `json:"errorRate"`
	Connections uint64  `json:"connections"`
	TLS13       uint64  `json:"tls13"`
	TLSOlder    uint64  `json:"tlsOlder,omitempty"`
	Refused     uint64  `json:"refused,omitempty"` // plain text, older TLS, and the like
	// Knocked is when that last happened, apart from what patchbay itself tried.
	Knocked time.Time `json:"knocked,omitzero"`
	// Denied are calls that no rule of an authorization allows, WouldDeny those
	// of a dry run; DeniedAt is when that last happened.
	Denied    uint64    `json:"denied,omitempty"`
	WouldDeny uint64    `json:"wouldDeny,omitempty"`
	DeniedAt  time.Time `json:"deniedAt,omitzero"`
	Limited   uint64    `json:"limited,omitempty"` // calls above a rateLimit
}

// Traffic is GET /api/v1/traffic.
type Traffic struct {
	Edges     []Edge    `json:"edges"`
	Ingresses []Ingress `json:"ingresses"`
}

// Event is a change of the mesh.
type Event struct {
	At      time.Time `json:"at"`
	Subject string    `json:"subject"`
	Text    string    `json:"text"`
	Bad     bool      `json:"bad,omitempty"`
}
