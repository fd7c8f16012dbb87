package wire

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

// Limits of what one client may ask. An Envoy 1.40 node has about 60 kB, one
// in AWS's form 78 kB.
const (
	MaxRequest = 4 << 20
	maxNode    = 256 << 10
	MaxNames   = 20_000 // subscribed on one stream, and in one request
)

// Request is what the engine reads of a DeltaDiscoveryRequest. It is received
// as it is: [Codec] fills it.
type Request struct {
	// Known, set before receiving, is the Sum of a node that is as good as none:
	// older Envoys repeat theirs on every message.
	Known uint64

	Node        []byte // encoded, without its extensions; nil if there is none
	Sum         uint64 // of the node as it came, in this process; 0 if there is none
	TypeURL     string
	Subscribe   []string
	Unsubscribe []string
	Versions    map[string]string // initial_resource_versions
	Nonce       string
	Rejected    bool   // error_detail is there
	Reason      string // its message, clipped
	Err         error  // why it could not be read, in words for the client
}

// seed makes the sums of nodes differ from process to process, so that nobody
// can make two nodes of one sum.
var seed = maphash.MakeSeed()

var errMalformed = errors.New("the request is not a valid DeltaDiscoveryRequest")

// Receive reads one request. The client is told what can't be read.
func Receive(ss grpc.ServerStream, r *Request) error {
	if err := ss.RecvMsg(r); err != nil {
		return err
	}
	if r.Err != nil {
		return status.Error(codes.InvalidArgument, r.Err.Error())
	}
	return nil
}

// AsStatus is an error as a client may be told it.
func AsStatus(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.FromContextError(err).Err()
}

// decode reads one message. It keeps no reference to b. Its error is fit to be
// told to the client.
func (r *Request) decode(b []byte) error {
	if len(b) > MaxRequest {
		return fmt.Errorf("the request has %d bytes; allowed are %d", len(b), MaxRequest)
	}
	names := 0
	return fields(b, func(num protowire.Number, v []byte) error {
		switch num {
		case 1:
			if len(v) > maxNode {
				return fmt.Errorf("the node has %d bytes; allowed are %d", len(v), maxNode)
			}
			if sum := maphash.Bytes(seed, v) | 1; len(v) > 0 && sum != r.Known {
				r.Node, r.Sum = withoutExtensions(v), sum
			}
		case 2:
			r.TypeURL = string(v)
		case 3, 4, 5:
			if names++; names > MaxNames {
				return fmt.Errorf("the request has more than %d names", MaxNames)
			}
			return r.name(num, v)
		case 6:
			r.Nonce = string(v)
		case 7:
			r.Rejected = true
			return fields(v, func(num protowire.Number, v []byte) error {
				if num == 2 {
					r.Reason = Clip(v)
				}
				return nil
			})
		}
		return nil
	})
}

func (r *Request) name(num protowire.Number, v []byte) error {
	if num != 5 && !utf8.Valid(v) {
		return errMalformed
	}
	switch num {
	case 3:
		r.Subscribe = append(r.Subscribe, string(v))
	case 4:
		r.Unsubscribe = append(r.Unsubscribe, string(v))
	case 5:
		var name, version string
		err := fields(v, func(num protowire.Number, v []byte) error {
			switch num {
			case 1:
				name = string(v)
			case 2:
				version = string(v)
			}
			return nil
		})
		if err != nil || !utf8.ValidString(name) {
			return errMalformed
		}
		if r.Versions == nil {
			r.Versions = map[string]string{}
		}
		r.Versions[name] = version
	}
	return nil
}

// withoutExtensions is a copy of an encoded Node without field 9: the list of
// what an Envoy was built with is nearly all of its 60 kB, and nobody asks for
// it. A malformed node stays malformed.
func withoutExtensions(b []byte) (out []byte) {
	for len(b) > 0 {
		num, _, n := protowire.ConsumeField(b)
		if n < 0 {
			return append(out, b...)
		}
		if num != 9 {
			out = append(out, b[:n]...)
		}
		b = b[n:]
	}
	return slices.Concat([]byte{}, out) // of its very size, and not nil
}

// fields calls f for each length-delimited field of a message, in order, and
// skips all others.
func fields(b []byte, f func(protowire.Number, []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errMalformed
		}
		b = b[n:]
		if typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return errMalformed
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return errMalformed
		}
		if err := f(num, v); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// Clip keeps the head of an error text: books and logs must stay small.
func Clip(v []byte) string {
	const most = 1024
	if len(v) > most {
		v = v[:most]
	}
	return string(bytes.ToValidUTF8(v, []byte("?")))
}

// nodeIdentity reads id (1) and cluster (2) of an encoded Node.
func nodeIdentity(b []byte) (id, cluster string, err error) {
	err = fields(b, func(num protowire.Number, v []byte) error {
		switch num {
		case 1:
			id = string(v)
		case 2:
			cluster = string(v)
		}
		return nil
	})
	return id, cluster, err
}

// CheckNode refuses a request that speaks for another node than the one that
// its connection proved. Its error is a gRPC status.
func CheckNode(r *Request, id, cluster string) error {
	if r.Node == nil {
		return nil
	}
	claimedID, claimed, err := nodeIdentity(r.Node)
	if err != nil {
		return status.Error(codes.InvalidArgument, "the node is malformed")
	}
	if claimedID != id || claimed != cluster {
		return status.Errorf(codes.PermissionDenied, "this connection is that of node %q of cluster %q; the request claims %q of %q",
			id, cluster, Clip([]byte(claimedID)), Clip([]byte(claimed)))
	}
	return nil
}
