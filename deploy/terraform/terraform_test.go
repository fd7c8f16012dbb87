// Package terraform has tests alone: of the HCL in this directory.
package terraform

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"

	"patchbay/config"
	"patchbay/internal/awsfake/wire"
)

func list(all ...string) cty.Value {
	var v []cty.Value
	for _, s := range all {
		v = append(v, cty.StringVal(s))
	}
	return cty.ListVal(v)
}

// given are the variables without a default.
func given() map[string]cty.Value {
	return map[string]cty.Value{
		"trust_domain": cty.StringVal("prod.example"), "namespaces": list("prod"), "image": cty.StringVal("patchbay:1"), "vpc_id": cty.StringVal("vpc-1"),
		"subnet_ids": list("subnet-1", "subnet-2"), "client_cidrs": list("10.0.0.0/16"), "cluster_arn": cty.StringVal("arn:aws:ecs:eu-west-1:111122223333:cluster/prod"),
	}
}

// whole is given with services, accounts to share with and three replicas.
func whole() map[string]cty.Value {
	vars := given()
	service := func(names cty.Value) cty.Value {
		return cty.ObjectVal(map[string]cty.Value{"namespace": cty.StringVal("prod"), "discovery_names": names})
	}
	vars["services"] = cty.MapVal(map[string]cty.Value{"backend": service(list("backend")), "frontend": service(cty.ListValEmpty(cty.String))})
	vars["instances"] = cty.MapVal(map[string]cty.Value{"batch": cty.ObjectVal(map[string]cty.Value{
		"namespace": cty.StringVal("prod"), "discovery_names": list("batch"), "role_arn": cty.StringVal("arn:aws:iam::111122223333:role/batch"),
	})})
	vars["share_with"], vars["alarm_topics"], vars["replicas"] = list("444455556666", "555566667777"), list("arn:aws:sns:eu-west-1:111122223333:alarms"), cty.NumberIntVal(3)
	vars["service_kms_keys"] = list("arn:aws:kms:eu-west-1:111122223333:key/2")
	return vars
}

var meta = []string{"count", "for_each", "depends_on"}

// check holds a block against what the provider takes, and evaluates all of it.
func (m *module) check(where, path string, body *hclsyntax.Body, extra map[string]cty.Value) (n int) {
	m.t.Helper()
	known, ok := m.provider[path]
	if !ok {
		m.t.Fatalf("testdata/provider.txt does not have %s", path)
	}
	has := map[string]bool{}
	for name, a := range body.Attributes {
		has[name] = true
		switch {
		case name == "depends_on":
			for _, v := range a.Expr.Variables() {
				m.standIn(a.Expr, v.RootName()+"."+v[1].(hcl.TraverseAttr).Name)
			}
		case slices.Contains(meta, name):
		case !known.takes[name]:
			m.t.Errorf("%s: %s takes no %s", a.SrcRange, path, name)
		default:
			m.values[where+"."+name] = m.eval(a.Expr, extra)
			n++
		}
	}
	for _, b := range body.Blocks {
		name := b.Type
		each := []map[string]cty.Value{extra}
		inner := b.Body
		if b.Type == "dynamic" {
			name, each, inner = b.Labels[0], nil, b.Body.Blocks[0].Body
			for _, e := range elements(m.eval(b.Body.Attributes["for_each"].Expr, extra)) {
				more := map[string]cty.Value{name: cty.ObjectVal(map[string]cty.Value{"key": e.key, "value": e.value})}
				maps.Copy(more, extra)
				each = append(each, more)
			}
		}
		has[name] = true
		if !known.takes[name] {
			m.t.Errorf("%s: %s takes no %s", b.TypeRange, path, name)
			continue
		}
		for i, extra := range each {
			n += m.check(fmt.Sprintf("%s.%s[%d]", where, name, i), path+"."+name, inner, extra)
		}
	}
	for name := range known.must {
		if !has[name] {
			m.t.Errorf("%s: %s needs %s", body.SrcRange, path, name)
		}
	}
	return n
}

// all evaluates every resource, data source and output.
func (m *module) all() (n int) {
	m.t.Helper()
	for full, b := range m.resources {
		keys, extra, _ := m.instances(full)
		for i, key := range keys {
			n += m.check(full+"["+key+"]", b.Type+" "+b.Labels[0], b.Body, extra[i])
		}
	}
	for _, b := range m.blocks {
		if b.Type == "output" {
			m.values["output."+b.Labels[0]] = m.eval(b.Body.Attributes["value"].Expr, nil)
			n++
		}
	}
	return n
}

// TestModule: every file parses, every argument is one that the provider takes,
// what it needs is there, and every reference leads to something.
func TestModule(t *testing.T) {
	for name, c := range map[string]struct {
		vars  map[string]cty.Value
		least int
	}{"least": {given(), 150}, "whole": {whole(), 220}} {
		t.Run(name, func(t *testing.T) {
			m := load(t, c.vars)
			if n := m.all(); n < c.least {
				t.Errorf("%d values", n)
			}
			for v := range m.vars.AsValueMap() {
				if !m.used[v] {
					t.Errorf("nothing uses var.%s", v)
				}
			}
		})
	}
}

// TestFormat: the files are as terraform fmt would write them.
func TestFormat(t *testing.T) {
	files, err := filepath.Glob("*.tf")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(text), string(hclwrite.Format(text))); d != "" {
			t.Errorf("%s:\n%s", name, d)
		}
	}
}

// TestCheckFinds: the check is no rubber stamp.
func TestCheckFinds(t *testing.T) {
	p := readProvider(t)
	if s := p["resource aws_ecs_service"]; s.takes["desired_cuont"] || !s.takes["desired_count"] || !s.must["name"] || s.must["desired_count"] {
		t.Errorf("%+v", s)
	}
	if s := p["resource aws_sqs_queue"]; !s.gives["url"] || s.gives["uri"] {
		t.Errorf("%+v", s)
	}
}

var (
	pathOf   = regexp.MustCompile(`\bdeploy/[a-z0-9/._-]*[a-z0-9]`)
	outputOf = regexp.MustCompile(`terraform output -raw ([a-z_]+)`)
	wordOf   = regexp.MustCompile("`([a-z_]+)`")
)

// TestGuide: what docs/guides/ecs.md says of this directory is so: its files,
// outputs and variables are there, and its example can be applied.
func TestGuide(t *testing.T) {
	text, err := os.ReadFile("../../docs/guides/ecs.md")
	if err != nil {
		t.Fatal(err)
	}
	_, guide, _ := strings.Cut(string(text), "## The control plane\n")
	guide, _, found := strings.Cut(guide, "\n## ")
	_, example, fenced := strings.Cut(guide, "```hcl\n")
	example, after, _ := strings.Cut(example, "```")
	if !found || !fenced {
		t.Fatal("the guide has no section with an example")
	}
	for _, path := range pathOf.FindAllString(guide, -1) {
		if _, err := os.Stat("../../" + path); err != nil {
			t.Errorf("the guide names %s: %v", path, err)
		}
	}
	f, diags := hclparse.NewParser().ParseHCL([]byte(example), "ecs.md")
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	vars := map[string]cty.Value{}
	for name, a := range f.Body.(*hclsyntax.Body).Attributes {
		v, diags := a.Expr.Value(nil)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		vars[name] = v
	}
	m := load(t, vars)
	m.all()
	declared, outputs := m.vars.AsValueMap(), map[string]bool{}
	for _, b := range m.blocks {
		if b.Type == "output" {
			outputs[b.Labels[0]] = true
		}
	}
	for name := range vars {
		if _, ok := declared[name]; !ok {
			t.Errorf("the guide sets %s, which is no variable", name)
		}
	}
	for name := range declared {
		if vars[name] == cty.NilVal && !strings.Contains(after, "`"+name+"`") {
			t.Errorf("the guide does not name the variable %s", name)
		}
	}
	for _, o := range outputOf.FindAllStringSubmatch(guide, -1) {
		if !outputs[o[1]] {
			t.Errorf("the guide asks for the output %s", o[1])
		}
	}
	_, table, _ := strings.Cut(after, "| output | goes to |\n|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	for row := range strings.Lines(table) {
		for _, w := range wordOf.FindAllStringSubmatch(strings.Split(row, "|")[1], -1) {
			if !outputs[w[1]] {
				t.Errorf("the table has the output %s, which is none, or twice", w[1])
			}
			delete(outputs, w[1])
		}
	}
	if len(outputs) > 0 {
		t.Errorf("the table lacks the outputs %v", outputs)
	}
}

type container struct {
	Name         string
	Command      []string
	PortMappings []struct{ ContainerPort int }
	MountPoints  []struct{ SourceVolume, ContainerPath string }
}

// TestControlPlanesFile: each replica gets a file that serve takes, with its own
// queue, behind the ports that the load balancer knows.
func TestControlPlanesFile(t *testing.T) {
	for name, vars := range map[string]map[string]cty.Value{"least": given(), "whole": whole()} {
		t.Run(name, func(t *testing.T) {
			m := load(t, vars)
			m.all()
			keys, _, _ := m.instances("aws_ecs_task_definition.control_plane")
			queues := map[string]bool{}
			for _, key := range keys {
				at := "aws_ecs_task_definition.control_plane[" + key + "]"
				var all []container
				if err := json.Unmarshal([]byte(m.values[at+".container_definitions"].AsString()), &all); err != nil || len(all) != 1 {
					t.Fatal(err, len(all))
				}
				c := all[0]
				cfg, err := config.Parse(at, []byte(c.Command[2]))
				if err != nil || c.Command[0] != "serve" || c.Command[1] != "--config-text" {
					t.Fatalf("%v: %v", c.Command, err)
				}
				queues[cfg.CloudMap.Events.QueueURL] = true
				m.fits(at, c, cfg)
			}
			if len(queues) != len(keys) || len(keys) < 2 {
				t.Errorf("%d replicas with the queues %v", len(keys), queues)
			}
		})
	}
}

// fits holds the file against what is around it.
func (m *module) fits(at string, c container, cfg config.Config) {
	m.t.Helper()
	if i, ok := cfg.Issuers[caARN]; !ok || i.PrivateCA == nil || cfg.Secrets.SecretsManager == nil || cfg.TrustDomain != "prod.example" || cfg.Log.Format != "json" {
		m.t.Errorf("%+v", cfg)
	}
	listens := []string{cfg.XDS.Listen, cfg.Agent.Listen}
	for i, key := range []string{"xds", "agent"} {
		port, _ := m.values["aws_lb_listener.control_plane["+key+"].port"].AsBigFloat().Int64()
		if !slices.Contains(listens, fmt.Sprintf("0.0.0.0:%d", port)) || !slices.ContainsFunc(c.PortMappings, func(p struct{ ContainerPort int }) bool { return p.ContainerPort == int(port) }) {
			m.t.Errorf("%s: port %d: %v, %v", key, port, listens[i], c.PortMappings)
		}
	}
	volumes := map[string]bool{}
	for i := range c.MountPoints {
		volumes[m.values[fmt.Sprintf("%s.volume[%d].name", at, i)].AsString()] = true
	}
	paths := map[string]bool{}
	for _, p := range c.MountPoints {
		paths[p.ContainerPath] = true
		if !volumes[p.SourceVolume] {
			m.t.Errorf("%s: %s is no volume of the task: %v", at, p.SourceVolume, volumes)
		}
	}
	if !paths[cfg.Data] || !paths[cfg.Data+"/control"] || !paths[cfg.Data+"/identities"] {
		m.t.Errorf("mounted are %v", paths)
	}
	if services := m.vars.GetAttr("services").LengthInt(); services > 0 {
		roles := cfg.Identities.TaskRoles.Workloads
		if len(roles) != services || roles[0].Role != "arn:aws:iam::111122223333:role/service-"+roles[0].Workload || roles[0].Cluster != "prod" {
			m.t.Errorf("%+v", roles)
		}
		machines := cfg.Identities.InstanceRoles.Workloads
		if len(machines) != 1 || machines[0].Workload != "batch" || machines[0].Role != "arn:aws:iam::111122223333:role/batch" {
			m.t.Errorf("%+v", machines)
		}
	}
}

// TestPolicies: what the roles get are policies, with nothing left open, and a
// role for each service.
func TestPolicies(t *testing.T) {
	m := load(t, whole())
	m.all()
	for at, actions := range map[string]int{"aws_iam_role_policy.control_plane[]": 20, "aws_iam_role_policy.service_key[0]": 2, "aws_iam_role_policy.instances[0]": 1, "aws_iam_role_policy.service[backend]": 1, "aws_iam_role_policy.service[frontend]": 1} {
		text := m.values[at+".policy"].AsString()
		statements, err := wire.ParsePolicy([]byte(text))
		if err != nil || strings.Contains(text, "${") {
			t.Errorf("%s: %v\n%s", at, err, text)
		}
		n := 0
		for _, s := range statements {
			n += len(s.Action)
		}
		if n < actions {
			t.Errorf("%s allows %d actions", at, n)
		}
	}
	usage, algorithm := m.values["aws_acmpca_certificate_authority.mesh[].usage_mode"], m.values["aws_acmpca_certificate_authority.mesh[].certificate_authority_configuration[0].key_algorithm"]
	if usage.AsString() != "SHORT_LIVED_CERTIFICATE" || algorithm.AsString() != "EC_secp384r1" {
		t.Errorf("the CA is %s, %s", usage.AsString(), algorithm.AsString())
	}
	if keys, _, _ := m.instances("aws_ram_principal_association.ca"); len(keys) != 2 {
		t.Errorf("the CA is shared with %v", keys)
	}
}
