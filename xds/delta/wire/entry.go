package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// Kind is a resource type that is served. Their order is the order in which
// additions are sent: what is referred to goes first.
type Kind int

// The kinds, and their number.
const (
	Clusters Kind = iota
	Endpoints
	Members // of endpoint collections (LEDS)
	Secrets
	Listeners
	Routes
	Kinds
)

// The type URLs that are served. A request for any other is ignored.
const (
	ClusterType  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	EndpointType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	MemberType   = "type.googleapis.com/envoy.config.endpoint.v3.LbEndpoint"
	SecretType   = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret" //nolint:gosec // a type's name
	ListenerType = "type.googleapis.com/envoy.config.listener.v3.Listener"
	RouteType    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
)

var typeURLs = [Kinds]string{ClusterType, EndpointType, MemberType, SecretType, ListenerType, RouteType}

// kindNames are the short names in metrics, logs and the status.
var kindNames = [Kinds]string{"cds", "eds", "leds", "sds", "lds", "rds"}

// String is the short name.
func (k Kind) String() string { return kindNames[k] }

// TypeURL is the type's URL.
func (k Kind) TypeURL() string { return typeURLs[k] }

// Wildcards reports whether a client may ask for all resources of the type. A
// wildcard for secrets would give away keys; Envoy asks for the others by name.
func (k Kind) Wildcards() bool { return k == Clusters || k == Listeners }

// KindOf is the kind of a type URL.
func KindOf(typeURL string) (Kind, bool) {
	for k, url := range typeURLs {
		if url == typeURL {
			return Kind(k), true
		}
	}
	return 0, false
}

// Collection is the name by which clients ask for a member: its own with the
// last segment replaced by "*". That of a collection is itself.
func Collection(member string) string {
	return member[:strings.LastIndexByte(member, '/')+1] + "*"
}

// IsCollection reports whether a name is that of a collection.
func IsCollection(name string) bool { return strings.HasSuffix(name, "/*") }

// Ref names a resource.
type Ref struct{ TypeURL, Name string }

// String is "type name" with the type's short name.
func (r Ref) String() string {
	if k, ok := KindOf(r.TypeURL); ok {
		return k.String() + " " + r.Name
	}
	return r.TypeURL + " " + r.Name
}

// Entry is one version of a resource, encoded. It is immutable: all streams
// send the same bytes.
type Entry struct {
	kind    Kind
	name    string
	source  string
	version uint64          // of the content; never 0, which means "none"
	wire    mem.SliceBuffer // one whole field 2 of DeltaDiscoveryResponse, tag included
	part    mem.Buffer      // the same, made an interface once and not in each response
	refers  []string
	solo    atomic.Pointer[solo]
}

// solo is a response that holds one entry and nothing else.
type solo struct {
	seq   uint64
	frame *Frame
}

// NewEntry encodes m, whose type must be that of typeURL. Equal content has the
// same version in every process that runs the same program.
// source says what the resource was made from; it is told to operators only.
func NewEntry(typeURL, name, source string, m proto.Message) (*Entry, error) {
	k, ok := KindOf(typeURL)
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
	e := &Entry{kind: k, name: name, source: source, version: max(binary.BigEndian.Uint64(sum[:]), 1)}
	e.wire = appendResource(nil, typeURL, name, e.Version(), body)
	e.part = e.wire
	return e, nil
}

// EmptyAssignment has no endpoints: Envoy stops waiting for a cluster's. It is
// nil if the name is not UTF-8, which the decoder refuses.
func EmptyAssignment(name string) *Entry {
	e, err := NewEntry(EndpointType, name, "no such service", &endpointv3.ClusterLoadAssignment{ClusterName: name})
	if err != nil {
		return nil
	}
	return e
}

// Claimed is an entry without content: nothing is known of it but that a client
// says that it has this version.
func Claimed(name string, version uint64) *Entry { return &Entry{name: name, version: version} }

// Named is no version of anything: it only says a name.
func Named(name string) *Entry { return &Entry{name: name} }

// Referring is a copy of an assignment's entry that says in which collections
// its other endpoints are.
func (e *Entry) Referring(collections []string) *Entry {
	return &Entry{kind: e.kind, name: e.name, source: e.source, version: e.version, wire: e.wire, part: e.part, refers: collections}
}

// Collections are those that an assignment refers to.
func (e *Entry) Collections() []string { return e.refers }

// Ref names the resource.
func (e *Entry) Ref() Ref { return Ref{typeURLs[e.kind], e.name} }

// Kind and Name are the two halves of Ref.
func (e *Entry) Kind() Kind { return e.kind }

// Name is unique in the kind.
func (e *Entry) Name() string { return e.name }

// Source says what the resource was made from.
func (e *Entry) Source() string { return e.source }

// Solo is a response that holds this entry alone, and its number, which is
// also its nonce. It is greater than after, and next makes it if need be: of
// all streams that are sent one change, the first makes the frame for all.
func (e *Entry) Solo(after uint64, next func() uint64) (f *Frame, seq uint64, shared bool) {
	if s := e.solo.Load(); s != nil && s.seq > after {
		return s.frame, s.seq, true
	}
	s := &solo{seq: next()}
	s.frame = NewFrame(e.kind.TypeURL(), Nonce(s.seq), []*Entry{e}, nil)
	e.solo.Store(s)
	return s.frame, s.seq, false
}

// Version is a short hash of the content.
func (e *Entry) Version() string { return FormatVersion(e.version) }

// Hash is the version as a number, never 0.
func (e *Entry) Hash() uint64 { return e.version }

// Bytes is the encoded resource, see [appendResource]. It must not be changed.
func (e *Entry) Bytes() []byte { return e.wire }

// String names the entry without its content: it may hold a key.
func (e *Entry) String() string { return e.Ref().String() + "@" + e.Version() }

// GoString is String: %#v must not print the content either.
func (e *Entry) GoString() string { return e.String() }

// FormatVersion writes a version; 0 is "".
func FormatVersion(v uint64) string {
	if v == 0 {
		return ""
	}
	return strconv.FormatUint(v, 36)
}

// ParseVersion reads a version that a client claims to hold. One that is not
// ours equals no entry's.
func ParseVersion(s string) uint64 {
	v, err := strconv.ParseUint(s, 36, 64)
	if err != nil || v == 0 || FormatVersion(v) != s {
		return ^uint64(0)
	}
	return v
}
