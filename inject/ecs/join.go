package ecs

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"patchbay/declare/definition"
)

// roleAndJoin holds the task against what it proves who it is with.
func (in *inject) roleAndJoin() {
	if !in.d.Task.Has("taskRoleArn") && in.d.NetworkMode() == definition.AWSVPC {
		if _, later := in.d.TaskAt.Unknown["taskRoleArn"]; !later {
			in.badTask("taskRoleArn", "is missing; allowed: a role, by which the task proves who it is (it needs no permission)")
		} else if in.d.Form == definition.Terraform {
			in.change(true, "taskRoleArn", "is known after apply only, and stays as it is; identities.taskRoles of the control plane has to name it")
		}
	}
	if in.s.Join == nil || in.s.undo || !in.task.Enabled {
		return
	}
	var made struct { // docs/reference/joining.md
		Namespace, Workload string
		DiscoveryNames      []string
	}
	if err := json.Unmarshal([]byte(in.s.Join["join.json"]), &made); err != nil {
		in.badJoin("%v; allowed: a directory as patchbay token join makes it", err)
		return
	}
	if ns := in.namespace(); ns != "" && !strings.HasPrefix(ns, "arn:") && !strings.EqualFold(ns, made.Namespace) {
		in.badJoin("is for the namespace %q, and the service is in %q; allowed: a directory made with --namespace %s", made.Namespace, ns, ns)
	}
	for _, p := range in.task.Ports {
		if !slices.Contains(made.DiscoveryNames, p.DiscoveryName) {
			in.badJoin("is for the workload %s, which may not offer %s; allowed: %s", made.Workload, p.DiscoveryName, in.ownJoin(p.DiscoveryName))
		}
	}
	if names := in.names(); in.d.Service.Text("serviceName") != "" && !slices.Contains(names, made.Workload) {
		in.notes = append(in.notes, definition.Problem{Path: "--join", Text: fmt.Sprintf("is for the workload %s, and the service is called %s; the role of the task has to be that of %s in identities.taskRoles%s", made.Workload, names[0], made.Workload, in.orApart())})
	}
}

// ownJoin is the join directory that a service needs which offers name. One of
// several needs its own: to let the workload of another offer it as well would
// let the tasks of that one do so.
func (in *inject) ownJoin(name string) string {
	if len(in.s.Together) > 1 {
		return fmt.Sprintf("one run for each of the services %s, with --service (here %s) and the --join of its own workload", strings.Join(in.s.Together, ", "), in.d.Name)
	}
	return fmt.Sprintf("the directory of the workload that offers it, made with --discovery-name %s", name)
}

func (in *inject) orApart() string {
	if len(in.s.Together) > 1 {
		return fmt.Sprintf("; or inject it in a run of its own, with --service %s and its own --join", in.d.Name)
	}
	return ""
}

func (in *inject) badJoin(format string, args ...any) {
	in.problems = append(in.problems, definition.Problem{Path: "--join", Text: fmt.Sprintf(format, args...)})
}

func (in *inject) namespace() string {
	return cmp.Or(in.task.Namespace, in.d.Namespace)
}

// names are those by which a service may be known: the workload is often called
// so.
func (in *inject) names() []string {
	names := []string{in.d.Name, in.d.Task.Text("family")}
	for _, p := range in.task.Ports {
		names = append(names, p.DiscoveryName)
	}
	return names
}
