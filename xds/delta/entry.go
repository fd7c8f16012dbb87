// Package delta serves Envoys by incremental ADS: one stream for each Envoy,
// on which it is told what changed and nothing else.
//
// It owns the protocol: subscriptions, versions, nonces, the order in which
// types are sent, ACKs and rejections. It must not know the mesh, services or
// where resources come from; a resource is a name, a version and bytes.
//
// Four ideas carry it. An [Entry] is a resource encoded once, whose bytes all
// streams share. A view is a set of entries that many streams see; [Cache]
// holds the views and knows for each name who subscribes to it. A [Stream] is
// one Envoy: it has its private entries, and for each type a set of names that
// it must hear of next, which one goroutine sends. The books of a stream say
// what it asked for, what it was told, and what it made of it.
//
// Start reading at Cache.Apply, which marks names, then Stream.collect, which
// turns marked names into responses.
package delta

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"patchbay/xds/delta/wire"
)

// kind is a resource type that we serve. Their order is the order in which the
// additions of one flush are sent: what is referred to goes first.
type kind int

const (
	clusters kind = iota
	endpoints
	secrets
	listeners
	routes
	kinds
)

// The type URLs that are served. A request for any other is ignored.
const (
	ClusterType  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	EndpointType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	SecretType   = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret" //nolint:gosec // a type's name
	ListenerType = "type.googleapis.com/envoy.config.listener.v3.Listener"
	RouteType    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
)

var typeURLs = [kinds]string{ClusterType, EndpointType, SecretType, ListenerType, RouteType}

// kindNames are the short names in metrics, logs and the status.
var kindNames = [kinds]string{"cds", "eds", "sds", "lds", "rds"}

func (k kind) String() string { return kindNames[k] }

// wildcards reports whether a client may ask for all resources of the type. A
// wildcard for secrets would give away keys; Envoy asks for the others by name.
func (k kind) wildcards() bool { return k == clusters || k == listeners }

func kindOf(typeURL string) (kind, bool) {
	for k, url := range typeURLs {
		if url == typeURL {
			return kind(k), true
		}
	}
	return 0, false
}

// Ref names a resource.
type Ref struct{ TypeURL, Name string }

// String is "type name" with the type's short name.
func (r Ref) String() string {
	if k, ok := kindOf(r.TypeURL); ok {
		return k.String() + " " + r.Name
	}
	return r.TypeURL + " " + r.Name
}

// Entry is one version of a resource, encoded. It is immutable: all streams
// send the same bytes.
type Entry struct {
	kind    kind
	name    string
	version uint64 // of the content; never 0, which means "none"
	wire    []byte // one whole field 2 of DeltaDiscoveryResponse, tag included
}

// NewEntry encodes m, whose type must be that of typeURL. Equal content has the
// same version in every process that runs the same program.
func NewEntry(typeURL, name string, m proto.Message) (*Entry, error) {
	k, ok := kindOf(typeURL)
	if !ok {
		return nil, fmt.Errorf("encode %s: the type %q is not served", name, typeURL)
	}
	if have := string(m.ProtoReflect().Descriptor().FullName()); !strings.HasSuffix(typeURL, "/"+have) {
		return nil, fmt.Errorf("encode %s: the message is a %s, not a %s", name, have, typeURL)
	}
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", name, err)
	}
	sum := sha256.Sum256(body)
	e := &Entry{kind: k, name: name, version: max(binary.BigEndian.Uint64(sum[:]), 1)}
	e.wire = wire.AppendResource(nil, typeURL, name, e.Version(), body)
	return e, nil
}

// Ref names the resource.
func (e *Entry) Ref() Ref { return Ref{typeURLs[e.kind], e.name} }

// Version is a short hash of the content.
func (e *Entry) Version() string { return formatVersion(e.version) }

// Size is the number of bytes that the entry adds to a response.
func (e *Entry) Size() int { return len(e.wire) }

// String names the entry without its content: it may hold a key.
func (e *Entry) String() string { return e.Ref().String() + "@" + e.Version() }

// GoString is String: %#v must not print the content either.
func (e *Entry) GoString() string { return e.String() }

func formatVersion(v uint64) string {
	if v == 0 {
		return ""
	}
	return strconv.FormatUint(v, 36)
}

// parseVersion reads a version that a client claims to hold. One that is not
// ours equals no entry's.
func parseVersion(s string) uint64 {
	v, err := strconv.ParseUint(s, 36, 64)
	if err != nil || v == 0 || formatVersion(v) != s {
		return ^uint64(0)
	}
	return v
}
