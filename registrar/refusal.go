package registrar

import (
	"errors"
	"fmt"

	"patchbay/mesh"
)

// Why a registration is refused. Match with errors.Is; every error that
// matches one of them is a *Refusal. Other errors are failures of the
// registry: trying again may help.
var (
	ErrInvalid    = errors.New("the request is not well-formed")
	ErrNotOffered = errors.New("the workload does not offer this service")
	ErrAddress    = errors.New("not the address of the caller")
	ErrAliasHeld  = errors.New("the alias is held by another service")
	ErrProtocol   = errors.New("the protocol of a service can't change")
	ErrForeign    = errors.New("the service is not patchbay's to write to")
	ErrOtherOwner = errors.New("the instance belongs to another workload")
	ErrNamespace  = errors.New("the namespace can't be used")
	ErrNoRoom     = errors.New("no room")
)

// ErrNotRegistered is what SetHealth and Heartbeat return for an instance that
// the registry does not have: it should be registered again.
var ErrNotRegistered = errors.New("the instance is not registered")

// Refusal says exactly what is wrong with a registration, and what to do.
type Refusal struct {
	Reason  error // one of the errors above
	Service mesh.ServiceName
	ARN     string // of the Cloud Map resource that stands in the way; may be empty
	What    string
	Remedy  string
}

// Error is one sentence for the operator of the task.
func (r *Refusal) Error() string {
	arn := ""
	if r.ARN != "" {
		arn = " (" + r.ARN + ")"
	}
	return fmt.Sprintf("register %s: %s%s; %s", r.Service, r.What, arn, r.Remedy)
}

// Unwrap is the reason.
func (r *Refusal) Unwrap() error { return r.Reason }
