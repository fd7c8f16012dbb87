package ecs

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"patchbay/declare/definition"
	"patchbay/declare/source"
	"patchbay/declare/tree"
)

// label is the docker label of the sidecar that holds what was injected. ECS
// keeps it with the task definition.
const label = "patchbay.inject"

// memory is what the label holds, as JSON, compressed, in base64.
type memory struct {
	Version  int      `json:"version"`
	Settings Settings `json:"settings"`
	Original Original `json:"original"`
	// Policies are those that the service itself does not have.
	Policies json.RawMessage `json:"policies,omitempty"`
}

// maxMemory bounds a label that is read.
const maxMemory = 4 << 20

// remember puts the originals into the sidecar, and returns the text of the label.
func (in *inject) remember(o Original) string {
	m := memory{Version: 1, Settings: in.s, Original: o}
	if in.d.Policies != nil && !in.d.Service.Has(policies) {
		m.Policies = tree.Line(in.d.Policies)
	}
	text, err := json.Marshal(m)
	if err != nil {
		panic(err) // strings and numbers alone
	}
	var b bytes.Buffer
	w, err := zlib.NewWriterLevel(&b, zlib.BestCompression)
	if err == nil {
		_, err = w.Write(text)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		panic(err) // memory alone
	}
	c, _ := find(in.out)
	text64 := base64.StdEncoding.EncodeToString(b.Bytes())
	c.Set("dockerLabels", tree.Of(label, text64))
	return text64
}

// find is the sidecar of a task definition.
func find(task *tree.Object) (*tree.Object, bool) {
	for _, c := range task.Objects("containerDefinitions") {
		if c.Text("name") == Sidecar {
			return c, true
		}
	}
	return nil, false
}

func recall(c *tree.Object) (m memory, err error) {
	packed, err := base64.StdEncoding.DecodeString(c.Object("dockerLabels").Text(label))
	if err != nil {
		return m, err
	}
	r, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return m, err
	}
	text, err := io.ReadAll(io.LimitReader(r, maxMemory))
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return m, err
	}
	if m.Version != 1 {
		return m, fmt.Errorf("version %d; allowed: 1", m.Version)
	}
	return m, nil
}

// Remove takes away what Inject added: what was not edited comes back byte for
// byte, what was edited in its meaning. The task definition may also be what
// describe-task-definition prints of it. An empty service gives the original
// one. A task definition without the sidecar comes back as it is, with the
// service. The error is of type [definition.Problems].
func Remove(task, service source.File) (Original, error) {
	bad := func(f source.File, path, format string, args ...any) error {
		return definition.Problems{{File: f.Name, Path: path, Text: fmt.Sprintf(format, args...)}}
	}
	root, err := object(task)
	if err != nil {
		return Original{}, err
	}
	edited := root
	if inner := root.Object("taskDefinition"); inner != nil {
		edited = inner
	}
	c, ok := find(edited)
	if !ok {
		return Original{string(task.Text), string(service.Text)}, nil
	}
	m, err := recall(c)
	if err != nil {
		return Original{}, bad(task, Sidecar+".dockerLabels", "%s does not hold what was injected: %v; allowed: the label as it was written", label, err)
	}
	base, originals, err := again(m)
	if err != nil {
		return Original{}, bad(task, Sidecar+".dockerLabels", "%s holds what can't be injected: %v", label, err)
	}
	out := m.Original
	if !bytes.Equal(task.Text, base.Task) {
		out.Task = string(rewrite(m.Original.Task, merge(originals.Task, mustRead(base.Task), edited).(*tree.Object), "taskDefinition"))
	}
	if len(bytes.TrimSpace(service.Text)) > 0 && !bytes.Equal(service.Text, base.Service) {
		edited, err := object(service)
		if err != nil {
			return Original{}, err
		}
		out.Service = string(rewrite(m.Original.Service, merge(originals.Service, mustRead(base.Service), edited).(*tree.Object), "service"))
	}
	return out, nil
}

// Injected reports whether a task definition has the sidecar.
func Injected(task source.File) bool {
	root, err := object(task)
	if err != nil {
		return false
	}
	if inner := root.Object("taskDefinition"); inner != nil {
		root = inner
	}
	_, ok := find(root)
	return ok
}

func object(f source.File) (*tree.Object, error) {
	v, err := tree.Read(f.Text)
	o, ok := v.(*tree.Object)
	if err == nil && !ok {
		err = errors.New("is not an object; allowed: JSON as patchbay wrote it, or as the AWS command line prints it")
	}
	if err != nil {
		return nil, definition.Problems{{File: f.Name, Text: err.Error()}}
	}
	return o, nil
}

func mustRead(text []byte) *tree.Object {
	v, err := tree.Read(text)
	if err != nil {
		panic(err) // written by this package
	}
	return v.(*tree.Object)
}

// again injects the originals once more.
func again(m memory) (*Result, *definition.Definition, error) {
	var files []source.File
	for _, text := range []string{m.Original.Task, m.Original.Service} {
		files = append(files, source.File{Name: "original", Text: []byte(text)})
	}
	return m.inject(nil, files...)
}

// inject injects files once more: the one definition that they have, or that of
// the same resources.
func (m memory) inject(as *definition.Definition, files ...source.File) (*Result, *definition.Definition, error) {
	found, err := source.Read(source.Options{Namespace: m.Settings.Namespace, Parameters: m.Settings.Parameters}, files...)
	if err != nil {
		return nil, nil, err
	}
	if as != nil {
		found = slices.DeleteFunc(found, func(d *definition.Definition) bool { return d.TaskKey != as.TaskKey || d.ServiceKey != as.ServiceKey })
	}
	if len(found) != 1 {
		return nil, nil, fmt.Errorf("%d definitions", len(found))
	}
	if len(m.Policies) > 0 {
		if found[0].Policies, err = object(source.File{Text: m.Policies}); err != nil {
			return nil, nil, err
		}
	}
	m.Settings.undo = true
	r, problems := Inject(found[0], m.Settings, m.Original)
	if len(problems) > 0 {
		return nil, nil, problems
	}
	return r, found[0], nil
}

// rewrite is v in the frame that the original had.
func rewrite(original string, v *tree.Object, frame string) []byte {
	if o, err := object(source.File{Text: []byte(original)}); err == nil && o.Object(frame) != nil {
		o.Set(frame, v)
		return tree.Write(o, "    ")
	}
	return tree.Write(v, "    ")
}

// merge is what a person changed between base and edited, made to original.
func merge(original, base, edited any) any {
	if tree.Equal(base, edited) {
		return original
	}
	b, bok := base.(*tree.Object)
	e, eok := edited.(*tree.Object)
	o, ook := original.(*tree.Object)
	if bok && eok {
		if !ook {
			o = &tree.Object{}
		}
		return mergeObjects(o, b, e)
	}
	bl, bok := base.([]any)
	el, eok := edited.([]any)
	ol, _ := original.([]any)
	if bok && eok {
		return mergeLists(ol, bl, el)
	}
	return edited
}

func mergeObjects(o, b, e *tree.Object) *tree.Object {
	out := &tree.Object{}
	for _, key := range o.Keys() { // what stands where it stood
		switch {
		case !b.Has(key) && e.Has(key):
			out.Set(key, e.Get(key))
		case !b.Has(key):
			out.Set(key, o.Get(key)) // we took it away
		case e.Has(key):
			out.Set(key, merge(o.Get(key), b.Get(key), e.Get(key)))
		}
	}
	for _, key := range e.Keys() {
		if o.Has(key) {
			continue
		}
		if !b.Has(key) {
			out.Set(key, e.Get(key))
		} else if !tree.Equal(b.Get(key), e.Get(key)) { // ours, and edited
			if left := merge(nil, b.Get(key), e.Get(key)); !empty(left) {
				out.Set(key, left)
			}
		}
	}
	return out
}

func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case []any:
		return len(v) == 0
	case *tree.Object:
		return len(v.Keys()) == 0
	}
	return false
}

// mergeLists pairs elements by their key; those that we added go.
func mergeLists(o, b, e []any) []any {
	out := []any{}
	for i, element := range e {
		if c, ok := element.(*tree.Object); ok && (c.Text("name") == Sidecar || c.Text("containerName") == Sidecar && c.Has("condition")) {
			continue
		}
		j := slices.IndexFunc(b, func(x any) bool { return same(x, element) })
		if j < 0 && i < len(b) && i < len(o) && len(b) == len(e) && keyOf(element) == "" {
			j = i
		}
		if j < 0 || j >= len(o) {
			if j < 0 {
				out = append(out, element)
			}
			continue
		}
		out = append(out, merge(o[j], b[j], element))
	}
	return out
}

// keyOf tells elements of ECS's lists apart.
func keyOf(v any) string {
	o, ok := v.(*tree.Object)
	if !ok {
		return ""
	}
	for _, key := range []string{"targetGroupArn", "name", "containerPort", "key"} {
		if o.Has(key) {
			return key + "=" + string(tree.Line(o.Get(key)))
		}
	}
	return ""
}

func same(a, b any) bool {
	if k := keyOf(a); k != "" {
		return k == keyOf(b)
	}
	return tree.Equal(a, b)
}

// OriginalOf are the texts of the files from which a definition was read, or the
// resources of a template; of a plan, and where one file has several, those in
// ECS's words.
func OriginalOf(d *definition.Definition, files ...source.File) Original {
	if d.Task == nil || d.Service == nil {
		return Original{}
	}
	if d.Form == definition.CloudFormation {
		return originalOf(d, files)
	}
	o := Original{Task: string(tree.Write(d.Task, "    ")), Service: string(tree.Write(serviceOf(d), "    "))}
	if d.Form != definition.ECS || d.TaskFile() == d.ServiceFile() {
		return o
	}
	for _, f := range files {
		if f.Name == d.TaskFile() {
			o.Task = string(f.Text)
		}
		if f.Name == d.ServiceFile() && strings.Count(string(f.Text), `"serviceName"`) == 1 {
			o.Service = string(f.Text)
		}
	}
	return o
}
