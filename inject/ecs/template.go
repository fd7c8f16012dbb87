package ecs

import (
	"bytes"
	"fmt"

	"github.com/rogpeppe/go-internal/diff"

	"patchbay/declare/definition"
	"patchbay/declare/source"
	"patchbay/declare/tree"
	"patchbay/inject/ecs/template"
)

// written is v, or of a template what stands there, with its functions.
func (in *inject) written(v, raw *tree.Object) *tree.Object {
	if in.d.Form == definition.CloudFormation {
		return camel(raw)
	}
	return v.Clone()
}

// camel are properties of a template in ECS's words, pascal the other way.
func camel(o *tree.Object) *tree.Object { return source.FromTemplate(o.Clone()).(*tree.Object) }

func pascal(o *tree.Object) *tree.Object { return source.ToTemplate(o).(*tree.Object) }

// templateService is the service of a template without Service Connect. The block
// stays, to say so: to leave it out could mean unchanged.
func (in *inject) templateService() *tree.Object {
	s := camel(in.d.ServiceRaw)
	s.Set(block, tree.Of("enabled", false))
	if s.Has("loadBalancers") && s.List("loadBalancers") == nil {
		in.note(false, "loadBalancers", "is a function: aim by hand what it makes, at the container %s and its port", Sidecar)
	}
	i := -1
	for _, lb := range s.Objects("loadBalancers") {
		if lb.Text("Ref") == "AWS::NoValue" {
			continue
		}
		i++
		if p, ok := in.d.Aimed(in.task, i); ok {
			lb.Set("containerName", Sidecar)
			lb.Set("containerPort", tree.Number(int(p.IngressPort)))
		}
	}
	return s
}

// template makes the result one of a template.
func (in *inject) template(r *Result) {
	in.out, in.service = pascal(in.out), pascal(in.service)
	r.changed = []template.Change{
		{Resource: in.d.TaskKey, Before: in.d.TaskRaw, After: in.out},
		{Resource: in.d.ServiceKey, Before: in.d.ServiceRaw, After: in.service},
	}
}

// Template is the template that a definition was read from, with what the result
// made of it. The error is of type [definition.Problems].
func (r *Result) Template(f source.File) ([]byte, error) {
	text, err := template.Put(f.Text, r.changed...)
	if err != nil {
		return nil, definition.Problems{{File: f.Name, Text: err.Error()}}
	}
	return text, nil
}

// TemplateDiff is what became of a template, as a unified diff. What the
// sidecars carry of the original is shortened.
func TemplateDiff(f source.File, made []byte, results ...*Result) []byte {
	for _, r := range results {
		made = bytes.ReplaceAll(made, []byte(r.label), fmt.Appendf(nil, "(what was there before, %d bytes)", len(r.label)))
	}
	return diff.Diff(f.Name, f.Text, f.Name+" with sidecars", made)
}

// IsTemplate reports whether a file is a template of CloudFormation.
func IsTemplate(f source.File) bool {
	found, err := source.Read(source.Options{}, f)
	return err == nil && len(found) > 0 && found[0].Form == definition.CloudFormation
}

// RemoveTemplate takes away what was added to a template, from each resource
// that carries what it was, as [Remove] does; n is how many services these were.
// What was not edited comes back byte for byte. The error is of type
// [definition.Problems].
func RemoveTemplate(f source.File) (text []byte, n int, err error) {
	found, err := source.Read(source.Options{}, f)
	if err != nil {
		return nil, 0, err
	}
	text = f.Text
	for _, d := range found {
		if d.TaskRaw == nil {
			continue
		}
		c, ok := find(camel(d.TaskRaw))
		if !ok {
			continue
		}
		m, err := recall(c)
		if err == nil {
			text, err = m.back(source.File{Name: f.Name, Text: text}, d)
		}
		if err != nil {
			return nil, 0, definition.Problems{{File: f.Name, Path: d.TaskPath("containerDefinitions"), Text: "of the sidecar, its label does not give back what was injected: " + err.Error()}}
		}
		n++
	}
	return text, n, nil
}

// back is the template with the resources of one service as they were.
func (m memory) back(f source.File, now *definition.Definition) ([]byte, error) {
	plain, err := template.Restore(f.Text, now.TaskKey, m.Original.Task)
	if err == nil {
		plain, err = template.Restore(plain, now.ServiceKey, m.Original.Service)
	}
	if err != nil {
		return nil, err
	}
	was := source.File{Name: f.Name, Text: plain}
	r, d, err := m.inject(now, was)
	if err != nil {
		return nil, err
	}
	base, err := r.Template(was)
	if err != nil || bytes.Equal(base, f.Text) {
		return plain, err
	}
	edited := func(original, base, edited *tree.Object) *tree.Object {
		return pascal(merge(camel(original), camel(base), camel(edited)).(*tree.Object))
	}
	return template.Put(plain,
		template.Change{Resource: d.TaskKey, Before: d.TaskRaw, After: edited(d.TaskRaw, r.changed[0].After, now.TaskRaw)},
		template.Change{Resource: d.ServiceKey, Before: d.ServiceRaw, After: edited(d.ServiceRaw, r.changed[1].After, now.ServiceRaw)})
}

// originalOf are the two resources as they are written in their template.
func originalOf(d *definition.Definition, files []source.File) (o Original) {
	for _, f := range files {
		if f.Name != d.TaskFile() {
			continue
		}
		// What is not found is said when the template is written.
		o.Task, _ = template.Text(f.Text, d.TaskKey)
		o.Service, _ = template.Text(f.Text, d.ServiceKey)
	}
	return o
}
