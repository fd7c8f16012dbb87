package agentapi

import (
	"encoding/json"
	"time"
)

// Seen is the answer to [Look].
type Seen struct {
	At    time.Time                  `json:"at"`    // by the task's clock
	Pages map[string]json.RawMessage `json:"pages"` // of Envoy's admin interface, as it prints them
	// Errors are the pages that could not be had, and why.
	Errors map[string]string `json:"errors,omitempty"`
	Hosts  []HostLine        `json:"hosts,omitempty"`
	// Listening are the TCP sockets that take connections, "IP:port".
	Listening []string `json:"listening,omitempty"`
}

// HostLine is a line of the hosts file.
type HostLine struct {
	Address string   `json:"address"`
	Names   []string `json:"names"`
}

// Outcome is the answer to [Call].
type Outcome struct {
	URL      string        `json:"url"`
	Resolved string        `json:"resolved,omitempty"` // the address of the name; empty: it has none
	Took     time.Duration `json:"took"`               // nanoseconds
	Status   int           `json:"status,omitempty"`   // of an HTTP answer
	// Envoy says of an HTTP answer whether a sidecar made it, not the
	// application; Body is then what it says.
	Envoy bool   `json:"envoy,omitempty"`
	Body  string `json:"body,omitempty"`
	Error string `json:"error,omitempty"` // why there is no answer
}
