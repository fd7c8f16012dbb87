package api

import (
	"time"

	"patchbay/mesh/policy"
)

// Plan is the body of POST /api/v1/diff: a change that is not made yet.
type Plan struct {
	Services []Planned `json:"services"`
	// Config is the control plane's file by its keys; nil: it does not change.
	Config map[string]any `json:"config,omitempty"`
}

// Planned is a service as a declaration would make it.
type Planned struct {
	Namespace         string   `json:"namespace"`
	DiscoveryName     string   `json:"discoveryName"`
	Protocol          string   `json:"protocol"`
	Aliases           []Alias  `json:"aliases"` // an empty name is discoveryName.namespace
	Issuer            string   `json:"issuer,omitempty"`
	TLSOnly           bool     `json:"tlsOnly,omitempty"`
	KMSKey            string   `json:"kmsKey,omitempty"`
	IdleSeconds       *float64 `json:"idleSeconds,omitempty"`
	PerRequestSeconds *float64 `json:"perRequestSeconds,omitempty"`
	// Policy is what it wants of its callers.
	Policy *policy.Policy `json:"policy,omitempty"`
}

// The kinds of a forecast.
const (
	Added   = "added"
	Changed = "changed"
	Removed = "removed"
)

// Forecast is what a [Plan] would change.
type Forecast struct {
	At time.Time `json:"at"`
	// Refused is what the mesh would not take, in words, and Notes what must be
	// known.
	Refused []string `json:"refused,omitempty"`
	Notes   []string `json:"notes,omitempty"`
	// Config are the keys of the control plane's file that change.
	Config    []Change           `json:"config,omitempty"`
	Services  []ServiceForecast  `json:"services"`
	Resources []ResourceForecast `json:"resources"`
	Sidecars  []string           `json:"sidecars"` // that would be sent something
}

// ServiceForecast is one service that would change.
type ServiceForecast struct {
	Name    string   `json:"name"`
	Kind    string   `json:"kind"`
	Changes []Change `json:"changes,omitempty"`
}

// ResourceForecast is one resource of a view that would change.
type ResourceForecast struct {
	View     string   `json:"view"`
	Sidecars int      `json:"sidecars"` // that see the view
	Type     string   `json:"type"`
	Name     string   `json:"name"`
	Kind     string   `json:"kind"`
	Cuts     string   `json:"cuts,omitempty"` // which connections end, in words
	Changes  []Change `json:"changes,omitempty"`
}
