// Package model is the configuration of an AWS App Mesh, as its API says it.
//
// It owns the forms and their reader: which texts are taken, and that nothing
// in them is passed over in silence. It must not know what becomes of it.
//
// Start reading at [Read].
package model

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"unicode/utf16"
)

// The kinds of resources, in the words of App Mesh's API.
const (
	KindMesh         = "mesh"
	KindNode         = "virtualNode"
	KindService      = "virtualService"
	KindRouter       = "virtualRouter"
	KindRoute        = "route"
	KindGateway      = "virtualGateway"
	KindGatewayRoute = "gatewayRoute"
)

// kinds are ordered so that the first whose name a bare resource has is its
// kind: a route also has its router's name, and all have the mesh's.
var kinds = []string{KindGatewayRoute, KindRoute, KindGateway, KindRouter, KindService, KindNode, KindMesh}

// Resource is one of any kind: its spec is that of its kind.
type Resource[S any] struct {
	Of   string // kind/NAME; of routes kind/ROUTER/NAME
	Name string
	Up   string // the router or the gateway of a route
	Spec S
}

// Mesh is a mesh as it was read.
type Mesh struct {
	Name          string
	Mesh          *Resource[MeshSpec] // nil: it was not among the files
	Nodes         map[string]*Resource[NodeSpec]
	Services      map[string]*Resource[ServiceSpec]
	Routers       map[string]*Resource[RouterSpec]
	Routes        map[string]*Resource[RouteSpec] // by router/name, as GatewayRoutes by gateway/name
	Gateways      map[string]*Resource[GatewaySpec]
	GatewayRoutes map[string]*Resource[RouteSpec]
	Unknown       []Place // members that the model lacks
	Deleted       []Place // resources that are deleted, and were left out
}

// Place is a member of a resource.
type Place struct{ Of, Path string }

type reader struct {
	m     *Mesh
	where map[string]string // resource → the file where it stands
	errs  []error
}

// File is a text with what `aws appmesh describe-…` printed: one JSON document
// or several, one after the other or in a list.
type File struct {
	Name string
	Text []byte
}

// Read reads the files of one mesh. The errors list everything that can't be
// read.
func Read(files []File) (*Mesh, []error) {
	r := &reader{where: map[string]string{}, m: &Mesh{
		Nodes: map[string]*Resource[NodeSpec]{}, Services: map[string]*Resource[ServiceSpec]{}, Routers: map[string]*Resource[RouterSpec]{},
		Routes: map[string]*Resource[RouteSpec]{}, Gateways: map[string]*Resource[GatewaySpec]{}, GatewayRoutes: map[string]*Resource[RouteSpec]{},
	}}
	for _, f := range files {
		f.Text = utf8Of(f.Text)
		dec := json.NewDecoder(bytes.NewReader(f.Text))
		dec.UseNumber()
		n := 0
		for ; ; n++ {
			var v any
			err := dec.Decode(&v)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				r.bad(f.Name, "is not JSON%s; allowed: what `aws appmesh describe-… --output json` prints", why(f.Text, err))
				break
			}
			r.document(f.Name, v)
		}
		if n == 0 && len(bytes.TrimSpace(f.Text)) == 0 {
			r.bad(f.Name, "is empty; allowed: what `aws appmesh describe-…` prints")
		}
	}
	if len(r.errs) == 0 && len(r.where) == 0 {
		r.errs = append(r.errs, errors.New("there is no resource of App Mesh; allowed: what `aws appmesh describe-mesh`, describe-virtual-node, describe-virtual-service, describe-virtual-router, describe-route, describe-virtual-gateway and describe-gateway-route print"))
	}
	return r.m, r.errs
}

// utf8Of is a text without its byte order mark. Shells of Windows write one, and
// some of them UTF-16.
func utf8Of(text []byte) []byte {
	order := binary.ByteOrder(binary.LittleEndian)
	switch {
	case bytes.HasPrefix(text, []byte("\xef\xbb\xbf")):
		return text[3:]
	case bytes.HasPrefix(text, []byte("\xfe\xff")):
		order = binary.BigEndian
	case !bytes.HasPrefix(text, []byte("\xff\xfe")):
		return text
	}
	units := make([]uint16, 0, len(text)/2)
	for rest := text[2:]; len(rest) > 1; rest = rest[2:] {
		units = append(units, order.Uint16(rest))
	}
	return []byte(string(utf16.Decode(units)))
}

func (r *reader) bad(file, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("%s: %s", file, fmt.Sprintf(format, args...)))
}

// document is one JSON value of a file.
func (r *reader) document(file string, v any) {
	if list, is := v.([]any); is {
		for _, e := range list {
			r.document(file, e)
		}
		return
	}
	o, is := v.(map[string]any)
	if !is {
		r.bad(file, "holds %s; allowed: the object that `aws appmesh describe-…` prints", show(v))
		return
	}
	for _, kind := range kinds {
		if inner, there := o[kind].(map[string]any); there && o["spec"] == nil {
			r.resource(file, kind, inner)
			return
		}
		if _, listed := o[plural(kind)]; listed {
			r.bad(file, "has %s: a list of names; allowed: what `aws appmesh describe-%s` prints of each", plural(kind), Dashed(kind))
			return
		}
	}
	for _, kind := range kinds {
		if _, named := o[kind+"Name"].(string); named && o["spec"] != nil {
			r.resource(file, kind, o)
			return
		}
	}
	r.bad(file, "has none of mesh, virtualNode, virtualService, virtualRouter, route, virtualGateway, gatewayRoute; allowed: what `aws appmesh describe-…` prints")
}

func (r *reader) resource(file, kind string, o map[string]any) {
	text := func(key string) string { s, _ := o[key].(string); return s }
	name := text(kind + "Name")
	if name == "" {
		r.bad(file, "%s has no %sName", kind, kind)
		return
	}
	of, up := kind+"/"+name, ""
	if owner := map[string]string{KindRoute: KindRouter, KindGatewayRoute: KindGateway}[kind]; owner != "" {
		if up = text(owner + "Name"); up == "" {
			r.bad(file, "%s has no %sName", of, owner)
			return
		}
		of = kind + "/" + up + "/" + name
	}
	if s, _ := o["status"].(map[string]any); s["status"] == "DELETED" {
		r.m.Deleted = append(r.m.Deleted, Place{of, "status.status"})
		return
	}
	if mesh := text("meshName"); r.m.Name == "" {
		r.m.Name = mesh
	} else if mesh != "" && mesh != r.m.Name {
		r.bad(file, "%s is of the mesh %q, others are of %q; allowed: one mesh at a time", of, mesh, r.m.Name)
		return
	}
	if first, twice := r.where[of]; twice {
		r.bad(file, "%s stands in %s already; allowed: each once", of, first)
		return
	}
	r.where[of] = file
	spec := o["spec"]
	switch kind {
	case KindMesh:
		r.m.Mesh = take[MeshSpec](r, file, of, name, up, spec)
	case KindNode:
		r.m.Nodes[name] = take[NodeSpec](r, file, of, name, up, spec)
	case KindService:
		r.m.Services[name] = take[ServiceSpec](r, file, of, name, up, spec)
	case KindRouter:
		r.m.Routers[name] = take[RouterSpec](r, file, of, name, up, spec)
	case KindRoute:
		r.m.Routes[up+"/"+name] = take[RouteSpec](r, file, of, name, up, spec)
	case KindGateway:
		r.m.Gateways[name] = take[GatewaySpec](r, file, of, name, up, spec)
	case KindGatewayRoute:
		r.m.GatewayRoutes[up+"/"+name] = take[RouteSpec](r, file, of, name, up, spec)
	}
}

// take decodes a spec. What App Mesh's model does not have is noted; a value
// of another type is an error.
func take[S any](r *reader, file, of, name, up string, v any) *Resource[S] {
	out := &Resource[S]{Of: of, Name: name, Up: up}
	before := len(r.errs)
	r.fit(file, of, "spec", v, reflect.TypeFor[S]())
	if len(r.errs) > before {
		return out
	}
	text, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(text, &out.Spec)
	}
	if err != nil { // fit missed something
		r.bad(file, "%s: spec: %v", of, err)
	}
	return out
}

// fit compares a value with the type that it will be decoded into.
func (r *reader) fit(file, of, path string, v any, t reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	wrong := func(want string) { r.bad(file, "%s: %s is %s; allowed: %s", of, path, show(v), want) }
	if v == nil {
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		o, is := v.(map[string]any)
		if !is {
			wrong("an object")
			return
		}
		fields := map[string]reflect.Type{}
		for f := range t.Fields() {
			fields[f.Tag.Get("json")] = f.Type
		}
		for _, key := range Sorted(o) {
			e, at := o[key], path+"."+key
			if fields[key] == nil {
				r.m.Unknown = append(r.m.Unknown, Place{of, at})
				continue
			}
			r.fit(file, of, at, e, fields[key])
		}
	case reflect.Slice:
		list, is := v.([]any)
		if !is {
			wrong("a list")
		}
		for i, e := range list {
			r.fit(file, of, fmt.Sprintf("%s[%d]", path, i), e, t.Elem())
		}
	case reflect.String:
		if _, is := v.(string); !is {
			wrong("a string")
		}
	case reflect.Bool:
		if _, is := v.(bool); !is {
			wrong("true or false")
		}
	default:
		n, is := v.(json.Number)
		if _, err := n.Int64(); !is || err != nil {
			wrong("a whole number")
		}
	}
}

// why says where a text ceases to be JSON.
func why(text []byte, err error) string {
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) || int(syntax.Offset) > len(text) {
		return ": it ends too early; is a bracket or a quote missing?"
	}
	return fmt.Sprintf(" in line %d: %v", 1+bytes.Count(text[:syntax.Offset], []byte("\n")), syntax)
}

func show(v any) string {
	switch v := v.(type) {
	case map[string]any:
		return "an object"
	case []any:
		return "a list"
	case string:
		return fmt.Sprintf("the string %.80q", v)
	default:
		return fmt.Sprint(v)
	}
}

func plural(kind string) string {
	if kind == KindMesh {
		return "meshes"
	}
	return kind + "s"
}

// Dashed is a kind as the AWS command line spells it.
func Dashed(kind string) string {
	var b strings.Builder
	for _, c := range kind {
		if c >= 'A' && c <= 'Z' {
			b.WriteByte('-')
			c += 'a' - 'A'
		}
		b.WriteRune(c)
	}
	return b.String()
}

// Sorted are the keys of m in order.
func Sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
