// Package ecs takes a task definition with its service and gives back both with
// patchbay's sidecar in the place of Service Connect's.
//
// It owns what is added, and that it can be taken away again: the sidecar's
// container carries what was there before. It is pure: no network, no files. It
// must not know how a sidecar does its work. Start reading at [Inject], then
// [Remove].
package ecs

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"patchbay/declare"
	"patchbay/declare/definition"
	"patchbay/declare/tree"
	"patchbay/inject/ecs/template"
)

// Sidecar is the name of the container that is added.
const Sidecar = "patchbay-sidecar"

const (
	block    = "serviceConnectConfiguration"
	policies = "policies"
)

// Settings say what a definition does not.
type Settings struct {
	Image string   `json:"image"` // of the sidecar
	XDS   []string `json:"xds"`   // the control plane's xDS ports, HOST:PORT
	Agent string   `json:"agent"` // its agent ports, HOST:PORT, separated by commas
	// Join are the files of a join directory without a key; nil: the image has
	// them at /join.
	Join       map[string]string `json:"join,omitempty"`
	Wiring     string            `json:"wiring,omitempty"`     // redirect or bind; empty: what the task can have
	Namespace  string            `json:"namespace,omitempty"`  // the cluster's default
	Parameters map[string]string `json:"parameters,omitempty"` // of a template
	// What AWS's advice for the proxy's size asks: requests a second at the peak,
	// services of the namespace, tasks of the namespace.
	Requests int `json:"requests,omitempty"`
	Services int `json:"services,omitempty"`
	Tasks    int `json:"tasks,omitempty"`
	// Together are the services that get their sidecars by the same settings, for
	// what is said where these fit one of them alone; nil: this one.
	Together []string `json:"-"`

	undo bool // to be taken away: what was written is not refused any more
}

// Original is the text that was injected, byte for byte.
type Original struct {
	Task    string `json:"task"`
	Service string `json:"service"`
}

// Result is a task definition and a service for `aws ecs
// register-task-definition` and `create-service` or `update-service`. Of a
// template they are the properties of its resources; [Result.Template] is the
// template with them.
type Result struct {
	Name          string
	Task, Service []byte
	Update        bool // Service is for update-service
	// HCL is what of a Terraform plan has to be changed in its source; nil of
	// other forms.
	HCL []byte
	// Notes are what is often a mistake; Changes what was changed that nobody may
	// expect, and is none.
	Notes, Changes definition.Problems

	changed []template.Change // of a template
	label   string            // what the sidecar carries of the original
}

// inject is one run.
type inject struct {
	d        *definition.Definition
	s        Settings
	task     declare.Task
	out      *tree.Object // the task definition
	service  *tree.Object
	problems definition.Problems
	notes    definition.Problems
	changes  definition.Problems
}

// Inject gives a definition its sidecar. The same input gives the same output.
// Everything that is wrong is said at once.
func Inject(d *definition.Definition, s Settings, o Original) (*Result, definition.Problems) {
	in := &inject{d: d, s: s}
	in.check()
	if len(in.problems) > 0 {
		return nil, in.problems
	}
	in.apply()
	in.look()
	r := &Result{Name: d.Name, Update: d.Exists, Notes: distinct(append(slices.Clone(d.Notes), in.notes...)), Changes: in.changes}
	r.label = in.remember(o)
	if d.Form == definition.CloudFormation {
		in.template(r)
	}
	r.Task, r.Service = tree.Write(in.out, "    "), tree.Write(in.service, "    ")
	if d.Form == definition.Terraform {
		r.HCL = in.hcl()
	}
	if n := len(tree.Line(in.out)); n > maxTask {
		return nil, definition.Problems{{File: d.TaskFile(), Path: d.TaskPath(""), Text: fmt.Sprintf("has %d bytes with its sidecar; allowed by ECS: %d", n, maxTask)}}
	}
	return r, nil
}

// Limits of ECS.
const (
	maxTask       = 64 << 10
	maxContainers = 10
)

func (in *inject) badTask(path, format string, args ...any) {
	in.problems = append(in.problems, definition.Problem{File: in.d.TaskFile(), Path: in.d.TaskPath(path), Text: fmt.Sprintf(format, args...)})
}

func (in *inject) badService(path, format string, args ...any) {
	in.problems = append(in.problems, definition.Problem{File: in.d.ServiceFile(), Path: in.d.ServicePath(path), Text: fmt.Sprintf(format, args...)})
}

func (in *inject) note(task bool, path, format string, args ...any) {
	in.notes = append(in.notes, in.at(task, path, format, args...))
}

func (in *inject) change(task bool, path, format string, args ...any) {
	in.changes = append(in.changes, in.at(task, path, format, args...))
}

func (in *inject) at(task bool, path, format string, args ...any) definition.Problem {
	p := definition.Problem{File: in.d.ServiceFile(), Path: in.d.ServicePath(path), Text: fmt.Sprintf(format, args...)}
	if task {
		p.File, p.Path = in.d.TaskFile(), in.d.TaskPath(path)
	}
	return p
}

// distinct leaves out what was said before.
func distinct(notes definition.Problems) definition.Problems {
	seen := map[definition.Problem]bool{}
	return slices.DeleteFunc(notes, func(p definition.Problem) bool {
		dup := seen[p]
		seen[p] = true
		return dup
	})
}

// check says what does not hold, by ECS's rules and by ours.
func (in *inject) check() {
	d := in.d
	if i := carries(d); i >= 0 {
		in.badTask(fmt.Sprintf("containerDefinitions[%d].name", i), "%s is there already: this was injected before; allowed: the definition without it, which 'patchbay uninject ecs FILE -o DIR' writes", Sidecar)
		return // what else is wrong, injecting has made
	}
	switch {
	case d.Task == nil:
		name := d.Service.Text("taskDefinition")
		if name != "" {
			name = " " + definition.Family(name)
		}
		in.badService("taskDefinition", "the task definition%s is not given; allowed: the file of it as well (aws ecs describe-task-definition), or by --service the services that it is given for", name)
		return
	case d.Service == nil:
		in.badTask("", "its service is not given; allowed: the file of it as well, with serviceConnectConfiguration")
		return
	}
	in.task, in.problems = d.Check()
	if len(in.problems) == 0 && !in.task.Enabled {
		in.badService(block+".enabled", "is false; allowed: true, as the task is to be in the mesh")
	}
	if n := len(d.Containers()); n >= maxContainers {
		in.badTask("containerDefinitions", "has %d containers; allowed beside the sidecar: %d", n, maxContainers-1)
	}
	in.roleAndJoin()
	in.wiringFits()
}

// carries is which container of a task definition is the sidecar; -1 if none.
func carries(d *definition.Definition) int {
	if d.Task == nil {
		return -1
	}
	return slices.IndexFunc(d.Containers(), func(c *tree.Object) bool { return c.Text("name") == Sidecar })
}

// Carries reports whether a definition has the sidecar already.
func Carries(d *definition.Definition) bool { return carries(d) >= 0 }

func (in *inject) wiringFits() {
	switch in.s.Wiring {
	case "", "bind":
	case "redirect":
		if in.d.Fargate() {
			in.badTask("requiresCompatibilities", "Fargate gives no container NET_ADMIN; allowed there: --wiring bind")
		}
	default:
		in.problems = append(in.problems, definition.Problem{Path: "--wiring", Text: fmt.Sprintf("%q; allowed: redirect, bind", in.s.Wiring)})
	}
	if in.wiring() != "bind" || in.d.NetworkMode() == definition.Bridge {
		return
	}
	for i, p := range in.task.Ports {
		for j, a := range p.Aliases {
			if slices.Contains(in.task.ContainerPorts, a.Port) {
				path := fmt.Sprintf("%s.services[%d].clientAliases[%d].port", block, i, j)
				in.note(false, path, "%d is a port of this task, too: where its container listens on all addresses, Envoy can't listen for the alias beside it, and this task can't call it (others can); another alias port has no such trap", a.Port)
			}
		}
	}
}

// wiring is how connections reach Envoy.
func (in *inject) wiring() string {
	switch {
	case in.s.Wiring != "":
		return in.s.Wiring
	case in.d.Fargate(), in.d.NetworkMode() != definition.AWSVPC:
		return "bind" // no privilege on Fargate, no rule in the network of a host
	}
	return "redirect"
}

// answerOnly are the members that describe-task-definition prints and
// register-task-definition refuses.
var answerOnly = []string{
	"taskDefinitionArn", "revision", "status", "requiresAttributes", "compatibilities",
	"registeredAt", "registeredBy", "deregisteredAt", "deleteRequestedAt",
}

func (in *inject) apply() {
	in.out = in.written(in.d.Task, in.d.TaskRaw)
	in.out.Delete(answerOnly...)
	if tags := in.out.List("tags"); len(tags) == 0 {
		in.out.Delete("tags") // refused when empty
	}
	list := in.out.List("containerDefinitions")
	for i, c := range in.out.Objects("containerDefinitions") {
		if c.Object("firelensConfiguration") != nil || in.d.NetworkMode() == definition.Bridge {
			continue // the sidecar's own log may go there; in bridge mode it needs the others' addresses
		}
		deps, isList := c.Get("dependsOn").([]any)
		if c == nil || definition.Intrinsic(c) || c.Get("dependsOn") != nil && !isList {
			in.note(true, fmt.Sprintf("containerDefinitions[%d]", i), "is a function, or its dependsOn is: what it makes does not wait for the sidecar; add {ContainerName: %s, Condition: HEALTHY} to its DependsOn", Sidecar)
			continue
		}
		c.Set("dependsOn", append(deps, tree.Of("containerName", Sidecar, "condition", "HEALTHY")))
	}
	in.out.Set("containerDefinitions", append(list, in.sidecar()))
	in.size()
	in.makeService()
}

// size makes room for the sidecar in the task.
func (in *inject) size() {
	cpu, memory, ok := in.d.Size()
	if !ok {
		return
	}
	c, m := in.advice()
	newCPU, newMemory := cpu+c, memory+m
	if in.d.Fargate() {
		if fc, fm, fits := definition.FargateFor(newCPU, newMemory); fits {
			newCPU, newMemory = fc, fm
		} else {
			in.note(true, "cpu", "stays at %d with %d MiB, the largest size of Fargate; the sidecar wants %d units and %d MiB of it", cpu, memory, c, m)
			newCPU, newMemory = cpu, memory
		}
	}
	in.out.Set("cpu", fmt.Sprint(newCPU))
	in.out.Set("memory", fmt.Sprint(newMemory))
	if newCPU != cpu || newMemory != memory {
		why := ""
		if in.d.Fargate() {
			why = ", the next size of Fargate that holds it"
		}
		in.change(true, "cpu", "%d units with %d MiB become %d with %d, as the sidecar wants %d and %d more%s", cpu, memory, newCPU, newMemory, c, m, why)
	}
}

// advice is AWS's for the size of the proxy: CPU units, MiB.
func (in *inject) advice() (cpu, memory int) {
	cpu, memory = 256, 64
	if in.s.Requests > 500 {
		cpu = 512
	}
	if in.s.Services > 100 || in.s.Tasks > 2000 {
		memory = 128
	}
	return cpu, memory
}

// declaration is what the sidecar reads: all that concerns the task, with the
// ingress ports written down.
func (in *inject) declaration() string {
	doc := in.d.Declaration()
	sc := doc.Object(block)
	for i, s := range sc.Objects("services") {
		s.Set("ingressPortOverride", tree.Number(int(in.task.Ports[i].IngressPort)))
		s.Object("tls").Delete("roleArn")
	}
	if log := sc.Object("logConfiguration"); log != nil {
		sc.Set("logConfiguration", tree.Of("logDriver", log.Get("logDriver")))
	}
	var mappings []any
	for _, m := range doc.Objects("portMappings") {
		short := &tree.Object{}
		for _, key := range []string{"name", "containerPort", "containerPortRange", "protocol", "appProtocol"} {
			if m.Has(key) {
				short.Set(key, m.Get(key))
			}
		}
		mappings = append(mappings, short)
	}
	doc.Delete("portMappings")
	if len(mappings) > 0 {
		doc.Set("portMappings", mappings)
	}
	return string(tree.Line(doc))
}

// joinFiles are the join directory as one text.
func (in *inject) joinFiles() string {
	text, err := json.Marshal(in.s.Join)
	if err != nil {
		panic(err) // strings alone
	}
	return strings.TrimSpace(string(text))
}
