// Package cost says what discovery costs in AWS Cloud Map: a price for each
// operation, and the calls that a mesh of a given size makes in a month.
//
// It owns the price list and the sums. It must not know how calls are made;
// that the sums are true is shown by a simulated day.
//
// Start reading at [Mesh.Month].
package cost

import (
	"slices"
	"time"

	"patchbay/discovery/pace"
)

// The price list, in US dollars. Where it is not certain which of two usage
// types an operation is of, the dearer one stands: these are upper bounds.
const (
	// Dated is the month of the list, Source where it comes from.
	Dated  = "2025-08"
	Source = "AWS Cloud Map price list: $1.00 per million API calls, $0.10 per registered resource and month; Amazon SQS: $0.40 per million requests (public AWS price list, to be checked)"

	perMillion        = 1.00
	perMillionOfQueue = 0.40
	perInstance       = 0.10
)

// Month is the month of bills: thirty days.
const Month = 30 * 24 * time.Hour

// Queue is the operation of receiving events, the only one that is not Cloud
// Map's.
const Queue = "ReceiveMessage"

// Of is the price of one call.
func Of(operation string) float64 {
	if operation == Queue || operation == "DeleteMessageBatch" {
		return perMillionOfQueue / 1e6
	}
	return perMillion / 1e6
}

// Mesh is what the bill depends on.
type Mesh struct {
	Services         int     `json:"services"`
	Managed          int     `json:"managed"`            // of them, registered through patchbay
	Checked          int     `json:"checked"`            // of them, with a health check in Cloud Map
	Instances        int     `json:"instances"`          // all together
	Namespaces       int     `json:"namespaces"`         // followed
	Replicas         int     `json:"replicas"`           // of the control plane
	Shared           bool    `json:"shared"`             // replicas share the polling
	Events           bool    `json:"events"`             // ECS events arrive through a queue
	ChangesPerMinute float64 `json:"changes_per_minute"` // of instances, all services together
}

// Line is a row of a bill.
type Line struct {
	Operation string  `json:"operation"`
	Calls     float64 `json:"calls"` // in a month
	Dollars   float64 `json:"dollars"`
	What      string  `json:"what"` // why, in words
}

// Bill is what a month costs.
type Bill struct {
	Mesh      Mesh    `json:"mesh"`
	Lines     []Line  `json:"lines"` // the dearest first
	Calls     float64 `json:"calls_dollars"`
	Resources float64 `json:"resources_dollars"` // for instances that are registered, whoever asks for them
	Dated     string  `json:"prices_dated"`
	Source    string  `json:"prices_source"`
}

// mean is what a period comes to on average: it is shortened by up to a fifth.
const mean = 0.9

// Schedule is when discovery asks.
type Schedule struct {
	Pace               pace.Rules
	Topology, Settings time.Duration
}

// Month computes the bill for m at that schedule.
func (m Mesh) Month(s Schedule) Bill {
	s.Pace = s.Pace.WithDefaults()
	times := func(period time.Duration) float64 { return float64(Month) / (mean * float64(period)) }
	replicas := float64(max(m.Replicas, 1))
	pollers := replicas
	if m.Shared {
		pollers = 1
	}
	hinted := m.Managed
	if m.Events {
		hinted = m.Services
	}
	polls := float64(hinted)*times(s.Pace.Hinted) + float64(m.Services-hinted)*times(s.Pace.Unhinted)
	// Where health is fetched as often as the service is polled, the fetch is the
	// poll.
	full := float64(m.Checked)*times(s.Pace.Health) + float64(m.Services-m.Checked)*times(s.Pace.Sweep)
	relied := 0.0
	if m.Shared {
		relied = (replicas - 1) * float64(m.Services) * times(s.Pace.Relied)
	}
	found := 0.0 // the replicas look for one another
	if m.Shared {
		found = replicas * (float64(Month)/float64(30*time.Second) + float64(Month)/float64(time.Minute))
	}
	changes := m.ChangesPerMinute * Month.Minutes()
	settings := float64(m.Managed)*times(s.Settings) + float64(m.Services-m.Managed)*times(5*s.Settings)
	lines := []Line{
		{Operation: "DiscoverInstancesRevision", Calls: pollers*max(0, polls-full) + pollers*changes*float64(len(s.Pace.Hot)), What: "has anything changed?"},
		{Operation: "DiscoverInstances", Calls: pollers*full + relied + replicas*changes + found, What: "what has changed, and health"},
		{Operation: "GetServiceAttributes", Calls: pollers*settings + relied, What: "settings of services"},
		{Operation: "ListServices", Calls: replicas * (float64(max(m.Namespaces, 1)) + float64(m.Services/100)) * times(s.Topology), What: "which services there are"},
		{Operation: "ListNamespaces", Calls: replicas * float64(max(m.Namespaces, 1)) * times(s.Topology) / 10, What: "is it still the same namespace?"},
	}
	if m.Events {
		lines = append(lines, Line{Operation: Queue, Calls: replicas * (float64(Month)/float64(20*time.Second) + 2*changes), What: "events of ECS"})
	}
	b := Bill{Mesh: m, Lines: lines, Resources: float64(m.Instances) * perInstance, Dated: Dated, Source: Source}
	for i, l := range b.Lines {
		b.Lines[i].Dollars = l.Calls * Of(l.Operation)
		b.Calls += b.Lines[i].Dollars
	}
	slices.SortStableFunc(b.Lines, func(a, c Line) int {
		switch {
		case a.Dollars > c.Dollars:
			return -1
		case a.Dollars < c.Dollars:
			return 1
		}
		return 0
	})
	return b
}
