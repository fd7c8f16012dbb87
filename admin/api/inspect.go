package api

import (
	"encoding/json"
	"time"

	"patchbay/mesh/policy"
)

// Policy is GET /api/v1/policy?node=NODE&service=NAME: what holds for the
// node's calls to the service, and whose word each member is.
type Policy struct {
	Node    string        `json:"node"`
	Service string        `json:"service"`
	Words   []policy.Word `json:"words"` // timeouts first, then in the order of the declaration
}

// Sent is GET /api/v1/xds?node=NODE&type=TYPE&name=NAME: what a node is sent.
type Sent struct {
	Node      string         `json:"node"`
	View      string         `json:"view"`
	At        time.Time      `json:"at"`
	Resources []SentResource `json:"resources"` // in the order of sending, then by name
	// Missing are names that the node asked for and that there are not, each
	// with its type.
	Missing []string `json:"missing,omitempty"`
}

// The states of a [SentResource], besides [Rejected].
const (
	Acknowledged = "acknowledged"
	Unanswered   = "unanswered" // sent; Envoy has not answered yet
	Pending      = "pending"    // it is newer than what was sent
)

// SentResource is one resource. Secrets in its content are redacted.
type SentResource struct {
	Type     string `json:"type"` // cds, eds, leds, sds, lds, rds
	Name     string `json:"name"`
	Version  string `json:"version"`            // of the content below
	Sent     string `json:"sent,omitempty"`     // version
	Accepted string `json:"accepted,omitempty"` // version
	State    string `json:"state"`
	Error    string `json:"error,omitempty"` // in Envoy's words
	Source   string `json:"source,omitempty"`
	Bytes    int    `json:"bytes"`
	// Content has Envoy's field names, as in its documentation.
	Content json.RawMessage `json:"content,omitempty"`
}

// Difference is GET /api/v1/diff?node=NODE: how what the node's Envoy has
// differs from what it should have.
type Difference struct {
	Node string `json:"node"`
	// At is by the task's clock.
	At time.Time `json:"at"`
	// Compared is how many resources were compared, by type.
	Compared  map[string]int       `json:"compared"`
	Resources []ResourceDifference `json:"resources"` // those that differ, in the order of sending, then by name
}

// The kinds of a [ResourceDifference].
const (
	Lacking   = "lacking"   // Envoy does not have it
	Unwanted  = "unwanted"  // Envoy has it and should not
	Differing = "differing" // another content
)

// ResourceDifference is one resource that differs.
type ResourceDifference struct {
	Type   string `json:"type"`
	Name   string `json:"name"`
	Kind   string `json:"kind"`
	Wanted string `json:"wanted,omitempty"` // version
	Has    string `json:"has,omitempty"`    // version, by Envoy's own words
	State  string `json:"state,omitempty"`  // of what Envoy has, unless it is active: warming, error
	Error  string `json:"error,omitempty"`  // in Envoy's words
	// Changes turn what Envoy has into what is wanted.
	Changes []Change `json:"changes,omitempty"`
}

// Change is one operation of a JSON patch (RFC 6902), with the value before.
type Change struct {
	Op   string `json:"op"`   // add, remove, replace
	Path string `json:"path"` // JSON pointer
	Old  any    `json:"old,omitempty"`
	New  any    `json:"new,omitempty"`
}

// Push is an event of GET /api/v1/xds/watch?node=NODE: a response that the node
// was sent, or its answer.
type Push struct {
	At        time.Time `json:"at"`
	Node      string    `json:"node"`
	Event     string    `json:"event"` // push, ack, nack
	Type      string    `json:"type"`  // cds, eds, leds, sds, lds, rds
	Nonce     string    `json:"nonce"`
	Resources int       `json:"resources,omitempty"`
	Names     []string  `json:"names,omitempty"` // of the resources, name@version; the first 100
	Removed   []string  `json:"removed,omitempty"`
	Bytes     int       `json:"bytes,omitempty"`
	// TookSeconds is from the push to its answer.
	TookSeconds float64 `json:"tookSeconds,omitempty"`
	Error       string  `json:"error,omitempty"` // of a NACK, in Envoy's words
	// Missed is how many events before this one the watcher was too slow for.
	Missed int `json:"missed,omitempty"`
}
