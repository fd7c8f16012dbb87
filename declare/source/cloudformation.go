package source

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"patchbay/declare/definition"
	"patchbay/declare/tree"
)

// template reads a CloudFormation template.
func (r *reader) template(file string, root *tree.Object) {
	t := &template{reader: r, file: file, root: root, used: map[string]bool{}}
	resources := root.Object("Resources")
	tasks := map[string]*definition.Definition{}
	var order []string
	for _, key := range resources.Keys() {
		res := resources.Object(key)
		if res.Text("Type") == "AWS::ECS::TaskDefinition" {
			tasks[key] = t.task(key, res.Object("Properties"))
			order = append(order, key)
		}
	}
	used, services := map[string]bool{}, 0
	for _, key := range resources.Keys() {
		res := resources.Object(key)
		if res.Text("Type") != "AWS::ECS::Service" {
			continue
		}
		services++
		d := t.service(key, res.Object("Properties"))
		to := logical(res.Object("Properties").Get("TaskDefinition"))
		if task := tasks[to]; task != nil {
			d.Task, d.TaskAt, d.TaskKey = task.Task, task.TaskAt, task.TaskKey
			d.Notes = append(d.Notes, task.Notes...)
			used[to] = true
		}
		t.targets(res.Object("Properties"), d)
		r.found = append(r.found, d)
	}
	for _, key := range order {
		if !used[key] {
			r.found = append(r.found, tasks[key])
		}
	}
	if services+len(tasks) == 0 {
		r.bad(file, "Resources", "has neither AWS::ECS::Service nor AWS::ECS::TaskDefinition; allowed: a template with at least one")
	}
}

type template struct {
	*reader
	file string
	root *tree.Object
	used map[string]bool // parameters whose default was taken
}

func (t *template) place(key string) place {
	return place{File: t.file, At: map[string]spot{"": stand("Resources."+key+".Properties", pascal)}, Unknown: map[string]string{}}
}

func (t *template) task(key string, properties *tree.Object) *definition.Definition {
	d := &definition.Definition{Form: definition.CloudFormation, TaskKey: key, Name: key, TaskAt: t.place(key)}
	d.Task, _ = FromTemplate(t.resolved(properties, "", d.TaskAt.Unknown)).(*tree.Object)
	if d.Task == nil {
		d.Task = &tree.Object{}
	}
	if !d.Task.Has("family") { // CloudFormation makes one
		d.Task.SetAt(0, "family", key)
	}
	numbers(d.Task)
	t.notes(d)
	return d
}

func (t *template) service(key string, properties *tree.Object) *definition.Definition {
	d := &definition.Definition{Form: definition.CloudFormation, ServiceKey: key, Name: key, ServiceAt: t.place(key)}
	whole := properties.Clone()
	// Elsewhere functions stay; in the block the task has to know the values.
	kept := FromTemplate(t.resolved(without(whole, "ServiceConnectConfiguration"), "", nil))
	d.Service, _ = kept.(*tree.Object)
	if d.Service == nil {
		d.Service = &tree.Object{}
	}
	if sc := whole.Get("ServiceConnectConfiguration"); sc != nil {
		d.Service.Set(block, FromTemplate(t.resolved(sc, block, d.ServiceAt.Unknown)))
	}
	if name := d.Service.Text("serviceName"); name != "" {
		d.Name = name
	}
	numbers(d.Service)
	t.notes(d)
	return d
}

func without(o *tree.Object, key string) *tree.Object {
	c := o.Clone()
	c.Delete(key)
	return c
}

func (t *template) notes(d *definition.Definition) {
	for _, name := range slices.Sorted(maps.Keys(t.used)) {
		d.Notes = append(d.Notes, definition.Problem{File: t.file, Path: "Parameters." + name, Text: "was taken as its default; give another with --parameter " + name + "=VALUE"})
	}
	clear(t.used)
}

// resolved is v with the functions replaced whose values the template tells.
// What stays is noted by its path, with why.
func (t *template) resolved(v any, path string, unknown map[string]string) any {
	switch v := v.(type) {
	case *tree.Object:
		if v != nil && definition.Intrinsic(v) {
			if s, ok := t.value(v, 0); ok {
				return s
			}
			if unknown != nil {
				unknown[path] = fmt.Sprintf("%s is known to CloudFormation only; allowed: a value, or a parameter with a default or --parameter", tree.Line(v))
			}
			return v
		}
		o := &tree.Object{}
		for _, key := range v.Keys() {
			if e := v.Get(key); !noValue(e) {
				o.Set(key, t.resolved(e, strings.TrimPrefix(path+"."+unpascal(key), "."), unknown))
			}
		}
		return o
	case []any:
		list := []any{}
		for i, e := range v {
			if !noValue(e) {
				list = append(list, t.resolved(e, fmt.Sprintf("%s[%d]", path, i), unknown))
			}
		}
		return list
	default:
		return v
	}
}

func noValue(v any) bool {
	o, ok := v.(*tree.Object)
	return ok && o != nil && definition.Intrinsic(o) && o.Text("Ref") == "AWS::NoValue"
}

// maxFunctions bounds functions within functions.
const maxFunctions = 50

// value computes a function: references to parameters and to namespaces of the
// template, Fn::Sub, Fn::Join and Fn::FindInMap of what is known.
func (t *template) value(v any, depth int) (any, bool) {
	o, is := v.(*tree.Object)
	if !is || o == nil || !definition.Intrinsic(o) {
		return v, true
	}
	if depth > maxFunctions {
		return nil, false
	}
	arg := o.Get(o.Keys()[0])
	switch o.Keys()[0] {
	case "Ref":
		name, _ := arg.(string)
		return t.ref(name, depth)
	case "Fn::GetAtt":
		return t.attribute(arg, depth)
	case "Fn::Sub":
		return t.sub(arg, depth)
	case "Fn::Join":
		return t.join(arg, depth)
	case "Fn::FindInMap":
		list, _ := arg.([]any)
		var at any = t.root.Object("Mappings")
		for _, e := range list {
			key, ok := t.value(e, depth+1)
			m, _ := at.(*tree.Object)
			if s, isText := key.(string); ok && isText && m.Has(s) {
				at = m.Get(s)
				continue
			}
			return nil, false
		}
		return at, len(list) == 3
	}
	return nil, false
}

func (t *template) ref(name string, depth int) (any, bool) {
	if s, ok := t.options.Parameters[name]; ok {
		return s, true
	}
	if p := t.root.Object("Parameters").Object(name); p != nil {
		d := p.Get("Default")
		if d == nil || strings.HasPrefix(p.Text("Type"), "AWS::SSM::") {
			return nil, false
		}
		t.used[name] = true
		return d, true
	}
	return nil, false
}

// attribute knows the name behind the ARN of a namespace of this template: ECS
// takes both.
func (t *template) attribute(arg any, depth int) (any, bool) {
	var name string
	switch arg := arg.(type) {
	case string:
		name, _, _ = strings.Cut(arg, ".")
	case []any:
		if len(arg) > 0 {
			name, _ = arg[0].(string)
		}
	}
	res := t.root.Object("Resources").Object(name)
	if typ := res.Text("Type"); strings.HasPrefix(typ, "AWS::ServiceDiscovery::") && strings.HasSuffix(typ, "Namespace") {
		return t.value(res.Object("Properties").Get("Name"), depth+1)
	}
	return nil, false
}

func (t *template) sub(arg any, depth int) (any, bool) {
	text, _ := arg.(string)
	var own *tree.Object
	if list, ok := arg.([]any); ok && len(list) == 2 {
		text, _ = list[0].(string)
		own, _ = list[1].(*tree.Object)
	}
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${")
		b.WriteString(before)
		if !found {
			return b.String(), true
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return nil, false
		}
		text = after
		if literal, ok := strings.CutPrefix(name, "!"); ok {
			b.WriteString("${" + literal + "}")
			continue
		}
		var v any
		var ok bool
		switch {
		case own.Has(name):
			v, ok = t.value(own.Get(name), depth+1)
		case strings.Contains(name, "."):
			v, ok = t.attribute(name, depth)
		default:
			v, ok = t.ref(name, depth)
		}
		s, isText := asText(v)
		if !ok || !isText {
			return nil, false
		}
		b.WriteString(s)
	}
}

func (t *template) join(arg any, depth int) (any, bool) {
	list, _ := arg.([]any)
	if len(list) != 2 {
		return nil, false
	}
	between, _ := list[0].(string)
	parts, _ := list[1].([]any)
	var all []string
	for _, p := range parts {
		v, ok := t.value(p, depth+1)
		s, isText := asText(v)
		if !ok || !isText {
			return nil, false
		}
		all = append(all, s)
	}
	return strings.Join(all, between), true
}

func asText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

// logical is the resource that a value refers to.
func logical(v any) string {
	o, _ := v.(*tree.Object)
	switch arg := o.Get("Fn::GetAtt").(type) {
	case string:
		name, _, _ := strings.Cut(arg, ".")
		return name
	case []any:
		if len(arg) > 0 {
			name, _ := arg[0].(string)
			return name
		}
	}
	return o.Text("Ref")
}

// numeric and boolean are the members that a template may write as texts.
var (
	numeric = map[string]bool{
		"containerPort": true, "hostPort": true, "ingressPortOverride": true, "port": true, "idleTimeoutSeconds": true,
		"perRequestTimeoutSeconds": true, "desiredCount": true, "memoryReservation": true, "stopTimeout": true, "startTimeout": true,
		"interval": true, "timeout": true, "retries": true, "startPeriod": true,
	}
	boolean = map[string]bool{"enabled": true, "essential": true, "readonlyRootFilesystem": true, "privileged": true}
)

// numbers turns such texts into what ECS has.
func numbers(v any) {
	switch v := v.(type) {
	case *tree.Object:
		for _, key := range v.Keys() {
			s, isText := v.Get(key).(string)
			_, err := strconv.Atoi(s)
			switch {
			case isText && numeric[key] && err == nil:
				v.Set(key, json.Number(s))
			case isText && boolean[key] && (s == "true" || s == "false"):
				v.Set(key, s == "true")
			default:
				numbers(v.Get(key))
			}
		}
	case []any:
		for _, e := range v {
			numbers(e)
		}
	}
}

// targets finds what the template has of the target groups and their listeners.
func (t *template) targets(properties *tree.Object, d *definition.Definition) {
	resources := t.root.Object("Resources")
	for i, lb := range properties.Objects("LoadBalancers") {
		name := logical(lb.Get("TargetGroupArn"))
		group := resources.Object(name)
		if group.Text("Type") != "AWS::ElasticLoadBalancingV2::TargetGroup" {
			continue
		}
		p := group.Object("Properties")
		target := definition.Target{Protocol: p.Text("Protocol"), HealthCheck: p.Text("HealthCheckProtocol"), Balancer: balancerOf(p.Text("Protocol"))}
		for _, key := range resources.Keys() {
			l := resources.Object(key)
			if l.Text("Type") != "AWS::ElasticLoadBalancingV2::Listener" {
				continue
			}
			for _, action := range l.Object("Properties").Objects("DefaultActions") {
				if policy := l.Object("Properties").Text("SslPolicy"); logical(action.Get("TargetGroupArn")) == name && policy != "" {
					target.Policies = append(target.Policies, policy)
				}
			}
		}
		if d.Targets == nil {
			d.Targets = map[int]definition.Target{}
		}
		d.Targets[i] = target
	}
}

var errTooLarge = errors.New("grows too large when its aliases are written out")
