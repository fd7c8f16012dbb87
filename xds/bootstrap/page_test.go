package bootstrap

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"patchbay/mesh/policy"
)

// keysBelow lists the JSON keys of t, and of the structs in it.
func keysBelow(t reflect.Type, path string, into map[string]bool) {
	switch t.Kind() {
	case reflect.Pointer:
		if t == reflect.TypeFor[*policy.Policy]() {
			into[path] = true // it has a page of its own
			return
		}
		keysBelow(t.Elem(), path, into)
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Struct {
			into[path] = true
			keysBelow(t.Elem(), path+"[]", into)
			return
		}
		into[path] = true
	case reflect.Struct:
		if t == reflect.TypeFor[policy.Policy]() { // docs/reference/policies.md has it
			into[path] = true
			return
		}
		for field := range t.Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if name == "-" {
				continue
			}
			keysBelow(field.Type, strings.TrimPrefix(path+"."+name, "."), into)
		}
	default:
		into[path] = true
	}
}

// TestPage holds docs/reference/node.md against NodeMeta, both ways, and reads
// its example.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/reference/node.md")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	keysBelow(reflect.TypeFor[NodeMeta](), "", want)
	_, meta, _ := strings.Cut(string(page), "## metadata.patchbay")
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(meta, -1) {
		if !want[m[1]] {
			t.Errorf("the page lists %s; the code does not know it", m[1])
		}
		delete(want, m[1])
	}
	for key := range want {
		t.Errorf("the page lacks %s", key)
	}
	example := regexp.MustCompile("(?s)```json\n(.*?)```").FindStringSubmatch(string(page))
	var n corev3.Node
	if err := protojson.Unmarshal([]byte(example[1]), &n); err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeMeta(n.GetMetadata()); err != nil {
		t.Error(err)
	}
}
