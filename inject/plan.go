package inject

import (
	"slices"

	"go.yaml.in/yaml/v3"
)

// network is the one that all tasks of the mesh and the control plane share.
// It has no way out: it takes no isolation away from the user's own networks.
const network = "patchbay"

func pauseOf(s *service) string   { return s.name + "-net" }
func sidecarOf(s *service) string { return s.name + "-sidecar" }
func joinOf(s *service) string    { return s.name + "-join" }

// madeNames are the services and volumes that are added.
func (f *file) madeNames() (services, volumes []string) {
	services = []string{controlPlane, authority}
	volumes = []string{dataVolume, caVolume, caShareVolume}
	for _, s := range f.tasks {
		services, volumes = append(services, joinOf(s)), append(volumes, joinOf(s))
		if s.scalable {
			continue
		}
		services = append(services, pauseOf(s), sidecarOf(s))
		volumes = append(volumes, sidecarOf(s))
	}
	if f.scales() {
		services, volumes = append(services, programs), append(volumes, programs)
	}
	return services, volumes
}

func (f *file) scales() bool {
	return slices.ContainsFunc(f.tasks, func(s *service) bool { return s.scalable })
}

// plan decides every change.
func (f *file) plan() {
	added := f.control()
	for _, s := range f.tasks {
		c := f.serviceChange(s)
		if s.scalable {
			f.scalable(s, &c)
			added = append(added, f.join(s))
		} else {
			f.separate(s, &c)
			added = append(added, f.pause(s), f.sidecar(s), f.join(s))
		}
		f.changes = append(f.changes, c.change)
	}
	f.follow()
	f.changes = append(f.changes, change{path: []string{"services"}, set: added, at: f.services.end(), indent: f.services.indent})
	_, volumes := f.madeNames()
	var v object
	for _, name := range volumes {
		v = append(v, field{name, nil})
	}
	f.section("volumes", v)
	f.section("networks", object{{network, object{{"internal", true}}}})
}

// section adds fields to a mapping at the top of the file.
func (f *file) section(name string, add object) {
	e := f.top.get(name)
	switch {
	case e != nil && block(e.value):
		m := f.mapping(e.value, e.last)
		f.changes = append(f.changes, change{path: []string{name}, set: add, at: m.end(), indent: m.indent})
	case e != nil:
		var all object
		if n := resolve(e.value); n.Kind == yaml.MappingNode {
			c := copyOf(n)
			for i := 0; i+1 < len(c.Content); i += 2 {
				all = append(all, field{c.Content[i].Value, c.Content[i+1]})
			}
		}
		f.changes = append(f.changes, change{hide: []entry{*e}, set: object{{name, append(all, add...)}}, at: e.last + 1, indent: f.top.indent})
	default:
		f.changes = append(f.changes, change{set: object{{name, add}}, at: f.top.end(), indent: f.top.indent})
	}
}

// serviceChange collects what happens to a service.
type serviceChange struct {
	s *service
	change
}

func (f *file) serviceChange(s *service) serviceChange {
	return serviceChange{s, change{path: []string{"services", s.name}, at: s.end(), indent: s.indent}}
}

// drop takes keys away. Where one comes by a merge, the merge is written out
// without it.
func (c *serviceChange) drop(keys ...string) {
	unmerge := false
	for _, key := range keys {
		if e := c.s.get(key); e != nil {
			c.hide = append(c.hide, *e)
		}
		unmerge = unmerge || c.s.values[key] != nil
	}
	if !unmerge {
		return
	}
	c.hide = append(c.hide, *c.s.get("<<"))
	c.unmerge = nil
	for _, key := range c.s.merged {
		if c.s.get(key) != nil {
			continue
		}
		c.unmerge = append(c.unmerge, key)
		if !slices.Contains(keys, key) {
			c.set = append(c.set, field{key, copyOf(c.s.values[key])})
		}
	}
}

// put writes a key.
func (c *serviceChange) put(key string, v any) { c.set = append(c.set, field{key, v}) }

// follow lets services that share the network of a task go where it went.
func (f *file) follow() {
	for _, e := range f.services.entries {
		s := f.all[e.key.Value]
		if s.has("x-service-connect") > 0 {
			continue
		}
		for _, t := range f.tasks {
			if !t.scalable && s.text("network_mode") == "service:"+t.name {
				c := f.serviceChange(s)
				c.drop("network_mode")
				c.put("network_mode", "service:"+pauseOf(t))
				f.changes = append(f.changes, c.change)
			}
		}
	}
}
