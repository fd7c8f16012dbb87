package source

import (
	"fmt"
	"strings"

	"patchbay/declare/definition"
	"patchbay/declare/tree"
)

// ecs takes what `aws ecs` prints and takes.
func (r *reader) ecs(file string, root *tree.Object) {
	switch {
	case root.Has("taskDefinition") && root.Object("taskDefinition") != nil:
		t := root.Object("taskDefinition").Clone()
		if tags := root.List("tags"); len(tags) > 0 && !t.Has("tags") {
			t.Set("tags", tags)
		}
		r.addTask(file, "taskDefinition", t)
		if s := root.Object("service"); s != nil { // both in one file, as patchbay prints them
			r.addService(file, "service", s)
		}
	case root.Has("containerDefinitions"):
		r.addTask(file, "", root)
	case root.Has("services") && (root.Has("failures") || !root.Has("enabled")):
		r.answer(file, root)
	case root.Object("service") != nil:
		r.addService(file, "service", root.Object("service"))
	case root.Has("serviceName") || root.Has("serviceArn") || root.Has(block):
		r.addService(file, "", root)
	case root.Has("enabled"):
		r.addService(file, "", tree.Of("serviceConnectConfiguration", root))
	case root.Has("taskDefinitionArns"), root.Has("serviceArns"):
		r.bad(file, "", "is a list of ARNs; allowed: what describe-task-definition or describe-services prints")
	default:
		r.bad(file, "", "has the keys %s; allowed: %s", strings.Join(root.Keys(), ", "), forms)
	}
}

// answer is that of describe-services.
func (r *reader) answer(file string, root *tree.Object) {
	for i, f := range root.Objects("failures") {
		r.bad(file, fmt.Sprintf("failures[%d]", i), "ECS found no %s: %s; allowed: an answer without failures", f.Text("arn"), f.Text("reason"))
	}
	services := root.Objects("services")
	if len(services) == 0 && len(root.List("failures")) == 0 {
		r.bad(file, "services", "is empty; allowed: at least one service")
	}
	for i, s := range services {
		path := fmt.Sprintf("services[%d]", i)
		if s == nil {
			r.bad(file, path, "is not an object; allowed: a service")
			continue
		}
		r.addService(file, path, s)
	}
}

func (r *reader) addTask(file, path string, t *tree.Object) {
	r.found = append(r.found, &definition.Definition{
		Name: t.Text("family"), Form: definition.ECS, Task: t,
		TaskAt: place{File: file, At: map[string]spot{"": stand(path, same)}},
	})
}

// addService takes a service; in an answer the block stands with the primary
// deployment.
func (r *reader) addService(file, path string, s *tree.Object) {
	d := &definition.Definition{
		Name: s.Text("serviceName"), Form: definition.ECS, Service: s,
		Exists:    s.Has("serviceArn") || s.Has("deployments"),
		ServiceAt: place{File: file, At: map[string]spot{"": stand(path, same)}},
	}
	if s.Get(policies) != nil {
		d.Policies, d.PoliciesAt = s.Object(policies), d.ServiceAt
		if d.Policies == nil {
			r.bad(file, d.ServiceAt.Path(policies), "is not an object; allowed: policies by discoveryName")
		}
	}
	if d.Name == "" {
		d.Name = s.Text("service") // of UpdateService
	}
	if s.Has("enabled") && !s.Has("serviceConnectConfiguration") {
		d.Service = tree.Of("serviceConnectConfiguration", s)
		d.ServiceAt.At["serviceConnectConfiguration"] = stand(path, same)
	}
	if !s.Has("serviceConnectConfiguration") {
		for i, dep := range s.Objects("deployments") {
			if block := dep.Get("serviceConnectConfiguration"); dep.Text("status") == "PRIMARY" && block != nil {
				d.Service = s.Clone()
				d.Service.Set("serviceConnectConfiguration", tree.Copy(block))
				d.ServiceAt.At["serviceConnectConfiguration"] = stand(strings.TrimPrefix(fmt.Sprintf("%s.deployments[%d].serviceConnectConfiguration", path, i), "."), same)
			}
		}
	}
	r.found = append(r.found, d)
}
