// Package content shows what is in resources, without what is secret in them.
//
// It owns the form in which people see a resource: Envoy's own field names as
// JSON, and each secret in the form in which Envoy itself redacts it, so that
// both sides can be compared. Start reading at [Of].
package content

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/cncf/xds/go/udpa/annotations"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"patchbay/xds/delta/wire"
)

// Redacted stands where a secret was.
const Redacted = "[redacted]"

// Of is the message of an entry, redacted.
func Of(e *wire.Entry) (proto.Message, error) {
	var r discoveryv3.DeltaDiscoveryResponse // an entry's bytes are one field of it
	if err := proto.Unmarshal(e.Bytes(), &r); err != nil {
		return nil, fmt.Errorf("%s: %w", e.Ref(), err)
	}
	if len(r.GetResources()) != 1 {
		return nil, fmt.Errorf("%s: its content is not known here", e.Ref())
	}
	m, err := r.GetResources()[0].GetResource().UnmarshalNew()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.Ref(), err)
	}
	Redact(m)
	return m, nil
}

// JSON is a message with Envoy's field names; equal messages give equal bytes.
// The caller has redacted it.
func JSON(m proto.Message) (json.RawMessage, error) {
	b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("show a %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	var out bytes.Buffer
	if err := json.Compact(&out, b); err != nil { // protojson varies its spaces
		return nil, fmt.Errorf("show a %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return out.Bytes(), nil
}

// Redact replaces in m every field that Envoy's own definitions mark as
// sensitive, also inside packed messages. A packed message that can't be
// looked into is emptied.
func Redact(m proto.Message) { redact(m.ProtoReflect()) }

func redact(m protoreflect.Message) {
	if a, ok := m.Interface().(*anypb.Any); ok {
		inside, err := a.UnmarshalNew()
		if err != nil {
			a.Value = nil
			return
		}
		Redact(inside)
		if a.Value, err = (proto.MarshalOptions{Deterministic: true}).Marshal(inside); err != nil {
			a.Value = nil
		}
		return
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if sensitive(f) {
			hide(m, f, v)
		} else {
			each(f, v, redact)
		}
		return true
	})
}

func sensitive(f protoreflect.FieldDescriptor) bool {
	marked, _ := proto.GetExtension(f.Options(), annotations.E_Sensitive).(bool)
	return marked
}

// hide replaces every text and number in a field, and keeps its shape.
func hide(m protoreflect.Message, f protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch {
	case f.IsMap() || f.Message() != nil && f.Message().FullName() == "google.protobuf.Any":
		m.Clear(f)
	case f.Message() != nil:
		each(f, v, func(inside protoreflect.Message) {
			inside.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
				hide(inside, f, v)
				return true
			})
		})
	case f.IsList():
		m.Clear(f)
	case f.Kind() == protoreflect.StringKind:
		m.Set(f, protoreflect.ValueOfString(Redacted))
	case f.Kind() == protoreflect.BytesKind:
		m.Set(f, protoreflect.ValueOfBytes([]byte(Redacted)))
	default:
		m.Clear(f)
	}
}

// each calls do for every message in a field.
func each(f protoreflect.FieldDescriptor, v protoreflect.Value, do func(protoreflect.Message)) {
	switch {
	case f.IsMap():
		if f.MapValue().Message() != nil {
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool { do(v.Message()); return true })
		}
	case f.Message() == nil:
	case f.IsList():
		for i := range v.List().Len() {
			do(v.List().Get(i).Message())
		}
	default:
		do(v.Message())
	}
}
