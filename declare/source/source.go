// Package source reads task definitions and the services that run them in the
// forms in which people have them: what the AWS command line prints and takes, a
// Terraform plan, a CloudFormation template.
//
// It owns these forms: all become package definition's one. Whether the content
// holds is not its to say. It must not know the network. Start reading at [Read].
package source

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"patchbay/declare/definition"
	"patchbay/declare/tree"
)

// The words of package definition that stand here everywhere.
type (
	place = definition.Place
	spot  = definition.Spot
)

const (
	block    = "serviceConnectConfiguration"
	policies = "policies"
)

func same(key string) string { return key }

func stand(path string, word func(string) string) spot { return spot{Path: path, Word: word} }

// File is a text with its name for messages.
type File struct {
	Name string
	Text []byte
}

// Options say what a text leaves open.
type Options struct {
	Namespace  string            // of services that name none: the cluster's default
	Parameters map[string]string // of a CloudFormation template
}

// maxText bounds a file: a plan of thousands of resources fits.
const maxText = 64 << 20

// Read returns the definitions of files that belong together: a task definition
// and its service, or one plan or template with any number of them. The error
// is of type [definition.Problems] and is about the form; whether the content holds is
// [definition.Definition.Check]'s to say.
func Read(o Options, files ...File) ([]*definition.Definition, error) {
	r := &reader{options: o}
	for _, f := range files {
		r.file(f)
	}
	if len(r.problems) == 0 {
		r.pair()
	}
	if len(r.problems) > 0 {
		return nil, r.problems
	}
	for _, d := range r.found {
		if d.Service != nil && d.Service.Object(block).Text("namespace") == "" {
			d.Namespace = o.Namespace
		}
	}
	slices.SortStableFunc(r.found, func(a, b *definition.Definition) int { return cmp.Compare(a.Name, b.Name) })
	return r.found, nil
}

// reader collects what the files have.
type reader struct {
	options  Options
	found    []*definition.Definition
	problems definition.Problems
}

func (r *reader) bad(file, path, format string, args ...any) {
	r.problems = append(r.problems, definition.Problem{File: file, Path: path, Text: fmt.Sprintf(format, args...)})
}

const forms = `a task definition or a service as the AWS command line prints or takes it, the output of "terraform show -json", or a CloudFormation template`

func (r *reader) file(f File) {
	text := bytes.TrimSpace(bytes.TrimPrefix(f.Text, []byte("\xef\xbb\xbf")))
	switch {
	case len(text) == 0:
		r.bad(f.Name, "", "is empty; allowed: %s", forms)
		return
	case len(f.Text) > maxText:
		r.bad(f.Name, "", "has %d bytes; allowed: up to %d", len(f.Text), maxText)
		return
	}
	root, err := object(text)
	switch {
	case err != nil:
		r.bad(f.Name, "", "%v", err)
		return
	case root == nil:
		r.bad(f.Name, "", "is not an object; allowed: %s", forms)
		return
	}
	switch {
	case root.Has("Resources"):
		r.template(f.Name, root)
	case root.Has("planned_values") || root.Has("values") || root.Has("terraform_version"):
		r.plan(f.Name, root)
	default:
		r.ecs(f.Name, root)
	}
}

// object reads JSON or YAML; nil if it is no object.
func object(text []byte) (*tree.Object, error) {
	var v any
	var err error
	if text[0] == '{' || text[0] == '[' {
		v, err = tree.Read(text)
	} else {
		v, err = fromYAML(text)
	}
	root, _ := v.(*tree.Object)
	return root, err
}

// pair joins the one task definition with the one service of ECS files.
func (r *reader) pair() {
	var tasks, services, whole []*definition.Definition
	for _, d := range r.found {
		switch {
		case d.Task != nil && d.Service != nil:
			whole = append(whole, d)
		case d.Task != nil:
			tasks = append(tasks, d)
		default:
			services = append(services, d)
		}
	}
	if len(r.found) == 0 {
		return
	}
	for _, s := range services {
		if s.Form != definition.ECS {
			whole = append(whole, s)
			continue
		}
		t := among(s, tasks)
		if t == nil && len(tasks) == 1 && len(services) == 1 {
			t = tasks[0] // whether its family fits, Check says
		}
		if t == nil { // who needs it says so
			whole = append(whole, s)
			continue
		}
		d := *s
		d.Task, d.TaskAt = t.Task, t.TaskAt
		whole = append(whole, &d)
		t.Name = ""
	}
	for _, t := range tasks {
		if t.Name != "" {
			whole = append(whole, t)
		}
	}
	r.found = whole
}

// among finds the task definition of a service: by family, and first in the file
// of the service.
func among(d *definition.Definition, tasks []*definition.Definition) *definition.Definition {
	var near []*definition.Definition
	for _, t := range tasks {
		if t.TaskAt.File == d.ServiceAt.File {
			near = append(near, t)
		}
	}
	want := d.Service.Text("taskDefinition")
	for _, list := range [][]*definition.Definition{near, tasks} {
		if want == "" && len(list) == 1 {
			return list[0]
		}
		for _, t := range list {
			if definition.Family(want) == t.Task.Text("family") {
				return t
			}
		}
	}
	return nil
}
