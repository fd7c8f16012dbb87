package source

import (
	"fmt"
	"regexp"

	"patchbay/declare/definition"
	"patchbay/declare/tree"
)

// resource is one of a plan, with what is only known once it exists, and what
// its configuration refers to.
type resource struct {
	address, kind string
	values        *tree.Object
	unknown       any // true, or a tree with true in it
	config        *tree.Object
	module        string
	created       bool // by this plan
}

// plan reads the output of terraform show -json: dynamic blocks, variables and
// modules are resolved there.
func (r *reader) plan(file string, root *tree.Object) {
	values := root.Object("planned_values")
	if values == nil {
		values = root.Object("values") // of a state
	}
	if values.Object("root_module") == nil {
		r.bad(file, "planned_values.root_module", "is missing; allowed: the output of terraform plan -out=FILE and terraform show -json FILE")
		return
	}
	p := &plan{reader: r, file: file, unknown: map[string]any{}, created: map[string]bool{}, config: map[string]*tree.Object{}, calls: map[string]*tree.Object{}, outputs: map[string]*tree.Object{}}
	for _, c := range root.Objects("resource_changes") {
		change := c.Object("change")
		p.unknown[c.Text("address")] = change.Get("after_unknown")
		p.created[c.Text("address")] = change.Has("before") && change.Get("before") == nil
	}
	p.configuration("", root.Object("configuration").Object("root_module"))
	p.module("", values.Object("root_module"))
	p.definitions()
}

type plan struct {
	*reader
	file      string
	unknown   map[string]any
	created   map[string]bool
	config    map[string]*tree.Object // expressions, by address without indices
	calls     map[string]*tree.Object // what a module is given, by its prefix
	outputs   map[string]*tree.Object // and what it gives
	resources []resource
}

func (p *plan) configuration(module string, m *tree.Object) {
	for _, c := range m.Objects("resources") {
		p.config[module+c.Text("address")] = c.Object("expressions")
	}
	calls := m.Object("module_calls")
	p.outputs[module] = m.Object("outputs")
	for _, name := range calls.Keys() {
		prefix := module + "module." + name + "."
		p.calls[prefix] = calls.Object(name).Object("expressions")
		p.configuration(prefix, calls.Object(name).Object("module"))
	}
}

var indices = regexp.MustCompile(`\[[^\]]*\]`)

func (p *plan) module(prefix string, m *tree.Object) {
	for _, v := range m.Objects("resources") {
		if v.Text("mode") == "data" {
			continue
		}
		address := v.Text("address")
		p.resources = append(p.resources, resource{
			address: address, kind: v.Text("type"), values: v.Object("values"), module: prefix,
			unknown: p.unknown[address], created: p.created[address], config: p.config[indices.ReplaceAllString(address, "")],
		})
	}
	for _, c := range m.Objects("child_modules") {
		if prefix != c.Text("address") { // a module never contains itself
			p.module(c.Text("address"), c)
		}
	}
}

// definitions pairs services with their task definitions.
func (p *plan) definitions() {
	var tasks []*definition.Definition
	modules := map[*definition.Definition]string{}
	for _, r := range p.resources {
		if r.kind == "aws_ecs_task_definition" {
			d := p.task(r)
			tasks, modules[d] = append(tasks, d), r.module
		}
	}
	used, services := map[*definition.Definition]bool{}, 0
	for _, r := range p.resources {
		if r.kind != "aws_ecs_service" {
			continue
		}
		services++
		d := p.service(r)
		if t := p.taskOf(r, tasks, modules); t != nil {
			d.Task, d.TaskAt, d.TaskKey = t.Task, t.TaskAt, t.TaskKey
			d.Notes = append(d.Notes, t.Notes...)
			used[t] = true
		}
		p.targets(r, d)
		p.found = append(p.found, d)
	}
	for _, t := range tasks {
		if !used[t] {
			p.found = append(p.found, t)
		}
	}
	if services+len(tasks) == 0 {
		p.bad(p.file, "", "has neither aws_ecs_service nor aws_ecs_task_definition; allowed: a plan with at least one")
	}
}

func (p *plan) taskOf(r resource, tasks []*definition.Definition, modules map[*definition.Definition]string) *definition.Definition {
	if name := r.values.Text("task_definition"); name != "" {
		for _, t := range tasks {
			if definition.Family(name) == t.Task.Text("family") {
				return t
			}
		}
	}
	refs := references(r.config, "task_definition")
	for _, t := range tasks {
		if modules[t] == r.module && refersTo(refs, t.TaskKey) && sameIndex(t.TaskKey, r.address) {
			return t
		}
	}
	var inModule []*definition.Definition
	for _, t := range tasks {
		if modules[t] == r.module {
			inModule = append(inModule, t)
		}
	}
	if len(inModule) == 1 {
		return inModule[0]
	}
	return nil
}

var lastIndex = regexp.MustCompile(`\[[^\]]*\]$`)

// sameIndex reports whether two addresses with count or for_each belong to one
// another: their last index is the same, or one has none.
func sameIndex(a, b string) bool {
	x, y := lastIndex.FindString(a), lastIndex.FindString(b)
	return x == "" || y == "" || x == y
}

// references are what the expression of an argument refers to.
func references(expressions *tree.Object, argument string) []string {
	return expressions.Object(argument).Texts("references")
}

const afterApply = "is known after apply only; allowed: a value that is known when the plan is made, or the state after it (terraform show -json)"

func (p *plan) place(r resource) place {
	return place{File: p.file, At: map[string]spot{"": stand(r.address, snake)}, Unknown: map[string]string{}}
}

func (p *plan) task(r resource) *definition.Definition {
	d := &definition.Definition{Form: definition.Terraform, TaskKey: r.address, TaskAt: p.place(r), Task: &tree.Object{}}
	v := r.values
	d.Name = v.Text("family")
	move(d.Task, v, "family", "network_mode", "cpu", "memory", "requires_compatibilities", "task_role_arn", "execution_role_arn", "pid_mode", "ipc_mode")
	for _, key := range []string{"runtime_platform", "ephemeral_storage", "proxy_configuration"} {
		if b := first(v, key); b != nil {
			d.Task.Set(camel(key), convert(b))
		}
	}
	if list := v.List("volume"); len(list) > 0 {
		d.Task.Set("volumes", convert(list))
	}
	if list := v.List("placement_constraints"); len(list) > 0 {
		d.Task.Set("placementConstraints", convert(list))
	}
	if tags := tagList(v); tags != nil {
		d.Task.Set("tags", tags)
	}
	d.TaskAt.At["containerDefinitions"] = stand(r.address+".container_definitions", same)
	unknownPaths(r.unknown, "", d.TaskAt.Unknown)
	text, ok := v.Get("container_definitions").(string)
	if !ok {
		if _, why := d.TaskAt.Unknown["containerDefinitions"]; !why {
			d.TaskAt.Unknown["containerDefinitions"] = "is missing; allowed: the JSON of the containers"
		}
		return d
	}
	list, err := tree.Read([]byte(text))
	if _, isList := list.([]any); err == nil && !isList {
		err = fmt.Errorf("is not a list; allowed: the JSON of the containers")
	}
	if err != nil {
		p.bad(p.file, d.TaskAt.Path("containerDefinitions"), "%v", err)
		return d
	}
	d.Task.Set("containerDefinitions", list)
	return d
}

// move copies arguments that are set.
func move(to, from *tree.Object, keys ...string) {
	for _, key := range keys {
		switch v := from.Get(key).(type) {
		case nil:
		case string:
			if v != "" {
				to.Set(camel(key), v)
			}
		case []any:
			if len(v) > 0 {
				to.Set(camel(key), v)
			}
		default:
			to.Set(camel(key), v)
		}
	}
}

// first is the one block of a kind.
func first(o *tree.Object, key string) *tree.Object {
	if list := o.Objects(key); len(list) > 0 {
		return list[0]
	}
	return o.Object(key)
}

func tagList(v *tree.Object) []any {
	tags := v.Object("tags")
	var list []any
	for _, key := range tags.Keys() {
		if s, ok := tags.Get(key).(string); ok {
			list = append(list, tree.Of("key", key, "value", s))
		}
	}
	return list
}
