// Package wire is what travels on a delta ADS stream, as bytes: responses that
// are put together from encoded resources without marshalling, requests of
// which only the needed fields are read, and the gRPC codec for both.
//
// It owns the encoding and the limits of a request. It must not know
// subscriptions, versions or what a resource means.
package wire

import (
	"fmt"
	"slices"
	"strconv"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec that ours delegates to
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// appendResource appends field 2 of DeltaDiscoveryResponse, tag included: a
// discovery.Resource with version = 1, resource (Any) = 2, name = 3.
func appendResource(b []byte, typeURL, name, version string, body []byte) []byte {
	anyLen := sizeBytes(len(typeURL)) + sizeBytes(len(body))
	size := sizeBytes(len(version)) + sizeBytes(anyLen) + sizeBytes(len(name))
	b = slices.Grow(b, sizeBytes(size))
	b = protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.BytesType), uint64(size)) //nolint:gosec // a length
	b = appendString(b, 1, version)
	b = protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.BytesType), uint64(anyLen)) //nolint:gosec // a length
	b = appendString(b, 1, typeURL)
	b = protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), body)
	return appendString(b, 3, name)
}

// sizeBytes is the size of a field numbered below 16 that holds n bytes.
func sizeBytes(n int) int { return 1 + protowire.SizeBytes(n) }

func appendString(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

// Frame is an encoded DeltaDiscoveryResponse: the bytes of its resources, which
// it shares with other frames, then a short tail of its own.
type Frame struct {
	parts mem.BufferSlice
	size  int
}

// NewFrame makes a response of entries and of names that are gone.
func NewFrame(typeURL, nonce string, entries []*Entry, removed []string) *Frame {
	f := &Frame{parts: make(mem.BufferSlice, 0, len(entries)+1)}
	for _, e := range entries {
		f.parts = append(f.parts, e.part)
		f.size += len(e.wire)
	}
	tail := appendString(appendString(nil, 4, typeURL), 5, nonce)
	for _, name := range removed {
		tail = appendString(tail, 6, name)
	}
	f.parts = append(f.parts, mem.SliceBuffer(tail))
	f.size += len(tail)
	return f
}

// Nonce writes the number of a response.
func Nonce(seq uint64) string { return strconv.FormatUint(seq, 36) }

// Size is the number of bytes of the message.
func (f *Frame) Size() int { return f.size }

// String hides the content, which may hold keys, from gRPC's tracing.
func (f *Frame) String() string { return fmt.Sprintf("frame of %d bytes", f.size) }

// requests are buffers to read requests in. gRPC's own pool has none between
// 32 kB and 1 MB, and the first request of an Envoy has 60 kB.
var requests = mem.NewTieredBufferPool(1<<10, 4<<10, 16<<10, 32<<10, 128<<10, 512<<10)

// Codec passes a [Frame] through and reads a [Request]. Everything else is left
// to gRPC's own protobuf codec.
type Codec struct{ encoding.CodecV2 }

// NewCodec returns the codec of an ADS server.
func NewCodec() Codec { return Codec{encoding.GetCodecV2("proto")} }

// Marshal implements encoding.CodecV2.
func (c Codec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(*Frame); ok {
		return f.parts, nil
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal implements encoding.CodecV2. A request that can't be read is no
// error here: gRPC would call it internal, and it is the client's.
func (c Codec) Unmarshal(data mem.BufferSlice, v any) error {
	r, ok := v.(*Request)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	buf := data.MaterializeToBuffer(requests)
	defer buf.Free()
	*r = Request{Known: r.Known}
	r.Err = r.decode(buf.ReadOnlyData())
	return nil
}
