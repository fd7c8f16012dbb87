package config

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// key is a row of docs/reference/config.md.
type key struct{ kind, fallback string }

// keysBelow lists every key of t with its type and default.
func keysBelow(v reflect.Value, path string, into map[string]key) {
	t := v.Type()
	if t.Kind() == reflect.Pointer {
		keysBelow(reflect.New(t.Elem()).Elem(), path, into)
		return
	}
	fallback := ""
	if !v.IsZero() {
		fallback = fmt.Sprintf("`%v`", v.Interface())
	}
	switch {
	case t == reflect.TypeFor[time.Duration]():
		into[path] = key{"duration", fallback}
	case t.Kind() == reflect.Struct:
		for i := range t.NumField() {
			keysBelow(v.Field(i), strings.TrimPrefix(path+"."+t.Field(i).Tag.Get("yaml"), "."), into)
		}
	case t.Kind() == reflect.Map:
		keysBelow(reflect.New(t.Elem()).Elem(), path+".NAME", into)
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		keysBelow(reflect.New(t.Elem()).Elem(), path+"[]", into)
	case t.Kind() == reflect.Uint16:
		into[path] = key{"number", fallback}
	case t.Kind() == reflect.Slice:
		into[path] = key{"list of strings", fallback}
	case t.Kind() == reflect.Bool:
		into[path] = key{"boolean", fmt.Sprintf("`%v`", v.Bool())}
	default:
		into[path] = key{"string", fallback}
	}
}

// TestPage holds docs/reference/config.md against the code, both ways, and
// loads its examples.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../docs/reference/config.md")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]key{}
	keysBelow(reflect.ValueOf(Default()), "", want)
	want["tracing.sampling"] = key{"number", "`100`"}
	want["registry.lease"] = key{"duration", "`" + DefaultLease.String() + "`"}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]*) \\|([^|]*)\\| [^|]+ \\|$").FindAllStringSubmatch(string(page), -1) {
		k, is := want[m[1]]
		if !is {
			t.Errorf("the page lists %s; the code does not know it", m[1])
			continue
		}
		delete(want, m[1])
		fallback := strings.TrimSpace(m[3])
		if k.kind != m[2] || k.fallback != fallback && (k.fallback != "" || strings.HasPrefix(fallback, "`") && !strings.Contains(fallback, " ")) {
			t.Errorf("%s: the page says %s, default %q; the code says %s, default %q", m[1], m[2], fallback, k.kind, k.fallback)
		}
	}
	for path := range want {
		t.Errorf("the page lacks %s", path)
	}
	examples := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	for _, name := range []string{"external", "tracing"} {
		guide, err := os.ReadFile("../docs/guides/" + name + ".md")
		if err != nil {
			t.Fatal(err)
		}
		examples = append(examples, regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(guide), -1)...)
	}
	if len(examples) < 4 {
		t.Fatalf("%d examples", len(examples))
	}
	for _, e := range examples {
		if _, problems := parse("example", []byte(e[1])); len(problems) > 0 {
			t.Errorf("%v in\n%s", problems, e[1])
		}
	}
}
