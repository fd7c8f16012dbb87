package source

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"patchbay/declare/definition"
	"patchbay/declare/source/functions"
	"patchbay/declare/tree"
)

// template reads a CloudFormation template.
func (r *reader) template(file string, root *tree.Object) {
	t := &template{reader: r, file: file, fixed: map[string]string{}, Template: functions.Template{Root: root, Parameters: r.options.Parameters, Defaulted: map[string]bool{}}}
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
		to := functions.Logical(res.Object("Properties").Get("TaskDefinition"))
		if task := tasks[to]; task != nil {
			d.Task, d.TaskAt, d.TaskKey, d.TaskRaw = task.Task, task.TaskAt, task.TaskKey, task.TaskRaw
			for _, n := range task.Notes { // one word about a parameter is enough
				if !slices.ContainsFunc(d.Notes, func(p definition.Problem) bool { return p.Path == n.Path }) {
					d.Notes = append(d.Notes, n)
				}
			}
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
	functions.Template
	file  string
	fixed map[string]string // parameters whose default the sidecar's settings will have, with where
}

func (t *template) place(key string) place {
	return place{File: t.file, At: map[string]spot{"": stand("Resources."+key+".Properties", pascal)}, Unknown: map[string]string{}}
}

func (t *template) task(key string, properties *tree.Object) *definition.Definition {
	d := &definition.Definition{Form: definition.CloudFormation, TaskKey: key, Name: key, TaskAt: t.place(key), TaskRaw: properties.Clone()}
	d.Task, _ = FromTemplate(t.resolved(properties, "", d.TaskAt.Unknown)).(*tree.Object)
	if d.Task == nil {
		d.Task = &tree.Object{}
	}
	if !d.Task.Has("family") { // CloudFormation makes one
		d.Task.SetAt(0, "family", key)
	}
	numbers(d.Task)
	t.notes(d, d.TaskAt)
	return d
}

func (t *template) service(key string, properties *tree.Object) *definition.Definition {
	d := &definition.Definition{Form: definition.CloudFormation, ServiceKey: key, Name: key, ServiceAt: t.place(key), ServiceRaw: properties.Clone()}
	whole := properties.Clone()
	// Elsewhere functions stay; in the block the task has to know the values.
	kept := FromTemplate(t.resolved(without(whole, "ServiceConnectConfiguration"), "", nil))
	d.Service, _ = kept.(*tree.Object)
	if d.Service == nil {
		d.Service = &tree.Object{}
	}
	sc := t.Chosen(whole.Get("ServiceConnectConfiguration"))
	t.took(block)
	if sc != nil && !functions.NoValue(sc) {
		d.Service.Set(block, FromTemplate(t.resolved(sc, block, d.ServiceAt.Unknown)))
		t.defaultNamespace(d, whole)
	}
	if name := d.Service.Text("serviceName"); name != "" {
		d.Name = name
	}
	numbers(d.Service)
	t.notes(d, d.ServiceAt)
	return d
}

// defaultNamespace is that of a cluster of this template, where the block names
// none and nobody said another.
func (t *template) defaultNamespace(d *definition.Definition, properties *tree.Object) {
	sc := d.Service.Object(block)
	cluster := t.Root.Object("Resources").Object(functions.Logical(properties.Get("Cluster")))
	if sc == nil || sc.Has("namespace") || t.options.Namespace != "" || cluster.Text("Type") != "AWS::ECS::Cluster" {
		return
	}
	if name, ok := t.Value(cluster.Object("Properties").Object("ServiceConnectDefaults").Get("Namespace")); ok && name != nil {
		sc.Set("namespace", name)
	}
	t.took(block + ".namespace")
}

func without(o *tree.Object, key string) *tree.Object {
	c := o.Clone()
	c.Delete(key)
	return c
}

// settles are the paths of a task definition and of a service whose values the
// sidecar's settings or the size of the task come from, so that they are fixed
// with it; elsewhere functions stay as they are.
var settles = regexp.MustCompile(`^(serviceConnectConfiguration|deploymentConfiguration\.(strategy|canaryConfiguration|linearConfiguration|bakeTimeInMinutes)|loadBalancers\[\d+\]\.container(Name|Port)|launchType|` +
	`cpu|memory|networkMode|requiresCompatibilities|containerDefinitions\[\d+\]\.portMappings)($|[.\[])`)

// took notes the parameters whose defaults were asked for by the value at path.
func (t *template) took(path string) {
	settled := settles.MatchString(path) && !strings.HasPrefix(path, block+".logConfiguration.options")
	for name := range t.Defaulted {
		if _, already := t.fixed[name]; !already && settled {
			t.fixed[name] = path
		}
	}
	clear(t.Defaulted)
}

func (t *template) notes(d *definition.Definition, at definition.Place) {
	for _, name := range slices.Sorted(maps.Keys(t.fixed)) {
		what := "the sidecar's settings"
		if path := t.fixed[name]; path == "cpu" || path == "memory" {
			what = "the task's size"
		}
		d.Notes = append(d.Notes, definition.Problem{File: t.file, Path: "Parameters." + name, Text: fmt.Sprintf(
			"its default is fixed from now on in %s (for %s), whatever is given when the template is deployed; each environment with another value needs an inject of its own, with --parameter %s=VALUE",
			what, at.Path(t.fixed[name]), name)})
	}
	clear(t.fixed)
}

// resolved is v with the functions replaced whose values the template tells.
// What stays is noted by its path, with why.
func (t *template) resolved(v any, path string, unknown map[string]string) any {
	switch v := t.taken(v, path, unknown).(type) {
	case *tree.Object:
		if v != nil && definition.Intrinsic(v) {
			s, ok := t.Value(v)
			if t.took(path); ok {
				return s
			}
			if unknown != nil {
				unknown[path] = fmt.Sprintf("%s is known to CloudFormation only; allowed: a value, or a parameter with a default or --parameter", tree.Line(v))
			}
			return v
		}
		o := &tree.Object{}
		for _, key := range v.Keys() {
			at := strings.TrimPrefix(path+"."+unpascal(key), ".")
			if e := t.taken(v.Get(key), at, unknown); !functions.NoValue(e) {
				o.Set(key, t.resolved(e, at, unknown))
			}
		}
		return o
	case []any:
		list := []any{}
		for _, e := range v {
			at := fmt.Sprintf("%s[%d]", path, len(list))
			if e = t.taken(e, at, unknown); !functions.NoValue(e) {
				list = append(list, t.resolved(e, at, unknown))
			}
		}
		return list
	default:
		return v
	}
}

// taken is the branch of Fn::If that is taken, where values have to be known;
// elsewhere both stay.
func (t *template) taken(v any, path string, unknown map[string]string) any {
	if unknown == nil {
		return v
	}
	defer t.took(path)
	return t.Chosen(v)
}

// targets finds what the template has of the target groups and their listeners.
func (t *template) targets(properties *tree.Object, d *definition.Definition) {
	resources := t.Root.Object("Resources")
	for i, lb := range properties.Objects("LoadBalancers") {
		name := functions.Logical(lb.Get("TargetGroupArn"))
		group := resources.Object(name)
		if group.Text("Type") != "AWS::ElasticLoadBalancingV2::TargetGroup" {
			continue
		}
		p := group.Object("Properties")
		target := definition.Target{Protocol: p.Text("Protocol"), HealthCheck: p.Text("HealthCheckProtocol"), Balancer: balancerOf(p.Text("Protocol"))}
		for _, a := range p.Objects("TargetGroupAttributes") {
			if on, _ := t.Value(a.Get("Value")); a.Text("Key") == "proxy_protocol_v2.enabled" && (on == "true" || on == true) {
				target.ProxyProtocol = true
			}
		}
		for _, key := range resources.Keys() {
			l := resources.Object(key)
			if l.Text("Type") != "AWS::ElasticLoadBalancingV2::Listener" {
				continue
			}
			for _, action := range l.Object("Properties").Objects("DefaultActions") {
				if policy := l.Object("Properties").Text("SslPolicy"); functions.Logical(action.Get("TargetGroupArn")) == name && policy != "" {
					target.Policies = append(target.Policies, policy)
				}
			}
		}
		if d.Targets == nil {
			d.Targets = map[int]definition.Target{}
		}
		d.Targets[i] = target
	}
	t.took("")
}

var errTooLarge = errors.New("grows too large when its aliases are written out")
