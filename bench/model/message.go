package model

import (
	"bytes"
	"fmt"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec for requests
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"patchbay/xds/translate"
)

// kind is a resource type, in the order in which an Envoy asks for them.
type kind int

const (
	cds kind = iota
	eds
	lds
	rds
	leds // endpoints in collections, if an assignment refers to them
	kinds
)

var typeURLs = [kinds]string{translate.ClusterType, translate.EndpointType, translate.ListenerType, translate.RouteType,
	"type.googleapis.com/envoy.config.endpoint.v3.LbEndpoint"}

func kindOf(typeURL []byte) kind {
	for k, u := range typeURLs {
		if u == string(typeURL) {
			return kind(k)
		}
	}
	return -1
}

// message is what a model client reads of a DeltaDiscoveryResponse: it does not
// decode resources, so that its own work does not hide the server's.
type message struct {
	size      int
	kind      kind
	nonce     string
	resources int
	// collections are those that the assignments refer to.
	collections []string
	// held gets the name and version of each resource, if it is there.
	held map[string]string
}

// raw is a request that is encoded already.
type raw []byte

// codec reads messages and writes raw requests.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if r, ok := v.(raw); ok {
		return mem.BufferSlice{mem.SliceBuffer(r)}, nil
	}
	return c.CodecV2.Marshal(v)
}

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*message)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free()
	return m.decode(buf.ReadOnlyData())
}

func (m *message) decode(b []byte) error {
	*m = message{size: len(b), kind: -1, held: m.held}
	var resources [][]byte
	err := fields(b, func(num protowire.Number, v []byte) {
		switch num {
		case 2:
			m.resources++
			if m.held != nil {
				resources = append(resources, v)
			}
		case 4:
			m.kind = kindOf(v)
		case 5:
			m.nonce = string(v)
		}
	})
	if m.kind == eds {
		m.collections = collections(b)
	}
	for _, r := range resources {
		var name, version string
		if err := fields(r, func(num protowire.Number, v []byte) {
			switch num {
			case 1:
				version = string(v)
			case 3:
				name = string(v)
			}
		}); err != nil {
			return err
		}
		m.held[name] = version
	}
	return err
}

// collections finds the names of LEDS collections. They are the only text of
// this form in an assignment.
func collections(b []byte) (out []string) {
	for {
		i := bytes.Index(b, []byte("xdstp://"))
		if i < 0 {
			return out
		}
		b = b[i:]
		end := bytes.Index(b, []byte("/*"))
		if end < 0 {
			return out
		}
		out = append(out, string(b[:end+2]))
		b = b[end+2:]
	}
}

// fields calls f for each length-delimited field of a message.
func fields(b []byte, f func(protowire.Number, []byte)) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("a response is malformed: %w", protowire.ParseError(n))
		}
		b = b[n:]
		if typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return fmt.Errorf("a response is malformed: %w", protowire.ParseError(n))
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return fmt.Errorf("a response is malformed: %w", protowire.ParseError(n))
		}
		f(num, v)
		b = b[n:]
	}
	return nil
}

func encode(r *discoveryv3.DeltaDiscoveryRequest) raw {
	b, err := proto.Marshal(r)
	if err != nil {
		panic(err) // names are ASCII
	}
	return b
}
