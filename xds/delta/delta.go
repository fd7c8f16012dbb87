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
// turns marked names into responses. The rules of the protocol are in books.
package delta

import (
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"patchbay/xds/delta/books"
	figures "patchbay/xds/delta/metrics"
	"patchbay/xds/delta/wire"
)

// Entry is one version of a resource, encoded. It is immutable.
type Entry = wire.Entry

// Ref names a resource.
type Ref = wire.Ref

// Rejection is what an Envoy said of a resource that it did not take.
type Rejection = books.Rejection

// Follower is told how one change goes on.
type Follower = books.Follower

// TypeStatus is what the books say of one type of a stream.
type TypeStatus = books.TypeStatus

// ResourceStatus is one name of a type.
type ResourceStatus = books.ResourceStatus

// NewMetrics registers the engine's metrics with reg, which may be nil. They
// are those of one cache.
func NewMetrics(reg prometheus.Registerer) *figures.Set { return figures.New(reg) }

// The type URLs that are served. A request for any other is ignored.
const (
	ClusterType  = wire.ClusterType
	EndpointType = wire.EndpointType
	MemberType   = wire.MemberType
	SecretType   = wire.SecretType
	ListenerType = wire.ListenerType
	RouteType    = wire.RouteType
)

type kind = wire.Kind

const (
	clusters  = wire.Clusters
	endpoints = wire.Endpoints
	members   = wire.Members
	secrets   = wire.Secrets
	listeners = wire.Listeners
	routes    = wire.Routes
	kinds     = wire.Kinds
)

// NewEntry encodes m, whose type must be that of typeURL. Equal content has the
// same version in every process that runs the same program.
// source says what the resource was made from; it is told to operators only.
func NewEntry(typeURL, name, source string, m proto.Message) (*Entry, error) {
	return wire.NewEntry(typeURL, name, source, m)
}
