package views

import (
	"reflect"
	"testing"

	"patchbay/mesh"
	"patchbay/xds/bootstrap"
)

func TestEveryViewHasAKeyOfItsOwn(t *testing.T) {
	keys := map[string]View{}
	var try func(v reflect.Value, field int)
	view := reflect.New(reflect.TypeFor[View]()).Elem()
	try = func(v reflect.Value, field int) {
		if field == v.NumField() {
			now := view.Interface().(View)
			if other, taken := keys[now.Key()]; taken && other != now {
				t.Errorf("%+v and %+v have the key %q", other, now, now.Key())
			}
			keys[now.Key()] = now
			return
		}
		switch f := v.Field(field); f.Kind() {
		case reflect.String:
			for _, s := range []string{"", "x"} {
				f.SetString(s)
				try(v, field+1)
			}
		case reflect.Bool:
			for _, b := range []bool{false, true} {
				f.SetBool(b)
				try(v, field+1)
			}
		case reflect.Int:
			for _, n := range []int64{0, 1} {
				f.SetInt(n)
				try(v, field+1)
			}
		case reflect.Struct:
			for _, x := range structs(t, f.Interface()) {
				f.Set(reflect.ValueOf(x))
				try(v, field+1)
			}
		default:
			t.Fatalf("a field of kind %s: teach this test", f.Kind())
		}
	}
	try(view, 0)
	if len(keys) < 32 {
		t.Errorf("only %d views", len(keys))
	}
}

// structs are values of a view's field that is a struct.
func structs(t *testing.T, field any) []any {
	t.Helper()
	switch field.(type) {
	case bootstrap.AccessLog:
		return []any{bootstrap.AccessLog{}, bootstrap.AccessLog{Format: "TEXT"}, bootstrap.AccessLog{Format: "TEXT", QueryParameters: true}}
	case Tracing:
		return []any{Tracing{}, Tracing{Service: "web.prod", Percent: 1}}
	}
	t.Fatalf("a field of type %T: teach this test", field)
	return nil
}

func TestPortsOfContainersAreBlockedInBindWiringOnly(t *testing.T) {
	s := &mesh.Service{Aliases: []mesh.Alias{{DNSName: "a.demo", Port: 8080}, {DNSName: "b.demo", Port: 80}}}
	v := Of("demo", bootstrap.NodeMeta{Wiring: mesh.Bind, ContainerPorts: []uint16{9090, 8080, 9090}})
	if got := v.Unserved(s); v.Blocked != "8080,9090" || len(got) != 1 || got[0] != s.Aliases[0] {
		t.Errorf("blocked %q, unserved %v", v.Blocked, got)
	}
	if v := Of("demo", bootstrap.NodeMeta{Wiring: mesh.Redirect, ContainerPorts: []uint16{8080}}); v.Blocked != "" {
		t.Errorf("with redirect %q", v.Blocked)
	}
}
