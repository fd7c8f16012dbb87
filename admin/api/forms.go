// Package api is what the operator's interface of the control plane answers
// under /api/v1/, as Go types, and a [Client] for it.
//
// It owns the forms, which are a contract: a field may be added, none changes
// its meaning. No form has room for a key. It must not know where the answers
// come from. Start reading at [Status].
package api

import (
	"time"

	"patchbay/mesh/policy"
)

// Status is GET /api/v1/status: the whole mesh, a line for each sidecar and
// each service.
type Status struct {
	Version    string      `json:"version"` // of the control plane
	Replica    string      `json:"replica"` // its name
	At         time.Time   `json:"at"`      // by the control plane's clock
	Started    time.Time   `json:"started"`
	Ready      bool        `json:"ready"`
	Reasons    []string    `json:"reasons"` // why it is not ready
	Sidecars   []Sidecar   `json:"sidecars"`
	Services   []Service   `json:"services"`
	Namespaces []Namespace `json:"namespaces"`
	Issuers    []Issuer    `json:"issuers"`
	// Conflicts are services that workloads may offer and the registrar may not
	// write to.
	Conflicts []Conflict `json:"conflicts,omitempty"`
	// Events is the queue that tells of ECS tasks; absent without one.
	Events *Events `json:"events,omitempty"`
	// Replicas are the others of this control plane; absent if there is one only.
	Replicas []Replica `json:"replicas,omitempty"`
	// Registry is how the calls of the registry fare.
	Registry *Calls `json:"registry,omitempty"`
	// Content is a hash of all services with their endpoints, as this replica
	// serves them; empty if there is one only.
	Content string `json:"content,omitempty"`
	// Callers are the workloads that call services which ask for certificates.
	Callers []Caller `json:"callers,omitempty"`
	// SurvivableSeconds is how long all certificates are valid if no CA ever
	// answers again; absent if no service has TLS.
	SurvivableSeconds *float64 `json:"survivableSeconds,omitempty"`
}

// Sidecar is one task: what its agent says, and what its Envoy has taken.
type Sidecar struct {
	Node         string       `json:"node"` // namespace/workload/task
	Address      string       `json:"address,omitempty"`
	Zone         string       `json:"zone,omitempty"`
	Agent        *Agent       `json:"agent,omitempty"`  // absent: no agent is connected
	Stream       *Stream      `json:"stream,omitempty"` // absent: no Envoy is connected
	LeafNotAfter time.Time    `json:"leafNotAfter,omitzero"`
	Replica      string       `json:"replica"`
	Ports        []PortStatus `json:"ports"`
}

// Agent is a connected sidecar agent.
type Agent struct {
	Version      string    `json:"version"`
	EnvoyVersion string    `json:"envoyVersion"`
	Wiring       string    `json:"wiring"`
	Since        time.Time `json:"since"`
	LastHealth   time.Time `json:"lastHealth,omitzero"`
	EnvoyReady   bool      `json:"envoyReady"`
	EnvoyError   string    `json:"envoyError,omitempty"`
	Draining     bool      `json:"draining,omitempty"`
	NamesCurrent bool      `json:"namesCurrent"` // the newest names stand in its hosts file
	NamesWaiting []string  `json:"namesWaiting,omitempty"`
	NamesRefused []string  `json:"namesRefused,omitempty"`
	Dependencies []string  `json:"dependencies,omitempty"` // discoveryNames of what the task calls; empty: it may call all
	Rivalry      *Rivalry  `json:"rivalry,omitempty"`
}

// Rivalry is how often streams of one node have taken each other's place within
// the last minute, and from which addresses. One that connects anew may do so
// once; two tasks of one name do it again and again.
type Rivalry struct {
	Count     int      `json:"count"`
	Addresses []string `json:"addresses"`
}

// PortStatus is one port that a task offers.
type PortStatus struct {
	PortName   string `json:"portName"`
	Service    string `json:"service"`
	Health     string `json:"health"`
	Why        string `json:"why,omitempty"` // it is not healthy
	Registered bool   `json:"registered"`
	Error      string `json:"error,omitempty"`
}

// Stream is the xDS stream of a connected Envoy.
type Stream struct {
	View   string     `json:"view"`
	Opened time.Time  `json:"opened"`
	Types  []TypeSync `json:"types"` // in the order of sending
	// Warming says for what each cluster without an ACK may be waiting.
	Warming []string `json:"warming,omitempty"`
	// Missing are secrets that Envoy asks for and that do not exist.
	Missing []string `json:"missing,omitempty"`
}

// The states of one type of a stream, from good to bad.
const (
	Synced   = "synced"   // everything was taken
	Waiting  = "waiting"  // Envoy has not answered yet
	Stale    = "stale"    // something changed and could not be sent yet
	Rejected = "rejected" // Envoy refuses a resource; what it had stays
)

// TypeSync is how far an Envoy is with one type of resource.
type TypeSync struct {
	Type       string    `json:"type"` // cds, eds, lds, rds, sds
	State      string    `json:"state"`
	Since      time.Time `json:"since,omitzero"` // of waiting, of the oldest change not sent, or of the newest rejection
	Resources  int       `json:"resources"`
	Names      []string  `json:"names,omitempty"` // that it waits for or rejects; at most [MaxNames]
	More       int       `json:"more,omitempty"`  // how many are left out of Names
	Rejections []Refusal `json:"rejections,omitempty"`
	LastAck    time.Time `json:"lastAck,omitzero"`
	// LastAckSeconds is how long the last answer took, from its sending.
	LastAckSeconds float64 `json:"lastAckSeconds,omitempty"`
}

// MaxNames bounds the names of a [TypeSync].
const MaxNames = 8

// Refusal is a resource that an Envoy does not take, in Envoy's words.
type Refusal struct {
	Name    string    `json:"name"`
	Version string    `json:"version"`
	Error   string    `json:"error"`
	At      time.Time `json:"at"`
}

// Service is one service of the mesh.
type Service struct {
	Name       string         `json:"name"` // discoveryName.namespace
	ARN        string         `json:"arn,omitempty"`
	Protocol   string         `json:"protocol,omitempty"` // empty: it is not shown to sidecars yet
	Foreign    bool           `json:"foreign,omitempty"`
	External   []string       `json:"external,omitempty"` // HOST:PORT where its calls go: a target outside the mesh, without endpoints
	Callers    []string       `json:"callers,omitempty"`  // of a target outside the mesh, names of the workloads that may call it; absent: all of its namespace
	Created    time.Time      `json:"created,omitzero"`
	Aliases    []Alias        `json:"aliases"`
	Endpoints  map[string]int `json:"endpoints"`            // health → how many
	Zones      map[string]int `json:"zones,omitempty"`      // zone id → how many
	Revisions  map[string]int `json:"revisions,omitempty"`  // deployment → weight
	Deployment *Deployment    `json:"deployment,omitempty"` // absent: its endpoints are called alike
	Encrypted  int            `json:"encrypted"`            // of the endpoints, those that speak TLS
	TLS        *TLS           `json:"tls,omitempty"`
	// MutualTLS and Authorization are of its policy; absent: off, everybody may.
	MutualTLS     *policy.MutualTLS     `json:"mutualTls,omitempty"`
	Authorization *policy.Authorization `json:"authorization,omitempty"`
	// EncryptedShare is how many of the connections to it were TLS 1.3, from 0
	// to 1, as callers' sidecars have counted; absent: it has no TLS, or there
	// was none yet.
	EncryptedShare *float64       `json:"encryptedShare,omitempty"`
	Source         string         `json:"source"` // live, last-known-good, waiting, unfinished
	AgeSeconds     *float64       `json:"ageSeconds,omitempty"`
	Held           int            `json:"held,omitempty"` // endpoints shown although the newest answer lacks them
	Skipped        map[string]int `json:"skipped,omitempty"`
	Strangers      []string       `json:"strangers,omitempty"` // instances in a service of ours that patchbay did not register
	Error          string         `json:"error,omitempty"`
	Settings       string         `json:"settings,omitempty"` // what is wrong with its settings
}

// Deployment is how the calls of a service are divided among its revisions.
type Deployment struct {
	ID       string             `json:"id"` // of the order
	From     string             `json:"from,omitempty"`
	To       string             `json:"to"`
	Percent  map[string]float64 `json:"percent"`                   // revision → share of the calls
	Test     string             `json:"test,omitempty"`            // the revision that test traffic reaches
	Weights  []float64          `json:"weights"`                   // of To, step by step, in percent
	Step     int                `json:"step"`                      // which of them is in force, from 0
	Since    time.Time          `json:"since"`                     // since when
	Next     time.Time          `json:"next,omitzero"`             // when the next step is due
	Rollback float64            `json:"rollbackPercent,omitempty"` // of failed requests, above which it is called off
	Ended    string             `json:"ended,omitempty"`           // why it was called off
	Waiting  *Incoming          `json:"waiting,omitempty"`         // what comes next as the service declares
	Held     string             `json:"held,omitempty"`            // why the next step waits
	Stuck    string             `json:"stuck,omitempty"`           // why it could not be called off
	Spared   string             `json:"spared,omitempty"`          // why calls are divided otherwise than was ordered
}

// Incoming is a revision whose calls move by themselves when it is complete.
type Incoming struct {
	Revision  string `json:"revision"`
	Endpoints int    `json:"endpoints"`      // that can be called
	Needed    int    `json:"needed"`         // as many as the revision in production has
	Busy      bool   `json:"busy,omitempty"` // another shift is under way
}

// Alias is a name and port under which a service is called.
type Alias struct {
	DNSName string `json:"dnsName"`
	Port    uint16 `json:"port"`
	VIP     string `json:"vip,omitempty"`
	LostTo  string `json:"lostTo,omitempty"` // the older service that has this alias
}

// Caller is a workload that has, or should have, a certificate to call with.
type Caller struct {
	Workload string `json:"workload"` // namespace/name
	SPIFFEID string `json:"spiffeId"`
	TLS      TLS    `json:"tls"`
}

// TLS is a service's certificate. It has no room for the key.
type TLS struct {
	Issuer    string    `json:"issuer"`
	Only      bool      `json:"only,omitempty"`
	Names     []string  `json:"names"`
	Serial    string    `json:"serial,omitempty"` // lower-case hex; empty: there is none yet
	IssuedAt  time.Time `json:"issuedAt,omitzero"`
	NotAfter  time.Time `json:"notAfter,omitzero"`
	NextTry   time.Time `json:"nextTry,omitzero"`
	Failures  int       `json:"failures,omitempty"`
	LastError string    `json:"lastError,omitempty"`
	Alarm     bool      `json:"alarm,omitempty"`
	NotStored string    `json:"notStored,omitempty"`
	// OnPurpose says that it is shown instead of the service's own, to expire:
	// `patchbay fault expire`.
	OnPurpose bool `json:"onPurpose,omitempty"`
}

// Namespace is one namespace of the registry.
type Namespace struct {
	Name     string            `json:"name"`
	Synced   bool              `json:"synced"`
	Waiting  []string          `json:"waiting,omitempty"`
	Stale    bool              `json:"stale,omitempty"`
	Listed   time.Time         `json:"listed,omitzero"`
	Error    string            `json:"error,omitempty"`
	Rejected map[string]string `json:"rejected,omitempty"` // service of the registry → why it can't be used
}

// Issuer is a certificate authority.
type Issuer struct {
	Name      string    `json:"name"`
	Roots     int       `json:"roots"`
	LastSeen  time.Time `json:"lastSeen,omitzero"`
	LastError string    `json:"lastError,omitempty"`
	ErrorAt   time.Time `json:"errorAt,omitzero"`
}

// Endpoint is one instance of a service.
type Endpoint struct {
	InstanceID string `json:"instanceId"`
	Address    string `json:"address"` // IP:port
	Zone       string `json:"zone,omitempty"`
	Health     string `json:"health"`
	Weight     uint32 `json:"weight"`
	Revision   string `json:"revision,omitempty"`
	TLS        bool   `json:"tls"`
}

// ServiceDetail is GET /api/v1/service?name=discoveryName.namespace.
type ServiceDetail struct {
	Service
	Instances         []Endpoint `json:"instances"`
	RootsPEM          string     `json:"rootsPem,omitempty"` // what callers trust for it
	IdleSeconds       *float64   `json:"idleSeconds,omitempty"`
	PerRequestSeconds *float64   `json:"perRequestSeconds,omitempty"`
}
