// Package plan reads what services a file declares, to forecast what they would
// change.
//
// It owns which kind of file a text is. The rules are those of package declare,
// and of inject for compose files. Start reading at [Read].
package plan

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"patchbay/admin/api"
	"patchbay/declare"
	"patchbay/declare/definition"
	"patchbay/declare/source"
	"patchbay/inject"
)

// allowed is what a file may be.
const allowed = `a compose file with x-service-connect; a task definition and its service, each by -f or in one file as {"taskDefinition": …, "service": …}; a declaration {"serviceConnectConfiguration": …, "portMappings": …}; a Terraform plan or a CloudFormation template; not what patchbay inject ecs writes, but what it read`

// Read reads compose files with x-service-connect, and whatever package
// declare/source reads: ECS's JSON, Terraform plans, CloudFormation templates;
// also a declaration alone, as a sidecar has it. A task definition and its
// service may be two of the files. namespace is for services that name none, or
// an ARN. A file that declares nothing is wrong. The error lists every problem.
func Read(namespace string, files ...source.File) ([]api.Planned, error) {
	var tasks []declare.Task
	var errs []error
	var rest []source.File
	for _, f := range files {
		var more []declare.Task
		var err error
		switch {
		case bytes.Contains(f.Text, []byte("x-service-connect")):
			more, err = compose(f.Name, f.Text)
		case alone(f.Text):
			more, err = one(f)
		default:
			rest = append(rest, f)
		}
		tasks, errs = append(tasks, more...), append(errs, err)
	}
	more, err := together(namespace, rest)
	tasks, errs = append(tasks, more...), append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	out := []api.Planned{}
	for _, t := range tasks {
		ns := cmp.Or(t.Namespace, namespace)
		if strings.HasPrefix(ns, "arn:") { // as describe-services prints it
			ns = cmp.Or(namespace, ns)
		}
		for _, p := range t.Ports {
			out = append(out, planned(ns, p))
		}
	}
	return out, nil
}

// together takes the declarations of files that may belong together, as inject
// pairs them.
func together(namespace string, files []source.File) ([]declare.Task, error) {
	all, err := source.Read(source.Options{Namespace: namespace}, files...)
	if err != nil {
		return nil, err
	}
	var tasks []declare.Task
	var problems definition.Problems
	declares := map[string]bool{} // by file
	for _, d := range all {
		sc := d.Service.Object("serviceConnectConfiguration")
		if sc == nil {
			continue // what is no service, or none of the mesh
		}
		declares[d.TaskFile()], declares[d.ServiceFile()] = true, true
		problems = append(problems, d.Pairs()...)
		if d.Task == nil && sc.Has("services") {
			problems = append(problems, definition.Problem{File: d.ServiceFile(), Path: d.ServicePath("taskDefinition"), Text: "the task definition is not given, which has the ports; allowed: the file of it by another -f"})
			continue
		}
		t, more := d.Declare()
		tasks, problems = append(tasks, t), append(problems, more...)
	}
	for _, f := range files {
		if !declares[f.Name] {
			problems = append(problems, nothing(f.Name))
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return tasks, nil
}

// nothing is the problem of a file that declares no service.
func nothing(name string) definition.Problem {
	return definition.Problem{File: name, Text: "declares no service; allowed: " + allowed}
}

func one(f source.File) ([]declare.Task, error) {
	t, err := declare.Parse(f.Text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	return []declare.Task{t}, nil
}

// alone reports whether a text is one declaration: the block and the mappings.
func alone(text []byte) bool {
	var v struct {
		Block    json.RawMessage `json:"serviceConnectConfiguration"`
		Mappings json.RawMessage `json:"portMappings"`
	}
	return json.Unmarshal(text, &v) == nil && v.Block != nil && v.Mappings != nil
}

// compose takes the declarations that the sidecars of a compose file get.
func compose(name string, text []byte) ([]declare.Task, error) {
	made, err := inject.Compose(name, text)
	if err != nil {
		return nil, err
	}
	var file struct {
		Services map[string]struct {
			Environment yaml.Node `yaml:"environment"`
			Entrypoint  yaml.Node `yaml:"entrypoint"` // of one that compose may scale
		} `yaml:"services"`
	}
	if err := yaml.Unmarshal(made, &file); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var out []declare.Task
	for _, s := range slices.Sorted(maps.Keys(file.Services)) {
		text := document(file.Services[s].Environment, file.Services[s].Entrypoint)
		if text == "" {
			continue
		}
		t, err := declare.Parse([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("%s: service %s: %w", name, s, err)
		}
		out = append(out, t)
	}
	if len(out) == 0 {
		return nil, definition.Problems{nothing(name)}
	}
	return out, nil
}

// document is the declaration in a service's environment or entrypoint.
func document(environment, entrypoint yaml.Node) string {
	var env map[string]string
	if environment.Kind == yaml.MappingNode && environment.Decode(&env) == nil && env["PATCHBAY_SERVICE_CONNECT"] != "" {
		return env["PATCHBAY_SERVICE_CONNECT"]
	}
	var args []string
	if entrypoint.Kind == yaml.SequenceNode && entrypoint.Decode(&args) == nil {
		if i := slices.Index(args, "--service-connect"); i >= 0 && i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}

func planned(namespace string, p declare.Port) api.Planned {
	out := api.Planned{Namespace: namespace, DiscoveryName: p.DiscoveryName, Protocol: string(p.Protocol), Aliases: []api.Alias{}, Policy: p.Policy}
	for _, a := range p.Aliases {
		out.Aliases = append(out.Aliases, api.Alias{DNSName: a.DNSName, Port: a.Port})
	}
	if p.TLS != nil {
		out.Issuer, out.TLSOnly, out.KMSKey = p.TLS.Issuer, p.TLS.Only, p.TLS.KMSKey
	}
	if d := p.Timeouts.Idle; d != nil {
		out.IdleSeconds = new(d.Seconds())
	}
	if d := p.Timeouts.PerRequest; d != nil {
		out.PerRequestSeconds = new(d.Seconds())
	}
	return out
}
