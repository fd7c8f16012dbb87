// Package plan reads what services a file declares, to forecast what they would
// change.
//
// It owns which kind of file a text is. The rules are those of package declare,
// and of inject for compose files. Start reading at [Read].
package plan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"go.yaml.in/yaml/v3"

	"patchbay/admin/api"
	"patchbay/declare"
	"patchbay/declare/source"
	"patchbay/inject"
)

// Read reads compose files with x-service-connect, and whatever package
// declare/source reads: ECS's JSON, Terraform plans, CloudFormation templates;
// also a declaration alone, as a sidecar has it. namespace is for services that
// name none. The error lists every problem.
func Read(namespace, name string, text []byte) ([]api.Planned, error) {
	var tasks []declare.Task
	var err error
	switch {
	case bytes.Contains(text, []byte("x-service-connect")):
		tasks, err = compose(name, text)
	case alone(text):
		var t declare.Task
		if t, err = declare.Parse(text); err != nil {
			err = fmt.Errorf("%s: %w", name, err)
		}
		tasks = append(tasks, t)
	default:
		all, e := source.Read(source.Options{Namespace: namespace}, source.File{Name: name, Text: text})
		for _, d := range all {
			t, problems := d.Declare()
			if len(problems) > 0 && e == nil {
				e = problems
			}
			tasks = append(tasks, t)
		}
		err = e
	}
	if err != nil {
		return nil, err
	}
	out := []api.Planned{}
	for _, t := range tasks {
		ns := t.Namespace
		if ns == "" {
			ns = namespace
		}
		for _, p := range t.Ports {
			out = append(out, planned(ns, p))
		}
	}
	return out, nil
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
