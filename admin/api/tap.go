package api

import (
	"time"

	"patchbay/agentapi"
)

// TapEvent is what a tap says: one request, or a word about itself.
type TapEvent struct {
	At      time.Time `json:"at"`
	Request *Tapped   `json:"request,omitempty"`
	// Note says what the tap does, or fails to do, at a sidecar.
	Note string `json:"note,omitempty"`
	// Ended marks the last event; Error is then why no sidecar has shown
	// anything, if none did.
	Ended bool   `json:"ended,omitempty"`
	Error string `json:"error,omitempty"`
}

// Tapped is a request through the sidecar of a node.
type Tapped struct {
	Node string `json:"node"`
	agentapi.Request
}
