// Package watch is the registry's stream of changes, both ends of it: [Log] is
// the server's, [Client] the reader's. It is an extension of Cloud Map: with it
// a control plane hears of a change in milliseconds instead of polling.
//
// It owns the stream's form, resuming and reconnecting. It must not know what
// the registry stores: an event is a hint to ask the API again, never data.
//
// On the wire it is GET [Path], answered by lines of JSON. The first has kind
// "hello", with the epoch (the registry's process), the newest revision, and
// resync: true unless the stream goes on exactly where ?epoch=E&from=REVISION
// asked. Each change is a line as [Event]. A line of kind "resync" says that
// changes were left out, one of kind "heartbeat" comes every five seconds.
//
// Start reading at [Client.Run].
package watch

import "time"

// Path is where the registry serves the stream.
const Path = "/patchbay/v1/watch"

// Kind says what has changed.
type Kind string

const (
	// Namespaces: the event's namespace was created, updated or deleted.
	Namespaces Kind = "namespace"
	// Services: the event's service was created, updated or deleted.
	Services Kind = "service"
	// Attributes: the attributes of the event's service (not of an instance).
	Attributes Kind = "attributes"
	// Instances: one was registered, changed or removed; the service's
	// InstancesRevision is a new one.
	Instances Kind = "instances"
	// Health: of an instance; the revision is as before.
	Health Kind = "health"
	// Resync: anything may have changed. It has neither namespace nor service.
	Resync Kind = "resync"

	hello     Kind = "hello"
	heartbeat Kind = "heartbeat"
)

// Event is a hint that something has changed.
type Event struct {
	// Revision counts the events of one process of the registry, from 1. It
	// has nothing to do with a service's InstancesRevision.
	Revision  uint64 `json:"revision"`
	Kind      Kind   `json:"kind"`
	Namespace string `json:"namespace,omitempty"` // its HttpName
	Service   string `json:"service,omitempty"`   // its name; empty if Kind is Namespaces or Resync
}

// line is what is on the wire.
type line struct {
	Event
	Epoch  string `json:"epoch,omitempty"`
	Resync bool   `json:"resync,omitempty"`
}

const (
	// beat is the pause between heartbeats, patience how long a reader waits
	// for any line before it takes the stream for dead.
	beat     = 5 * time.Second
	patience = 3 * beat
	// writeLimit is how long one write to a reader may take.
	writeLimit = 10 * time.Second
)
