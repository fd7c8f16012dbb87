package policy

import "reflect"

// over is base with every member that above has. Neither is changed.
func over[T any](base, above *T) *T {
	if above == nil {
		return base
	}
	if base == nil {
		return above
	}
	out := *base
	to, from := reflect.ValueOf(&out).Elem(), reflect.ValueOf(above).Elem()
	for i := range to.NumField() {
		if !from.Field(i).IsZero() {
			to.Field(i).Set(from.Field(i))
		}
	}
	return &out
}
