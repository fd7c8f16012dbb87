// Package state holds the registry's records in memory, with everything that
// is looked up by something other than its id, and writes each change to a
// store before anybody sees it.
//
// It owns transactions: they run one after another, those that come together
// share one write to the store, and readers never see what isn't durable. It
// must not know the rules of Cloud Map.
//
// Start reading at [DB.Update].
package state

import (
	"encoding/json"
	"time"

	"patchbay/registry/cloudmap"
)

// Namespace is a namespace's record.
type Namespace struct {
	ID, Name, HTTPName, Type string
	VPC                      string `json:",omitempty"`
	Description              string
	HostedZone               string `json:",omitempty"`
	SOATTL                   int64
	Created                  time.Time
	Creator                  string            // CreatorRequestId
	Tags                     map[string]string `json:",omitempty"`
	Services                 int               // how many it has
	// Floor is the highest revision that a deleted service had. New services
	// start there, so that no revision ever comes twice.
	Floor int64
}

// Service is a service's record.
type Service struct {
	ID, NamespaceID, Name, Type string
	Description                 string
	DNS                         *cloudmap.DNSConfig               `json:",omitempty"`
	Check                       *cloudmap.HealthCheckConfig       `json:",omitempty"`
	Custom                      *cloudmap.HealthCheckCustomConfig `json:",omitempty"`
	Created                     time.Time
	Creator                     string
	Tags                        map[string]string `json:",omitempty"`
	Attributes                  map[string]string `json:",omitempty"`
}

// Members is what changes of a service with its instances. It is apart from
// the service since that may be large and this is written often. Its key is
// the service's id.
type Members struct {
	Instances int   // how many there are
	Revision  int64 // +1 for each change of them, never for health
}

// Instance is an instance's record. Its key is InstanceKey.
type Instance struct {
	ServiceID, ID string
	Creator       string
	Attributes    map[string]string
	Health        string        // as last set; empty if the service has no custom check
	Next          *HealthChange `json:",omitempty"`
	Lease         int           `json:",omitempty"` // seconds; 0 is none
	Expired       bool          `json:",omitempty"` // the lease has run out once
}

// HealthChange is a health that has been set but is not yet to be seen.
type HealthChange struct {
	Status string
	At     time.Time
}

// InstanceKey is the key of an instance. No service id has a slash.
func InstanceKey(service, instance string) string { return service + "/" + instance }

// Key is i's.
func (i *Instance) Key() string { return InstanceKey(i.ServiceID, i.ID) }

// Period is that of i's lease; zero if it has none.
func (i *Instance) Period() time.Duration { return time.Duration(i.Lease) * time.Second }

// Operation is the record of an asynchronous operation.
type Operation struct {
	ID, Type             string
	Created, Due         time.Time
	Finished             time.Time // zero until then
	ErrorCode, ErrorText string    // both empty for a success
	Targets              map[string]string
	Namespace, Service   string          // ids, for filters
	Lock                 string          // what no other operation may work on until it has finished
	Token, TokenHash     string          // of the request; empty if it had none
	Payload              json.RawMessage `json:",omitempty"` // what is to be done; emptied at the end
}

// Done says whether o has finished.
func (o *Operation) Done() bool { return !o.Finished.IsZero() }

// Floor is the highest revision of all deleted namespaces; its key is FloorKey.
type Floor struct{ Revision int64 }

// FloorKey is the one key in Floors.
const FloorKey = "floor"
