package inject

import (
	"strconv"

	"go.yaml.in/yaml/v3"
)

// Ports and paths that the added containers agree on.
const (
	xdsAddr   = controlPlane + ":18000"
	agentAddr = controlPlane + ":18001"
	joinDir   = "/join"
	stateDir  = "/var/lib/patchbay/sidecar"
)

// grace is how long Compose waits for a sidecar: 12 s for the callers to know
// that the task stops, 20 s for what is under way, and some air.
const grace = "40s"

// separate makes the application one of three containers of a task: the
// network belongs to a container that never restarts, so that application and
// Envoy can.
func (f *file) separate(s *service, c *serviceChange) {
	c.drop(append([]string{"depends_on"}, ofNetwork...)...)
	c.put("network_mode", "service:"+pauseOf(s))
	c.put("depends_on", f.dependsOn(s,
		field{pauseOf(s), condition("service_started")},
		field{sidecarOf(s), condition("service_healthy")}))
}

// pause owns the task's network namespace, with all that the user said of it.
func (f *file) pause(s *service) field {
	o := object{{"image", f.settings.Image}, {"command", flow(words("pause"))}}
	for _, key := range ofNetwork {
		if key == "networks" {
			o = append(o, field{key, f.networks(s, append([]string{s.name}, containerName(s)...)...)})
		} else if n := s.value(key); n != nil {
			o = append(o, field{key, copyOf(n)})
		}
	}
	o = append(o, field{"depends_on", object{{controlPlane, condition("service_started")}}})
	return field{pauseOf(s), append(o, always(s)...)}
}

// containerName is one more name by which the others reach a container.
func containerName(s *service) []string {
	if name := s.text("container_name"); name != "" {
		return []string{name}
	}
	return nil
}

// sidecar is the agent with its Envoy.
func (f *file) sidecar(s *service) field {
	o := object{
		{"image", f.settings.Image},
		{"command", flow(words("sidecar"))},
		{"network_mode", "service:" + pauseOf(s)},
		{"cap_add", flow(words("NET_ADMIN"))},
		{"environment", object{
			{"PATCHBAY_XDS", xdsAddr},
			{"PATCHBAY_AGENT", agentAddr},
			{"PATCHBAY_WIRING", "redirect"},
			{"PATCHBAY_SERVICE_CONNECT", quoted(s.document)},
		}},
		{"volumes", words(joinOf(s)+":"+joinDir+":ro", sidecarOf(s)+":"+stateDir)},
		{"depends_on", object{
			{pauseOf(s), condition("service_started")},
			{joinOf(s), condition("service_completed_successfully")},
		}},
		{"healthcheck", healthcheck("patchbay", "sidecar", "health")},
		{"stop_grace_period", grace},
	}
	return field{sidecarOf(s), append(o, always(s)...)}
}

// join makes the workload's join key, once, for its sidecars alone.
func (f *file) join(s *service) field {
	args := words("token", "join", "--data", dataDir, "--trust-domain", f.settings.TrustDomain,
		"--namespace", s.task.Namespace, "--workload", s.name, "--out", joinDir)
	for _, p := range s.task.Ports {
		args = append(args, "--discovery-name", p.DiscoveryName)
	}
	o := object{
		{"image", f.settings.Image},
		{"command", flow(args)},
		{"network_mode", "none"},
		{"volumes", words(dataVolume+":"+dataDir, joinOf(s)+":"+joinDir)},
		{"depends_on", object{{controlPlane, condition("service_healthy")}}},
	}
	return field{joinOf(s), append(o, profiles(s)...)}
}

// scalable puts the agent into the application's own container: Compose can't
// pair the replicas of two services, but each replica has a network of its
// own. The programs come from a volume, so that the image stays as it is.
func (f *file) scalable(s *service, c *serviceChange) {
	c.drop("entrypoint", "user", "volumes", "cap_add", "init", "depends_on", "networks")
	args := words("/patchbay/patchbay", "task", "run", "--xds", xdsAddr, "--agent", agentAddr, "--join", "/patchbay-join", "--state", stateDir)
	if user := s.text("user"); user != "" {
		args = append(args, "--user", user)
		c.put("user", "0:0")
	}
	caps := copied(s.value("cap_add"))
	if holds(caps, "NET_ADMIN", "ALL") {
		args = append(args, "--keep-net-admin")
	} else {
		caps = append(caps, "NET_ADMIN")
	}
	args = append(args, "--service-connect", quoted(s.document), "--")
	c.put("entrypoint", append(args, copied(s.value("entrypoint"))...))
	c.put("init", true)
	c.put("cap_add", caps)
	c.put("volumes", append(copied(s.value("volumes")), words(programs+":/patchbay:ro", joinOf(s)+":/patchbay-join:ro", stateDir)...))
	c.put("networks", f.networks(s))
	c.put("depends_on", f.dependsOn(s,
		field{programs, condition("service_completed_successfully")},
		field{joinOf(s), condition("service_completed_successfully")}))
	if s.has("stop_grace_period") == 0 {
		c.put("stop_grace_period", grace)
	}
}

// copied are the elements of a user's list.
func copied(n *yaml.Node) list {
	var l list
	if n != nil {
		for _, e := range n.Content {
			l = append(l, copyOf(e))
		}
	}
	return l
}

func holds(l list, names ...string) bool {
	for _, e := range l {
		for _, name := range names {
			if n, ok := e.(*yaml.Node); ok && (n.Value == name || n.Value == "CAP_"+name) {
				return true
			}
		}
	}
	return false
}

// networks are those of the user, or the default one, with more aliases, and
// the mesh's own.
func (f *file) networks(s *service, aliases ...string) object {
	var o object
	switch n := s.value("networks"); {
	case n == nil:
		o = object{{"default", nil}}
	case n.Kind == yaml.MappingNode:
		keys, values := merged(n)
		for _, key := range keys {
			o = append(o, field{key, fieldsOf(values[key])})
		}
	default:
		for _, e := range n.Content {
			o = append(o, field{resolve(e).Value, object(nil)})
		}
	}
	for i := range o {
		settings, _ := o[i].value.(object)
		o[i].value = withAliases(settings, aliases)
	}
	return append(o, field{network, nil})
}

// fieldsOf is a copy of a mapping, key by key.
func fieldsOf(n *yaml.Node) object {
	var o object
	keys, values := merged(n)
	for _, key := range keys {
		o = append(o, field{key, copyOf(values[key])})
	}
	return o
}

func withAliases(settings object, aliases []string) any {
	var out object
	var all list
	for _, s := range settings {
		if s.key == "aliases" {
			all = copied(s.value.(*yaml.Node))
			continue
		}
		out = append(out, s)
	}
	for _, a := range aliases {
		all = append(all, a)
	}
	if len(all) > 0 {
		out = append(object{{"aliases", flow(all)}}, out...)
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// dependsOn is the user's depends_on in its long form, and more.
func (f *file) dependsOn(s *service, more ...field) object {
	var o object
	if n := s.value("depends_on"); n != nil && n.Kind == yaml.MappingNode {
		o = fieldsOf(n)
	} else if n != nil {
		for _, e := range n.Content {
			o = append(o, field{resolve(e).Value, condition("service_started")})
		}
	}
	return append(o, more...)
}

func condition(c string) object { return object{{"condition", c}} }

// healthcheck asks often while all start, and Docker has no second interval.
func healthcheck(command ...string) object {
	return object{
		{"test", flow(words(append([]string{"CMD"}, command...)...))},
		{"interval", "2s"},
		{"timeout", "5s"},
		{"retries", number(15)},
		{"start_period", "120s"},
	}
}

func number(n int) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(n)}
}

// always starts again after a crash and a reboot, under the service's own
// profiles.
func always(s *service) object {
	return append(object{{"restart", "unless-stopped"}}, profiles(s)...)
}

func profiles(s *service) object {
	if n := s.value("profiles"); n != nil {
		return object{{"profiles", copyOf(n)}}
	}
	return nil
}
