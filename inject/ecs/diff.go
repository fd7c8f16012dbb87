package ecs

import (
	"cmp"
	"fmt"

	"github.com/rogpeppe/go-internal/diff"

	"patchbay/declare/definition"
	"patchbay/declare/tree"
)

// Diff is what Inject changed, as a unified diff of the task definition and one
// of the service. What only an answer of ECS has is on neither side, and what the
// sidecar carries of the original is shortened.
func Diff(d *definition.Definition, r *Result) []byte {
	task, service := d.Task.Clone(), serviceOf(d)
	task.Delete(answerOnly...)
	cluster := cmp.Or(service.Text("cluster"), service.Text("clusterArn"))
	service.Delete(serviceAnswerOnly...)
	if d.Exists { // as update-service calls them
		service.Delete(append(notUpdated, "desiredCount")...)
		name := service.Text("serviceName")
		service.Delete("serviceName")
		service.SetAt(0, "service", name)
	}
	if cluster != "" && !service.Has("cluster") {
		service.SetAt(0, "cluster", cluster)
	}
	after := mustRead(r.Task)
	if c, ok := find(after); ok {
		was := c.Object("dockerLabels")
		was.Set(label, fmt.Sprintf("(what was there before, %d bytes)", len(was.Text(label))))
	}
	const indent = "    "
	out := diff.Diff(d.TaskFile(), tree.Write(task, indent), r.Name+".task-definition.json", tree.Write(after, indent))
	return append(out, diff.Diff(d.ServiceFile(), tree.Write(service, indent), r.Name+".service.json", r.Service)...)
}

// Changed says which ports of now speak another protocol than ports of that name
// did in before, an earlier revision: a service keeps its protocol for ever. It
// looks at the ports that now offers.
func Changed(now, before *definition.Definition) (out definition.Problems) {
	offered := map[string]bool{}
	for _, s := range now.Service.Object(block).Objects("services") {
		offered[s.Text("portName")] = true
	}
	protocol := func(m definition.Mapping) string { return cmp.Or(m.Fields.Text("appProtocol"), "tcp") }
	was := map[string]string{}
	for _, m := range before.Mappings() {
		if name := m.Fields.Text("name"); name != "" {
			was[name] = protocol(m)
		}
	}
	for _, m := range now.Mappings() {
		name := m.Fields.Text("name")
		old, known := was[name]
		if !known || !offered[name] || old == protocol(m) {
			continue
		}
		out = append(out, definition.Problem{
			File: now.TaskFile(), Path: now.TaskPath(m.Path + ".appProtocol"),
			Text: fmt.Sprintf("is %s, and port %s was %s in %s; allowed: %s, as a service keeps its protocol, or another port name and discoveryName", protocol(m), name, old, before.TaskFile(), old),
		})
	}
	return out
}
