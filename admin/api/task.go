package api

import "time"

// Task is GET /api/v1/task?node=NODE: what one sidecar has, by its own words.
// Keys are not among it.
type Task struct {
	Node string    `json:"node"`
	At   time.Time `json:"at"` // by the task's clock
	// Errors are the parts that could not be had, and why.
	Errors map[string]string `json:"errors,omitempty"`

	Hosts     map[string]string `json:"hosts,omitempty"`     // name → address, of the hosts file
	Listening []string          `json:"listening,omitempty"` // IP:port of sockets that take connections

	Envoy     string            `json:"envoy,omitempty"` // version
	State     string            `json:"state,omitempty"` // LIVE, …
	UpSeconds float64           `json:"upSeconds,omitempty"`
	Memory    uint64            `json:"memory,omitempty"` // allocated, bytes
	Listeners []TaskListener    `json:"listeners"`
	Routes    []TaskRoute       `json:"routes"`
	Clusters  []TaskCluster     `json:"clusters"`
	Secrets   []TaskSecret      `json:"secrets"`
	Plain     []string          `json:"plain,omitempty"` // "CLUSTER IP:port" of hosts that are called without TLS although their cluster has it
	Stats     map[string]uint64 `json:"stats,omitempty"`
}

// The states of what an Envoy has.
const (
	Active  = "active"
	Warming = "warming" // it waits for something that it needs
	Broken  = "error"
)

// TaskListener is a listener of an Envoy.
type TaskListener struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	State   string `json:"state"`
	Error   string `json:"error,omitempty"` // in Envoy's words
	Address string `json:"address,omitempty"`
	Route   string `json:"route,omitempty"`   // of http listeners
	Cluster string `json:"cluster,omitempty"` // of tcp listeners
	Secret  string `json:"secret,omitempty"`  // of its certificate
}

// TaskRoute is a route configuration of an Envoy.
type TaskRoute struct {
	Name     string   `json:"name"`
	Version  string   `json:"version,omitempty"`
	Clusters []string `json:"clusters"`
	Timeout  string   `json:"timeout,omitempty"`
	RetryOn  string   `json:"retryOn,omitempty"`
}

// TaskCluster is a cluster of an Envoy.
type TaskCluster struct {
	Name    string     `json:"name"`
	Version string     `json:"version,omitempty"`
	State   string     `json:"state"`
	TLS     bool       `json:"tls,omitempty"`
	SNI     string     `json:"sni,omitempty"`
	SANs    []string   `json:"sans,omitempty"`  // that a peer must have one of
	Trust   string     `json:"trust,omitempty"` // secret with the roots
	Hosts   []TaskHost `json:"hosts"`
}

// TaskHost is an endpoint as an Envoy sees it.
type TaskHost struct {
	Address string   `json:"address"`
	Zone    string   `json:"zone,omitempty"`
	Weight  uint32   `json:"weight,omitempty"`
	Failing []string `json:"failing,omitempty"` // why it is not used: eds_health_unhealthy, failed_outlier_check, …
}

// TaskSecret is a certificate, or trust, of an Envoy.
type TaskSecret struct {
	Name     string    `json:"name"`
	Version  string    `json:"version,omitempty"`
	State    string    `json:"state"`
	Serial   string    `json:"serial,omitempty"`
	NotAfter time.Time `json:"notAfter,omitzero"`
	DNSNames []string  `json:"dnsNames,omitempty"`
	Subjects []string  `json:"subjects,omitempty"` // of trusted roots
}
