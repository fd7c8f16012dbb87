// Package record is the written form of the mesh in Cloud Map: which
// attributes an instance and a service carry, and what they mean. The table
// for operators is docs/reference/cloudmap-attributes.md.
//
// It owns the names of the attributes, their limits, and both directions of
// the codec. It must not know how attributes are fetched or stored: it is pure
// and imports the standard library and mesh only.
//
// Start reading at [Instance], then [Settings], then [Plan].
package record

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"

	"patchbay/mesh"
)

// Attributes of an instance. Those that start with AWS_ are Cloud Map's own.
const (
	AttrIPv4       = "AWS_INSTANCE_IPV4"
	AttrIPv6       = "AWS_INSTANCE_IPV6"
	AttrPort       = "AWS_INSTANCE_PORT"
	AttrInitHealth = "AWS_INIT_HEALTH_STATUS"
	AttrZone       = "AVAILABILITY_ZONE_ID"

	AttrTLS      = "PATCHBAY_TLS"
	AttrRevision = "PATCHBAY_REVISION"
	AttrSettings = "PATCHBAY_SETTINGS"
	AttrProtocol = "PATCHBAY_PROTOCOL"
	AttrOwner    = "PATCHBAY_OWNER"
	AttrTask     = "PATCHBAY_TASK"
	AttrSince    = "PATCHBAY_SINCE"
	AttrLease    = "PATCHBAY_LEASE_SECONDS"
)

// ReplicasService is the name of the service whose instances are the replicas of
// the control plane. It is no service of the mesh, and nobody else's.
const ReplicasService = "patchbay-replicas"

// Attributes of a service.
const (
	// AttrCurrent holds the hash of the settings document that is in force.
	AttrCurrent = "patchbay.settings.current"
	// AttrVIPs holds the assigned virtual IPs as JSON, dnsName → address.
	// Further chunks are AttrVIPs + ".1" and so on.
	AttrVIPs = "patchbay.vips"

	// AttrShift holds how calls are to move between revisions, as JSON; only
	// orders of operators write it.
	AttrShift = "patchbay.shift"
	// AttrShiftStep is how far that is: "ID STEP TIME", the time in Unix
	// milliseconds. Control planes write it.
	AttrShiftStep = "patchbay.shift.step"
	// AttrShiftEnd says that it was called off: "ID TIME REASON".
	AttrShiftEnd = "patchbay.shift.end"

	settingsPrefix = "patchbay.settings."
)

// What marks a service as ours, so that the registrar may write to it.
const (
	// TagManagedBy is the tag of a service that patchbay may write to; its
	// value is TagManagedByValue.
	TagManagedBy      = "patchbay:managed-by"
	TagManagedByValue = "patchbay"
	// TagWorkload names the workload that first offered the service.
	TagWorkload = "patchbay:workload"
	// Description is that of a service which patchbay made. A listing shows
	// it without a further call: such a service without a readable settings
	// document is unfinished, not foreign.
	Description = "managed by patchbay"
)

// Limits of Cloud Map (API model of 2017-03-14), and our share of them.
const (
	MaxValue        = 1024 // bytes of one attribute value
	MaxServiceAttrs = 30   // attributes of a service
	MaxSettingsKeys = 20   // of those, chunks of settings documents
	maxVIPKeys      = 8    // and chunks of the VIP table
	maxInstanceID   = 64
	documentsKept   = 2
)

// Errors of instances, besides those of [mesh.CleanAddr].
var (
	// ErrTLSFlag says that PATCHBAY_TLS can't be understood; such an instance
	// is skipped, since plain text must never be a guess.
	ErrTLSFlag = errors.New(AttrTLS + ` is neither "true" nor "false"`)
)

// Reason is the short, stable word under which a skipped instance is counted.
func Reason(err error) string {
	for _, r := range []struct {
		err  error
		word string
	}{
		{mesh.ErrNoAddress, "no_address"},
		{mesh.ErrHostName, "host_name"},
		{mesh.ErrScoped, "scoped_address"},
		{mesh.ErrUnspecified, "unspecified_address"},
		{mesh.ErrLinkLocal, "link_local_address"},
		{mesh.ErrVirtual, "virtual_ip"},
		{mesh.ErrPort, "bad_port"},
		{ErrTLSFlag, "bad_tls_flag"},
	} {
		if errors.Is(err, r.err) {
			return r.word
		}
	}
	return "other"
}

// InstanceID is the id of a task's port in Cloud Map: "TASK.PORTNAME", at most
// 64 characters. A longer one is cut and ends in a hash of the whole.
func InstanceID(task, portName string) string {
	id := task + "." + portName
	if len(id) <= maxInstanceID {
		return id
	}
	sum := hash([]byte(id))
	return id[:maxInstanceID-len(sum)-1] + "." + sum
}

// hash is the version of a document: 16 hex digits.
func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// printable reports whether s can stand in an attribute value, even when it is
// cut anywhere: visible ASCII only.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
