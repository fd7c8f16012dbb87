// Package extension wraps configurations of Envoy's extensions.
//
// It owns how they are encoded: equal configurations give equal bytes. It must
// not know what they say. It is all in [Pack].
package extension

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Pack wraps an extension's configuration. It can fail only for a message that
// the protobuf runtime itself can't encode (invalid UTF-8), which names here
// can't hold; then the result is nil, and the resource fails validation.
func Pack(m proto.Message) *anypb.Any {
	a := &anypb.Any{}
	if err := anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		return nil
	}
	return a
}
