package policy

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Word is one member of what holds for a call, and whose word it is.
type Word struct {
	Member string `json:"member"` // as in the declaration: retries.max, routes[0]
	Value  any    `json:"value"`  // in its form there
	From   string `json:"from"`   // one of From…, or FromPreset and the preset's name
}

// Who may have said a [Word].
const (
	FromCaller  = "caller"  // the policies of the calling task
	FromService = "service" // the policies of the task that offers it
	FromBlock   = "serviceConnectConfiguration"
	FromDefault = "default" // Service Connect's, where nobody says anything
	FromPreset  = "preset "
)

// piecemeal are the groups of which [Effective] takes each member by itself.
var piecemeal = []string{"timeout", "retries", "outlierDetection", "loadBalancing", "connectionLimits"}

// Words are the members of [Effective], in the order of a Policy's, each with
// whose word it is. A call whose protocol is not l7 gets those that mean
// something to connections; what only gRPC can mean is left out unless grpc.
func Words(service, caller *Policy, l7, grpc bool) []Word {
	effective := Effective(service, caller)
	var out []Word
	all := reflect.ValueOf(effective)
	for i := range all.NumField() {
		group, member := all.Field(i), nameOf(all.Type().Field(i))
		if group.IsZero() || member == "preset" {
			continue
		}
		said := func(by *Policy, field int) bool {
			if by == nil {
				return false
			}
			g := reflect.ValueOf(*by).Field(i)
			return !g.IsZero() && (field < 0 || !g.Elem().Field(field).IsZero())
		}
		from := func(field int) string {
			switch {
			case said(caller, field):
				return FromCaller
			case said(service, field):
				return FromService
			}
			return FromPreset + effective.Preset
		}
		if group.Kind() == reflect.Slice {
			for n := range group.Len() {
				out = append(out, Word{fmt.Sprintf("%s[%d]", member, n), group.Index(n).Interface(), from(-1)})
			}
			continue
		}
		for f := range group.Elem().NumField() {
			v := group.Elem().Field(f)
			if v.IsZero() {
				continue
			}
			by := from(-1)
			if slices.Contains(piecemeal, member) {
				by = from(f)
			}
			out = append(out, Word{member + "." + nameOf(group.Elem().Type().Field(f)), reflect.Indirect(v).Interface(), by})
		}
	}
	return meant(out, l7, grpc)
}

func nameOf(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// meant are the words that have an effect.
func meant(all []Word, l7, grpc bool) []Word {
	out := all[:0]
	for _, w := range all {
		if on, is := w.Value.([]string); is && w.Member == "retries.on" && !grpc {
			w.Value = slices.DeleteFunc(slices.Clone(on), ForGRPC)
		}
		requests := strings.HasPrefix(w.Member, "retries.") && w.Member != "retries.max" || w.Member == "outlierDetection.serverErrors" || w.Member == "timeout.perRequest"
		if l7 || !requests {
			out = append(out, w)
		}
	}
	return out
}
