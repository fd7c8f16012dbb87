package definition

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"patchbay/declare"
	"patchbay/declare/tree"
)

// Network modes of ECS.
const (
	AWSVPC = "awsvpc"
	Bridge = "bridge"
	Host   = "host"
)

// NetworkMode is the task's; without one ECS takes bridge.
func (d *Definition) NetworkMode() string {
	if m := d.Task.Text("networkMode"); m != "" {
		return m
	}
	return Bridge
}

// Fargate reports whether the task may run on Fargate.
func (d *Definition) Fargate() bool {
	if slices.Contains(d.Task.Texts("requiresCompatibilities"), "FARGATE") || d.Service.Text("launchType") == "FARGATE" {
		return true
	}
	return slices.ContainsFunc(d.Service.Objects("capacityProviderStrategy"), func(s *tree.Object) bool {
		return strings.HasPrefix(s.Text("capacityProvider"), "FARGATE")
	})
}

// Check holds the definition against ECS's rules, and returns its declaration.
// It names every problem, in the order task definition, service.
func (d *Definition) Check() (declare.Task, Problems) {
	c := &checker{d: d}
	if d.Task != nil {
		c.task()
		c.containers()
	}
	unreadable := d.Task != nil && !slices.ContainsFunc(d.Containers(), func(o *tree.Object) bool { return o != nil })
	if d.Service == nil || unreadable { // nothing follows from containers that are not there
		return declare.Task{}, c.problems
	}
	declared, problems := d.Declare()
	c.problems = append(c.problems, problems...)
	if d.InMesh() || !d.Service.Has(block) {
		c.service()
	}
	return declared, unique(c.problems)
}

func unique(problems Problems) Problems {
	seen := map[Problem]bool{}
	return slices.DeleteFunc(problems, func(p Problem) bool {
		dup := seen[p]
		seen[p] = true
		return dup
	})
}

type checker struct {
	d        *Definition
	problems Problems
}

func (c *checker) badTask(path, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if why, unknown := c.d.TaskAt.whyUnknown(path); unknown {
		text = why
	}
	c.problems = append(c.problems, Problem{c.d.TaskFile(), c.d.TaskAt.Path(path), text})
}

func (c *checker) badService(path, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if why, unknown := c.d.ServiceAt.whyUnknown(path); unknown {
		text = why
	}
	c.problems = append(c.problems, Problem{c.d.ServiceFile(), c.d.ServiceAt.Path(path), text})
}

var (
	ecsName    = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)
	modes      = []string{AWSVPC, Bridge, Host}
	launches   = []string{"EC2", "FARGATE"}
	conditions = []string{"START", "COMPLETE", "SUCCESS", "HEALTHY"}
)

// isText reports whether a member is a text that is known.
func isText(o *tree.Object, key string) bool { _, ok := o.Get(key).(string); return ok }

func (c *checker) task() {
	t := c.d.Task
	if f := t.Get("family"); f == nil {
		c.badTask("family", "is missing; allowed: a name")
	} else if s, ok := f.(string); ok && !ecsName.MatchString(s) {
		c.badTask("family", "%q; allowed: up to 255 of [A-Za-z0-9_-]", s)
	}
	if m := t.Text("networkMode"); m != "" && !slices.Contains(modes, m) {
		c.badTask("networkMode", "%q; allowed: %s", m, strings.Join(modes, ", "))
	}
	for i, l := range t.Texts("requiresCompatibilities") {
		if !slices.Contains(launches, l) {
			c.badTask(fmt.Sprintf("requiresCompatibilities[%d]", i), "%q; allowed: %s, as for Service Connect", l, strings.Join(launches, ", "))
		}
	}
	if os := t.Object("runtimePlatform").Text("operatingSystemFamily"); strings.HasPrefix(os, "WINDOWS") {
		c.badTask("runtimePlatform.operatingSystemFamily", "%q; allowed: LINUX, as for Service Connect", os)
	}
	if !c.d.Fargate() {
		return
	}
	if m := c.d.NetworkMode(); m != AWSVPC && slices.Contains(modes, m) {
		c.badTask("networkMode", "is %s, and Fargate has awsvpc alone; allowed: awsvpc", m)
	}
	cpu, memory, ok := c.d.Size()
	switch {
	case !t.Has("cpu"):
		c.badTask("cpu", "is missing; allowed for Fargate: %s", fargateCPUs())
	case !t.Has("memory"):
		c.badTask("memory", "is missing; allowed for Fargate: MiB that fit cpu")
	case ok && !fargateSize(cpu, memory):
		c.badTask("memory", "%d MiB with cpu %d; allowed: a size of Fargate, such as %s", memory, cpu, near(cpu, memory))
	}
	if _, ok := c.d.cpu(); !ok && isText(t, "cpu") {
		c.badTask("cpu", "%q; allowed: CPU units such as 256, or vCPUs such as \"0.25 vCPU\"", t.Text("cpu"))
	}
	if _, ok := c.d.memory(); !ok && isText(t, "memory") {
		c.badTask("memory", "%q; allowed: MiB such as 512, or GB such as \"0.5 GB\"", t.Text("memory"))
	}
}

func (c *checker) containers() {
	list := c.d.Task.List("containerDefinitions")
	if len(list) == 0 {
		c.badTask("containerDefinitions", "is missing or empty; allowed: at least one container")
		return
	}
	first := map[string]int{}
	for i, e := range list {
		path := fmt.Sprintf("containerDefinitions[%d]", i)
		o, ok := e.(*tree.Object)
		if !ok {
			c.badTask(path, "is not an object; allowed: a container")
			continue
		}
		name := o.Text("name")
		other, dup := first[name]
		switch {
		case !o.Has("name"):
			c.badTask(path+".name", "is missing; allowed: a name")
		case isText(o, "name") && !ecsName.MatchString(name):
			c.badTask(path+".name", "%q; allowed: up to 255 of [A-Za-z0-9_-]", name)
		case dup && name != "":
			c.badTask(path+".name", "%q is that of containerDefinitions[%d] too; allowed: each name once", name, other)
		}
		first[name] = i
		if c.d.NetworkMode() == AWSVPC && len(o.List("links")) > 0 {
			c.badTask(path+".links", "has no meaning with networkMode awsvpc; allowed: none; the containers of a task share localhost")
		}
	}
	for i, o := range c.d.Containers() {
		c.dependsOn(fmt.Sprintf("containerDefinitions[%d].dependsOn", i), i, o, first)
	}
	c.cycle(first)
	c.ports()
}

func (c *checker) dependsOn(path string, self int, o *tree.Object, byName map[string]int) {
	for i, dep := range o.Objects("dependsOn") {
		at := fmt.Sprintf("%s[%d]", path, i)
		if !isText(dep, "containerName") && dep.Has("containerName") {
			continue
		}
		on, ok := byName[dep.Text("containerName")]
		switch {
		case !ok:
			c.badTask(at+".containerName", "%q is no container of the task; allowed: %s", dep.Text("containerName"), c.names())
		case on == self:
			c.badTask(at+".containerName", "%q is the container itself; allowed: another", dep.Text("containerName"))
		case !slices.Contains(conditions, dep.Text("condition")):
			c.badTask(at+".condition", "%q; allowed: %s", dep.Text("condition"), strings.Join(conditions, ", "))
		case dep.Text("condition") == "HEALTHY" && c.d.Containers()[on].Object("healthCheck") == nil:
			c.badTask(at+".condition", "is HEALTHY, and %s has no healthCheck; allowed: START, or a healthCheck there", dep.Text("containerName"))
		}
	}
}

// cycle finds containers that wait for one another.
func (c *checker) cycle(byName map[string]int) {
	state := map[int]int{} // 1: being looked at, 2: done
	var visit func(int) bool
	visit = func(i int) bool {
		if state[i] > 0 {
			return state[i] == 1
		}
		state[i] = 1
		for _, dep := range c.d.Containers()[i].Objects("dependsOn") {
			if on, ok := byName[dep.Text("containerName")]; ok && on != i && visit(on) {
				return true
			}
		}
		state[i] = 2
		return false
	}
	for i := range c.d.Containers() {
		if visit(i) {
			c.badTask(fmt.Sprintf("containerDefinitions[%d].dependsOn", i), "leads back to the container; allowed: an order in which all can start")
			return
		}
	}
}

func (c *checker) names() string {
	var names []string
	for _, o := range c.d.Containers() {
		names = append(names, o.Text("name"))
	}
	return strings.Join(names, ", ")
}

// ports holds what the network mode makes of port mappings.
func (c *checker) ports() {
	mode := c.d.NetworkMode()
	if mode == Bridge {
		return
	}
	first := map[string]Mapping{}
	for _, m := range c.d.Mappings() {
		port, ok := m.Fields.Int("containerPort")
		if !ok {
			continue
		}
		if host, ok := m.Fields.Int("hostPort"); ok && host != 0 && host != port {
			c.badTask(m.Path+".hostPort", "is %d, and with networkMode %s the port is containerPort; allowed: %d, or none", host, mode, port)
		}
		protocol := m.Fields.Text("protocol")
		if protocol == "" {
			protocol = "tcp"
		}
		key := fmt.Sprintf("%d/%s", port, protocol)
		if other, dup := first[key]; dup && other.Container != m.Container {
			c.badTask(m.Path+".containerPort", "%d is a port of container %s too, and with networkMode %s they share one network; allowed: each port once", port, other.Container, mode)
		}
		first[key] = m
	}
}
