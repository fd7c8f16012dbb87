package definition

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"patchbay/declare"
	"patchbay/declare/tree"
)

const (
	block      = "serviceConnectConfiguration"
	deployment = "deploymentConfiguration"
	policies   = "policies"
)

// Mapping is one port mapping with where it stands.
type Mapping struct {
	Container string // its name
	Path      string // in ECS's words
	Fields    *tree.Object
}

// Containers are those of the task definition; what is no object is nil.
func (d *Definition) Containers() []*tree.Object { return d.Task.Objects("containerDefinitions") }

// Mappings are the port mappings of all containers, in their order.
func (d *Definition) Mappings() []Mapping {
	var all []Mapping
	for i, c := range d.Containers() {
		for j, m := range c.Objects("portMappings") {
			all = append(all, Mapping{c.Text("name"), fmt.Sprintf("containerDefinitions[%d].portMappings[%d]", i, j), m})
		}
	}
	return all
}

// InMesh reports whether the service asks for Service Connect.
func (d *Definition) InMesh() bool {
	on, _ := d.Service.Object(block).Get("enabled").(bool)
	return on
}

// Declaration is the document that package declare reads: the service's block,
// the policies beside it, and the port mappings of all containers.
func (d *Definition) Declaration() *tree.Object {
	doc := &tree.Object{}
	if d.Service.Has(block) {
		doc.Set(block, known(d.Service.Get(block)))
	}
	if d.Policies != nil {
		doc.Set(policies, d.Policies)
	}
	if sc := doc.Object(block); sc != nil && d.Namespace != "" {
		sc.Set("namespace", d.Namespace)
	}
	if dep := d.Service.Object(deployment); dep.Has("strategy") {
		moves := &tree.Object{}
		for _, key := range []string{"strategy", "canaryConfiguration", "linearConfiguration", "bakeTimeInMinutes"} {
			if dep.Has(key) {
				moves.Set(key, known(dep.Get(key)))
			}
		}
		doc.Set(deployment, moves)
	}
	if d.Task == nil {
		return doc
	}
	list := []any{}
	for i, c := range d.Task.List("containerDefinitions") {
		c, _ := c.(*tree.Object)
		for _, m := range c.List("portMappings") {
			_ = i
			list = append(list, known(m))
		}
	}
	doc.Set("portMappings", list)
	return doc
}

// known is v without what only CloudFormation can tell; where a text has to
// stand, that is a text.
func known(v any) any {
	switch v := v.(type) {
	case *tree.Object:
		o := &tree.Object{}
		for _, key := range v.Keys() {
			e := v.Get(key)
			if f, ok := e.(*tree.Object); ok && f != nil && Intrinsic(f) {
				continue
			}
			o.Set(key, known(e))
		}
		return o
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = known(e)
		}
		return list
	default:
		return v
	}
}

// Declare reads the declaration of the task by ECS's rules.
func (d *Definition) Declare() (declare.Task, Problems) {
	doc := d.Declaration()
	task, err := declare.Parse(tree.Line(doc))
	problems, _ := errors.AsType[declare.Problems](err)
	var out Problems
	for _, p := range problems {
		out = append(out, d.declared(p))
	}
	if err != nil && len(out) == 0 {
		out = Problems{{d.ServiceFile(), "", err.Error()}}
	}
	return task, out
}

// declared puts a problem of the declaration where its cause stands.
func (d *Definition) declared(p declare.Problem) Problem {
	if p.Path == "declaration" {
		return Problem{d.ServiceFile(), d.ServiceAt.Path(block), p.Text}
	}
	if at, is := strings.CutPrefix(p.Path, policies); is && (at == "" || at[0] == '.') {
		return Problem{d.PoliciesAt.File, d.PoliciesAt.Path(p.Path), p.Text}
	}
	rest, is := strings.CutPrefix(p.Path, "portMappings")
	if !is {
		text := p.Text
		if why, unknown := d.ServiceAt.whyUnknown(p.Path); unknown {
			text = why
		}
		return Problem{d.ServiceFile(), d.ServiceAt.Path(p.Path), text}
	}
	var index int
	if _, err := fmt.Sscanf(rest, "[%d]", &index); err != nil {
		return Problem{d.TaskFile(), d.TaskAt.Path("containerDefinitions"), p.Text}
	}
	_, field, _ := strings.Cut(rest, "]")
	at := cmp.Or(d.mappingPath(index), "containerDefinitions") + field
	text := p.Text
	if why, unknown := d.TaskAt.whyUnknown(at); unknown {
		text = why
	}
	return Problem{d.TaskFile(), d.TaskAt.Path(at), text}
}

// mappingPath is where the mapping of this number stands, counted over all
// containers.
func (d *Definition) mappingPath(n int) string {
	for i, c := range d.Task.List("containerDefinitions") {
		c, _ := c.(*tree.Object)
		for j := range c.List("portMappings") {
			if n == 0 {
				return fmt.Sprintf("containerDefinitions[%d].portMappings[%d]", i, j)
			}
			n--
		}
	}
	return ""
}

// Intrinsic reports whether an object is a function of CloudFormation.
func Intrinsic(o *tree.Object) bool {
	keys := o.Keys()
	return len(keys) == 1 && (keys[0] == "Ref" || strings.HasPrefix(keys[0], "Fn::"))
}
