// Package valid holds a resource against what Envoy would take: its own rules,
// also inside what is packed, and what it rejects, or takes and does something
// else with, without a rule that says so.
//
// It owns what may not leave, and the [Book] of what is withheld. It must not know
// what goes out in its place; who would have got it is a name. Start reading at
// [Check], then keepsRules.
package valid

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"patchbay/xds/delta"
	"patchbay/xds/translate"
)

// Check is the error of a resource that Envoy would not take: it names the
// field and never a value.
func Check(r translate.Resource) error {
	if err := validate(r.Message); err != nil {
		return err
	}
	if err := keepsRules(r); err != nil {
		return fmt.Errorf("invalid: %w", err)
	}
	if r.TypeURL == delta.EndpointType {
		return nil // it holds no extensions, and can be long
	}
	return validateAnys(r.Message.ProtoReflect())
}

func validate(m proto.Message) error {
	if v, ok := m.(interface{ ValidateAll() error }); ok {
		if err := v.ValidateAll(); err != nil {
			return fmt.Errorf("invalid: %w", err)
		}
	}
	return nil
}

// validateAnys validates what is packed: the generated validation stops there.
func validateAnys(m protoreflect.Message) (err error) {
	if packed, ok := m.Interface().(*anypb.Any); ok {
		inner, err := packed.UnmarshalNew()
		if err != nil {
			return fmt.Errorf("invalid: unreadable %s", packed.GetTypeUrl())
		}
		if err := validate(inner); err != nil {
			return err
		}
		return validateAnys(inner.ProtoReflect())
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap() && f.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				err = validateAnys(v.Message())
				return err == nil
			})
		case f.IsList() && f.Message() != nil:
			for i := 0; i < v.List().Len() && err == nil; i++ {
				err = validateAnys(v.List().Get(i).Message())
			}
		case !f.IsMap() && !f.IsList() && f.Message() != nil:
			err = validateAnys(v.Message())
		}
		return err == nil
	})
	return err
}
