package views

import (
	"reflect"
	"testing"

	"patchbay/mesh"
	"patchbay/xds/bootstrap"
)

// Views differ where up to four of their fields say something: what one says must
// not read as if another had said it.
func TestEveryViewHasAKeyOfItsOwn(t *testing.T) {
	keys := map[string]View{}
	view := reflect.New(reflect.TypeFor[View]()).Elem()
	var try func(field, said int)
	try = func(field, said int) {
		if field == view.NumField() {
			now := view.Interface().(View)
			if other, taken := keys[now.Key()]; taken {
				t.Errorf("%+v and %+v have the key %q", other, now, now.Key())
			}
			keys[now.Key()] = now
			return
		}
		try(field+1, said)
		if said == 4 {
			return
		}
		f := view.Field(field)
		for _, x := range words(t, f.Interface()) {
			f.Set(reflect.ValueOf(x).Convert(f.Type()))
			try(field+1, said+1)
		}
		f.SetZero()
	}
	try(0, 0)
	if len(keys) < 1000 {
		t.Errorf("only %d views", len(keys))
	}
}

// words are what a view's field may say.
func words(t *testing.T, field any) []any {
	t.Helper()
	switch field.(type) {
	case bootstrap.AccessLog:
		return []any{bootstrap.AccessLog{Format: "TEXT"}, bootstrap.AccessLog{Format: "TEXT", QueryParameters: true}}
	case Tracing:
		return []any{Tracing{Service: "web.prod", Percent: 1}}
	}
	switch k := reflect.TypeOf(field).Kind(); k {
	case reflect.String:
		return []any{"x"}
	case reflect.Bool:
		return []any{true}
	case reflect.Int:
		return []any{1}
	default:
		t.Fatalf("a field of kind %s: teach this test", k)
		return nil
	}
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
