package inject

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"patchbay/declare"
	"patchbay/mesh"
)

// declaration is what x-service-connect says.
type declaration struct {
	document string // for the agent: JSON in the form of package declare
	task     declare.Task
	scalable bool
	lines    map[string]int // by path below x-service-connect
}

// beside are the keys of x-service-connect that stand beside
// serviceConnectConfiguration in the declaration.
var beside = []string{"deploymentConfiguration", "policies", "portMappings", "revision"}

// own has the keys of x-service-connect that are not of
// serviceConnectConfiguration.
var own = append(slices.Clone(beside), "scalable")

// declare reads x-service-connect. It returns false if the service is not in
// the mesh: switched off, or too wrong to go on.
func (f *file) declare(s *service, e entry) bool {
	s.lines = map[string]int{"": e.key.Line}
	linesOf(e.value, "", s.lines, new(int))
	sc := map[string]any{}
	if v := resolve(e.value); !isNull(v) {
		if v.Kind != yaml.MappingNode {
			f.bad(e.key.Line, s.at("x-service-connect"), "has the wrong type; allowed: a mapping, or nothing for a client")
			return false
		}
		if err := e.value.Decode(&sc); err != nil {
			f.bad(e.key.Line, s.at("x-service-connect"), "%s", strings.ReplaceAll(strings.TrimPrefix(err.Error(), "yaml: "), "\n", " "))
			return false
		}
	}
	doc := map[string]any{"serviceConnectConfiguration": sc}
	for _, key := range beside {
		if m, ok := sc[key]; ok {
			doc[key] = m
		}
	}
	if v, ok := sc["scalable"]; ok {
		if s.scalable, ok = v.(bool); !ok {
			f.bad(s.lineOf("scalable"), s.at("x-service-connect.scalable"), "%v; allowed: true or false", v)
		}
	}
	for _, key := range own {
		delete(sc, key)
	}
	if _, ok := sc["enabled"]; !ok {
		sc["enabled"] = true
	}
	if _, ok := sc["namespace"]; !ok && f.settings.Namespace != "" {
		sc["namespace"] = f.settings.Namespace
	}
	text, err := json.Marshal(doc)
	if err != nil {
		f.bad(e.key.Line, s.at("x-service-connect"), "can't be written as JSON: %v", err)
		return false
	}
	s.document = string(text)
	s.task, err = declare.Parse(text)
	problems, _ := errors.AsType[declare.Problems](err)
	for _, p := range problems {
		f.declared(s, p)
	}
	if err != nil || !s.task.Enabled {
		return err != nil // what is wrong with its other keys is said, too
	}
	f.checkDeclared(s)
	return true
}

// declared adds a problem of the declaration, at its line in this file.
func (f *file) declared(s *service, p declare.Problem) {
	rel := strings.TrimPrefix(strings.TrimPrefix(p.Path, "serviceConnectConfiguration"), ".")
	text := p.Text
	switch {
	case rel == "serviceConnectConfiguration":
		text = "is what x-service-connect stands for; allowed: its content without it"
	case strings.HasPrefix(text, "is not a key here") && !strings.ContainsAny(rel, ".["):
		text += ", " + strings.Join(own, ", ")
	}
	f.bad(s.lineOf(rel), strings.TrimSuffix(s.at("x-service-connect")+"."+rel, "."), "%s", text)
}

// checkDeclared holds what is so in compose, besides ECS's rules.
func (f *file) checkDeclared(s *service) {
	at := s.at("x-service-connect")
	switch n := s.task.Namespace; {
	case n == "":
		f.bad(s.lineOf(""), at+".namespace", "is missing; allowed: a namespace here, or x-patchbay.namespace for the whole file")
	case !mesh.ValidDNSName(n):
		f.bad(s.lineOf("namespace"), at+".namespace", "%q; allowed: a DNS name in lower case", n)
	}
	for i, p := range s.task.Ports {
		if p.TLS != nil && p.TLS.Issuer != "default" {
			rel := fmt.Sprintf("services[%d].tls.issuerCertificateAuthority.awsPcaAuthorityArn", i)
			f.bad(s.lineOf(rel), at+"."+rel, "%q; allowed: default, the one issuer of the control plane that is added", p.TLS.Issuer)
		}
	}
}

// checkTogether holds what concerns several services.
func (f *file) checkTogether() {
	if len(f.tasks) == 0 && len(f.problems) == 0 {
		f.bad(0, "services", "none carries x-service-connect; allowed: at least one")
	}
	first := map[string]string{}
	for _, s := range f.tasks {
		for i, p := range s.task.Ports {
			name := p.DiscoveryName + "." + s.task.Namespace
			at := fmt.Sprintf("services[%d]", i)
			if other, dup := first[name]; dup && other != s.name {
				f.bad(s.lineOf(at), s.at("x-service-connect."+at), "%s is offered by service %s too; allowed: each discoveryName once in a namespace", name, other)
			}
			first[name] = s.name
		}
	}
	f.checkLinks()
	services, volumes := f.madeNames()
	if len(services) > 0 && !slices.ContainsFunc(services, func(n string) bool { return f.all[n] == nil }) {
		f.problems = nil // they come from what was added
		f.bad(0, "services", "has all that is added already, without the marks by which it is found (%s…): another program has written this file anew; allowed: the file as inject wrote it, or as it was before", begin[:len("# >>> patchbay inject")])
		return
	}
	for _, n := range services {
		if s := f.all[n]; s != nil {
			f.bad(s.entry.key.Line, s.at(""), "is the name of a service that is added; allowed: another name")
		}
	}
	f.checkMade("volumes", volumes)
	f.checkMade("networks", []string{network})
}

// checkLinks finds old-style links to a service whose network moves away.
func (f *file) checkLinks() {
	for _, e := range f.services.entries {
		s := f.all[e.key.Value]
		links := s.value("links")
		if links == nil || s.has("x-service-connect") > 0 {
			continue
		}
		for _, l := range links.Content {
			to, _, _ := strings.Cut(resolve(l).Value, ":")
			if t := f.all[to]; t != nil && slices.Contains(f.tasks, t) && !t.scalable {
				f.bad(l.Line, s.at("links"), "%s is in the mesh, and its network belongs to %s; allowed: no link; its name is known on its networks", to, pauseOf(t))
			}
		}
	}
}

// checkMade refuses names of the user's that are those of what is added.
func (f *file) checkMade(section string, names []string) {
	e := f.top.get(section)
	if e == nil {
		return
	}
	keys, _ := merged(e.value)
	for _, k := range keys {
		if slices.Contains(names, k) {
			f.bad(e.key.Line, section+"."+k, "is a name that is added; allowed: another name")
		}
	}
}

// lineOf is the line of a path below x-service-connect, or of the nearest key
// above it.
func (d declaration) lineOf(path string) int {
	for {
		if n, ok := d.lines[path]; ok {
			return n
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
}

// linesOf notes where each key and element stands. count bounds aliases that
// contain themselves.
func linesOf(n *yaml.Node, path string, into map[string]int, count *int) {
	if *count++; *count > maxNodes || len(path) > 1000 {
		return
	}
	switch n = resolve(n); n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			at := strings.TrimPrefix(path+"."+n.Content[i].Value, ".")
			into[at] = n.Content[i].Line
			linesOf(n.Content[i+1], at, into, count)
		}
	case yaml.SequenceNode:
		for i, e := range n.Content {
			at := fmt.Sprintf("%s[%d]", path, i)
			into[at] = e.Line
			linesOf(e, at, into, count)
		}
	}
}
