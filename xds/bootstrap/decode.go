package bootstrap

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"patchbay/mesh"
)

// Limits of what one node may say; far beyond any task definition.
const (
	maxPorts   = 100
	maxNames   = 5000
	maxSeconds = int64(mesh.MaxTimeout / time.Second)
)

// DecodeMeta reads a [NodeMeta] out of a node's metadata. It is strict: an
// unknown key is an error. The error lists every problem: where, what, and
// what is allowed.
func DecodeMeta(s *structpb.Struct) (NodeMeta, error) {
	v := s.GetFields()[metadataKey]
	if v == nil {
		return NodeMeta{}, fmt.Errorf("node metadata: the key %q is missing; docs/reference/node.md has its form", metadataKey)
	}
	top := v.GetStructValue()
	if top == nil {
		return NodeMeta{}, fmt.Errorf("node metadata %q: not an object; docs/reference/node.md has its form", metadataKey)
	}
	c := &checker{}
	var m NodeMeta
	c.object("", top, &m, "ports", "accessLog")
	if l := top.GetFields()["accessLog"]; l.GetStructValue() != nil {
		c.object("accessLog.", l.GetStructValue(), &m.AccessLog)
	} else if l != nil && !isNull(l) {
		c.bad("accessLog: not an object")
	}
	for i, p := range top.GetFields()["ports"].GetListValue().GetValues() {
		var port Port
		at := fmt.Sprintf("ports[%d].", i)
		if p.GetStructValue() == nil {
			c.bad("ports[%d]: not an object", i)
			continue
		}
		c.object(at, p.GetStructValue(), &port, "tls")
		c.tls(at, p.GetStructValue().GetFields()["tls"], &port)
		m.Ports = append(m.Ports, port)
	}
	if p, ok := top.GetFields()["ports"]; ok && p.GetListValue() == nil && !isNull(p) {
		c.bad("ports: not a list")
	}
	if c.errs == nil { // of a port that could not be read, rules say nothing new
		c.rules(m)
	}
	if c.errs != nil {
		return NodeMeta{}, errors.Join(c.errs...)
	}
	return m, nil
}

type checker struct{ errs []error }

func (c *checker) bad(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("node metadata %q: "+format, append([]any{metadataKey}, args...)...))
}

// object reads the keys of s into the fields of the struct that into points
// to, one by one, so that one bad value does not hide the next. The keys nested
// are known and read elsewhere.
func (c *checker) object(at string, s *structpb.Struct, into any, nested ...string) {
	fields := map[string]reflect.Value{}
	v := reflect.ValueOf(into).Elem()
	for i := range v.NumField() {
		if name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ","); name != "-" {
			fields[name] = v.Field(i)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.GetFields())) {
		field, known := fields[key]
		switch {
		case !known:
			c.bad("%s%s: unknown key; allowed: %s", at, key, strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
		case slices.Contains(nested, key) || isNull(s.GetFields()[key]):
		default:
			b, err := protojson.Marshal(s.GetFields()[key])
			if err == nil {
				err = json.Unmarshal(b, field.Addr().Interface())
			}
			if err != nil {
				c.bad("%s%s: %s; allowed: %s", at, key, b, form(field.Type()))
			}
		}
	}
}

func (c *checker) tls(at string, v *structpb.Value, p *Port) {
	if v == nil || isNull(v) {
		return
	}
	if v.GetStructValue() == nil {
		c.bad(`%stls: not an object; allowed: {"issuer": NAME} or null`, at)
		return
	}
	p.TLS = &PortTLS{}
	c.object(at+"tls.", v.GetStructValue(), p.TLS)
}

func isNull(v *structpb.Value) bool {
	_, null := v.GetKind().(*structpb.Value_NullValue)
	return null
}

// form says in words what a field takes.
func form(t reflect.Type) string {
	if t == reflect.TypeFor[[]string]() {
		return "a list of strings"
	}
	switch t.Kind() {
	case reflect.Map:
		return "an object"
	case reflect.Uint16:
		return "a number of 1 to 65535"
	case reflect.Pointer:
		return "a whole number of seconds"
	case reflect.Slice:
		return "a list of numbers of 1 to 65535"
	case reflect.Bool:
		return "true or false"
	default:
		return "a string"
	}
}

func (c *checker) rules(m NodeMeta) {
	if m.Wiring != mesh.Redirect && m.Wiring != mesh.Bind && m.Wiring != mesh.NoEgress {
		c.bad("wiring: %q; allowed: redirect, bind, none", m.Wiring)
	}
	if len(m.Ports) > maxPorts || len(m.ContainerPorts) > maxPorts {
		c.bad("%d ports, %d containerPorts; allowed: %d each", len(m.Ports), len(m.ContainerPorts), maxPorts)
		return
	}
	if !slices.Contains([]string{"", "TEXT", "JSON"}, m.AccessLog.Format) {
		c.bad("accessLog.format: %q; allowed: TEXT, JSON", m.AccessLog.Format)
	}
	if n := len(m.Dependencies); n > mesh.MaxDependencies {
		c.bad("%d dependencies; allowed: %d", n, mesh.MaxDependencies)
		return
	}
	for i, name := range m.Dependencies {
		if !mesh.ValidDiscoveryName(name) {
			c.bad("dependencies[%d]: %q; allowed: 1 to 64 of [a-z0-9_-], not starting with '-'", i, name)
		}
	}
	c.profile(m)
	if slices.Contains(m.ContainerPorts, 0) {
		c.bad("containerPorts: 0; allowed: 1 to 65535")
	}
	names, listeners := map[string]bool{}, map[uint16]bool{}
	for i, p := range m.Ports {
		c.port(i, p)
		if names[p.PortName] {
			c.bad("ports[%d].portName: %q is there already; allowed: each once", i, p.PortName)
		}
		if listeners[p.ListenerPort] {
			c.bad("ports[%d].listenerPort: %d is there already; allowed: each once", i, p.ListenerPort)
		}
		names[p.PortName], listeners[p.ListenerPort] = true, true
	}
}

// profile: names belong to the strict one, and policies to the other.
func (c *checker) profile(m NodeMeta) {
	strict := m.Profile == mesh.Strict
	if !strict && m.Profile != "" && m.Profile != mesh.Live {
		c.bad("profile: %q; allowed: live, strict", m.Profile)
	}
	switch {
	case !strict && len(m.Names) > 0:
		c.bad("names: %d; allowed: with profile strict only", len(m.Names))
	case strict && len(m.Policies) > 0:
		c.bad("policies: %d; allowed: with profile live only", len(m.Policies))
	case len(m.Names) > maxNames:
		c.bad("names: %d; allowed: %d", len(m.Names), maxNames)
		return
	}
	at := map[netip.Addr]string{}
	for _, name := range slices.Sorted(maps.Keys(m.Names)) {
		a := m.Names[name]
		if !mesh.ValidDNSName(name) {
			c.bad("names: %.130q; allowed: DNS names", name)
		}
		if !mesh.StrictVIPs.Contains(a) {
			c.bad("names.%.130s: %s; allowed: an address of %s", name, a, mesh.StrictVIPs)
		}
		if other, taken := at[a]; taken {
			c.bad("names.%.130s: %s is that of %s; allowed: each address once", name, a, other)
		}
		at[a] = name
	}
}

func (c *checker) port(i int, p Port) {
	if !mesh.ValidDiscoveryName(p.PortName) {
		c.bad("ports[%d].portName: %q; allowed: 1 to 64 of [a-z0-9_-], not starting with '-'", i, p.PortName)
	}
	if !mesh.ValidDiscoveryName(p.DiscoveryName) {
		c.bad("ports[%d].discoveryName: %q; allowed: 1 to 64 of [a-z0-9_-], not starting with '-'", i, p.DiscoveryName)
	}
	if !p.Protocol.Valid() {
		c.bad("ports[%d].protocol: %q; allowed: http, http2, grpc, tcp", i, p.Protocol)
	}
	if p.AppPort == 0 {
		c.bad("ports[%d].appPort: 0; allowed: 1 to 65535", i)
	}
	if p.ListenerPort == 0 || p.ListenerPort == RedirectPort || p.ListenerPort == p.AppPort {
		c.bad("ports[%d].listenerPort: %d; allowed: 1 to 65535, but not %d and not the application's port", i, p.ListenerPort, RedirectPort)
	}
	if a, err := netip.ParseAddr(p.AppAddress); p.AppAddress != "" && (err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast()) {
		c.bad("ports[%d].appAddress: %.60q; allowed: the IP address of the application", i, p.AppAddress)
	}
	if p.TLS != nil && p.TLS.Issuer == "" {
		c.bad("ports[%d].tls.issuer: empty; allowed: an issuer's name", i)
	}
	c.seconds(i, "idleSeconds", p.IdleSeconds)
	c.seconds(i, "perRequestSeconds", p.PerRequestSeconds)
}

func (c *checker) seconds(i int, name string, n *int64) {
	if n != nil && (*n < 0 || *n > maxSeconds) {
		c.bad("ports[%d].%s: %d; allowed: 0 (off) to %d", i, name, *n, maxSeconds)
	}
}
