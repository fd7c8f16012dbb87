package delta

import (
	"strconv"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec that ours delegates to
	"google.golang.org/grpc/mem"
)

// frame is an encoded DeltaDiscoveryResponse: the shared bytes of its entries,
// then a short tail of its own.
type frame struct {
	kind  kind
	parts mem.BufferSlice
	size  int
}

// String hides the content, which may hold keys, from gRPC's tracing.
func (f *frame) String() string {
	return f.kind.String() + " frame of " + strconv.Itoa(f.size) + " bytes"
}

func newFrame(k kind, seq uint64, entries []*Entry, removed []string) *frame {
	f := &frame{kind: k, parts: make(mem.BufferSlice, 0, len(entries)+1)}
	for _, e := range entries {
		f.parts = append(f.parts, mem.SliceBuffer(e.wire))
		f.size += len(e.wire)
	}
	tail := make([]byte, 0, len(typeURLs[k])+24)
	tail = appendString(tail, 4, typeURLs[k])
	tail = appendString(tail, 5, formatNonce(seq))
	for _, name := range removed {
		tail = appendString(tail, 6, name)
	}
	f.parts = append(f.parts, mem.SliceBuffer(tail))
	f.size += len(tail)
	return f
}

func formatNonce(seq uint64) string { return strconv.FormatUint(seq, 36) }

// codec passes frames through and decodes requests field by field. Everything
// else is left to gRPC's own protobuf codec.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(*frame); ok {
		return f.parts, nil
	}
	return c.CodecV2.Marshal(v)
}

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	r, ok := v.(*request)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free()
	*r = request{known: r.known}
	// The stream answers a bad request itself: gRPC would say "internal".
	r.err = r.decode(buf.ReadOnlyData())
	return nil
}
