package inject

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// service is a service of the file.
type service struct {
	mapping
	name   string
	entry  entry    // its name and lines
	merged []string // keys that come by <<, in order
	values map[string]*yaml.Node
	declaration
}

// at is the path of the service, and of a key in it, in messages.
func (s *service) at(key string) string { return strings.TrimSuffix("services."+s.name+"."+key, ".") }

// has is the line of a key, own or merged; 0 if it is absent.
func (s *service) has(key string) int {
	if e := s.get(key); e != nil {
		return e.key.Line
	}
	if s.values[key] != nil {
		return s.entry.key.Line
	}
	return 0
}

// value is that of a key, own or merged, with aliases followed; nil if it is
// absent or null.
func (s *service) value(key string) *yaml.Node {
	n := s.values[key]
	if e := s.get(key); e != nil {
		n = e.value
	}
	if n == nil || isNull(resolve(n)) {
		return nil
	}
	return resolve(n)
}

// text is the value of a key that is a scalar; empty if it is not.
func (s *service) text(key string) string {
	if n := s.value(key); n != nil && n.Kind == yaml.ScalarNode {
		return n.Value
	}
	return ""
}

// readService takes one service of the file, in the mesh or not.
func (f *file) readService(e entry) {
	s := &service{name: e.key.Value, entry: e, values: map[string]*yaml.Node{}}
	f.all[s.name] = s
	if !block(e.value) {
		if _, values := merged(e.value); values["x-service-connect"] != nil {
			f.bad(e.key.Line, s.at(""), "is not in block style; allowed: one key in each line")
		}
		return
	}
	s.mapping = f.mapping(e.value, e.last)
	if m := s.get("<<"); m != nil {
		s.merged, s.values = merged(m.value)
	}
	decl := s.get("x-service-connect")
	if decl == nil {
		if s.values["x-service-connect"] != nil {
			f.bad(e.key.Line, s.at("x-service-connect"), "comes by a merge (<<); allowed: written in the service")
		}
		return
	}
	if !f.declare(s, *decl) {
		return
	}
	f.tasks = append(f.tasks, s)
	f.step = max(2, s.indent-f.services.indent)
	f.checkService(s)
}

// ofNetwork lists the keys that belong to the owner of the network namespace,
// and move there.
var ofNetwork = []string{"hostname", "domainname", "mac_address", "ports", "expose", "networks", "dns", "dns_search", "dns_opt", "extra_hosts", "sysctls"}

// refused has the keys that a service in the mesh may not have.
var refused = map[string]string{
	"network_mode":   "the task gets a network namespace of its own",
	"links":          "name the service by its networks' names or aliases",
	"external_links": "name the container by a network's alias",
	"extends":        "what it brings is not seen here: write it out",
}

// refusedScalable has those that a scalable service may not have besides.
var refusedScalable = map[string]string{
	"container_name": "each container of a scalable service needs its own",
	"hostname":       "each container of a scalable service needs its own",
	"cap_drop":       "the agent runs in the same container and needs its capabilities",
	"pid":            "the agent runs in the same container",
}

// kinds of values that are read; the rest is moved as it is.
var kinds = map[string][]yaml.Kind{
	"depends_on": {yaml.SequenceNode, yaml.MappingNode},
	"networks":   {yaml.SequenceNode, yaml.MappingNode},
	"volumes":    {yaml.SequenceNode},
	"cap_add":    {yaml.SequenceNode},
	"entrypoint": {yaml.SequenceNode},
	"user":       {yaml.ScalarNode},
	"profiles":   {yaml.SequenceNode},
}

// serviceName is what may stand in a workload's identity and in the names of
// volumes.
var serviceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

func (f *file) checkService(s *service) {
	if !serviceName.MatchString(s.name) {
		f.bad(s.entry.key.Line, s.at(""), "allowed as the name of a service in the mesh: up to 100 of [A-Za-z0-9._-]")
	}
	f.refuse(s, refused)
	for _, key := range slices.Sorted(maps.Keys(kinds)) {
		if n := s.value(key); n != nil && !slices.Contains(kinds[key], n.Kind) && (s.scalable || key != "entrypoint") {
			f.bad(s.has(key), s.at(key), "has the wrong type; allowed: %s", inWords(kinds[key]))
		}
	}
	if !s.scalable {
		f.checkTask(s)
		return
	}
	f.refuse(s, refusedScalable)
	f.checkScalable(s)
}

func (f *file) refuse(s *service, keys map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if line := s.has(key); line > 0 {
			f.bad(line, s.at(key), "can't stand beside x-service-connect: %s", keys[key])
		}
	}
}

// checkTask holds what is so for a task of several containers.
func (f *file) checkTask(s *service) {
	if n := s.value("sysctls"); n != nil {
		for _, name := range namesIn(n) {
			if !strings.HasPrefix(name, "net.") {
				f.bad(s.has("sysctls"), s.at("sysctls"), "%q; allowed: net.*, which goes with the network namespace", name)
			}
		}
	}
	replicas := s.text("scale")
	if n := s.value("deploy"); n != nil && replicas == "" {
		_, values := merged(n)
		if r := values["replicas"]; r != nil {
			replicas = resolve(r).Value
		}
	}
	if replicas != "" && replicas != "1" && replicas != "0" {
		f.bad(max(s.has("scale"), s.has("deploy")), s.at("x-service-connect.scalable"), "is missing, but the service has %s replicas; allowed: scalable: true, which puts the agent into each container", replicas)
	}
}

// checkScalable holds what is so where the agent starts the application.
func (f *file) checkScalable(s *service) {
	const inspect = "`docker image inspect -f '{{json .Config.Entrypoint}} {{json .Config.Cmd}}' IMAGE` shows both"
	switch n := s.value("entrypoint"); {
	case n == nil:
		f.bad(s.entry.key.Line, s.at("entrypoint"), "is missing, but the service is scalable, so that the agent starts the application; allowed: the entrypoint of its image as a list, or [] and a command (%s)", inspect)
	case n.Kind == yaml.SequenceNode && len(n.Content) == 0 && s.value("command") == nil:
		f.bad(s.has("entrypoint"), s.at("command"), "is missing, and entrypoint is empty; allowed: the command of its image (%s)", inspect)
	}
}

func inWords(kinds []yaml.Kind) string {
	name := map[yaml.Kind]string{yaml.SequenceNode: "a list", yaml.MappingNode: "a mapping", yaml.ScalarNode: "a string"}
	var out []string
	for _, k := range kinds {
		out = append(out, name[k])
	}
	return strings.Join(out, " or ")
}

// namesIn are the keys of a mapping, or what stands before = in a list.
func namesIn(n *yaml.Node) []string {
	var out []string
	for i, c := range n.Content {
		switch {
		case n.Kind == yaml.MappingNode && i%2 == 0:
			out = append(out, c.Value)
		case n.Kind == yaml.SequenceNode:
			name, _, _ := strings.Cut(resolve(c).Value, "=")
			out = append(out, name)
		}
	}
	return out
}
