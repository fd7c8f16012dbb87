package api

import "time"

// Conflict is a service of the registry in the way of one that a workload may
// offer.
type Conflict struct {
	Service string `json:"service"`       // discoveryName.namespace
	ARN     string `json:"arn,omitempty"` // of what is in the way
	What    string `json:"what"`
	Remedy  string `json:"remedy"`
}

// Events is the queue of events of ECS.
type Events struct {
	Queue    string    `json:"queue"`    // its URL
	Standing bool      `json:"standing"` // they arrive; if not, changes are found by polling
	Answered time.Time `json:"answered,omitzero"`
	Tasks    uint64    `json:"tasks"` // changes that were taken as hints, since the start
	Error    string    `json:"error,omitempty"`
}

// Replica is another replica of the control plane.
type Replica struct {
	Address string `json:"address"`
	Heard   bool   `json:"heard"` // it shares the polling
	// Since is when it was heard, or fell silent. Content is that of [Status], as
	// it says; Differs is since when that is another than here, absent if it is not.
	Since   time.Time `json:"since,omitzero"`
	Content string    `json:"content,omitempty"`
	Differs time.Time `json:"differsSince,omitzero"`
}

// Calls is how the calls of the registry fare.
type Calls struct {
	Total     uint64  `json:"total"` // since the start
	Failed    uint64  `json:"failed"`
	Throttled uint64  `json:"throttled"`
	Dollars   float64 `json:"dollars"` // by AWS's price list
	// LastThrottled is when the registry last answered that there are too many.
	// Slowed says which operations are called more slowly since, and by how much:
	// the share of their budget that they keep to.
	LastThrottled time.Time          `json:"lastThrottled,omitzero"`
	Slowed        map[string]float64 `json:"slowed,omitempty"`
}
