package agentapi

import "time"

// Tapped is a part of the answer to [Tap].
type Tapped struct {
	Requests []Request `json:"requests,omitempty"`
	Sample   uint32    `json:"sample"`            // of a million requests, now
	LeftOut  uint64    `json:"leftOut,omitempty"` // since the last part: there were more than may be shown
}

// Request is one request, or connection of tcp, that has ended. It has no
// place for a body.
type Request struct {
	Time       time.Time         `json:"time"`              // of its start
	Direction  string            `json:"direction"`         // ingress or egress, from the task's side
	Service    string            `json:"service,omitempty"` // discoveryName.namespace, that is called
	Revision   string            `json:"revision,omitempty"`
	From       string            `json:"from"`             // IP:port of the caller
	Caller     string            `json:"caller,omitempty"` // ingress: SPIFFE ID of the caller's certificate
	Callee     string            `json:"callee,omitempty"` // egress: SPIFFE ID of the called one's certificate
	Protocol   string            `json:"protocol"`         // HTTP/1.1, HTTP/2, …; tcp
	Method     string            `json:"method,omitempty"`
	Authority  string            `json:"authority,omitempty"`
	Path       string            `json:"path,omitempty"` // without its query unless that was asked for
	Status     uint32            `json:"status,omitempty"`
	GRPCStatus string            `json:"grpcStatus,omitempty"` // by name, such as OK or Unavailable; of services that speak grpc
	Flags      []string          `json:"flags,omitempty"`      // Envoy's response flags, in words
	Details    string            `json:"details,omitempty"`    // Envoy's word on who made the response, or ended the connection
	Upstream   string            `json:"upstream,omitempty"`   // IP:port of the endpoint, or application
	Failure    string            `json:"failure,omitempty"`    // why there is no connection to it
	Attempts   uint32            `json:"attempts,omitempty"`
	DurationMs float64           `json:"durationMs"`
	Received   uint64            `json:"received"`      // bytes on the wire from the caller
	Sent       uint64            `json:"sent"`          // to the caller
	TLS        string            `json:"tls,omitempty"` // version, of the connection with the other task; empty: plain
	RequestID  string            `json:"requestId,omitempty"`
	UserAgent  string            `json:"userAgent,omitempty"`
	Headers    map[string]string `json:"headers,omitempty"` // of the request, by lower-case name
}
