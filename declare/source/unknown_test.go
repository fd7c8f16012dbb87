package source

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patchbay/declare"
	"patchbay/mesh"
)

// declared is what the definition of this name says, and its notes.
func declared(t *testing.T, o Options, name string, files ...File) (declare.Task, string) {
	t.Helper()
	found, problems := checked(o, files...)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, d := range found {
		if d.Name == name {
			task, _ := d.Declare()
			var notes []string
			for _, n := range d.Notes {
				notes = append(notes, n.Path+": "+n.Text)
			}
			return task, strings.Join(notes, "\n")
		}
	}
	t.Fatalf("there is no %s", name)
	return declare.Task{}, ""
}

// TestAFirstApply reads the plan of a mesh that is yet to be made, as Terraform and
// the provider 5.100 print it: the namespace's ARN and the names that nobody wrote
// are known after apply only, 0 is written, and what is not written is null.
func TestAFirstApply(t *testing.T) {
	plan := File{"plan.json", content(t, "plan.first.json")}
	off, seven := time.Duration(0), 7*time.Second
	port := func(name string, protocol mesh.Protocol, container, ingress uint16, alias declare.Alias, times mesh.Timeouts) declare.Port {
		return declare.Port{PortName: name, DiscoveryName: name, Protocol: protocol, ContainerPort: container, IngressPort: ingress, Aliases: []declare.Alias{alias}, Timeouts: times}
	}
	api := port("http", mesh.HTTP, 8080, 15010, declare.Alias{DNSName: "api", Port: 80}, mesh.Timeouts{Idle: &off, PerRequest: &off})
	api.DiscoveryName = "api"
	for name, want := range map[string]struct {
		ports []declare.Port
		notes int
	}{
		"api":      {[]declare.Port{api, port("grpc", mesh.GRPC, 9090, 15011, declare.Alias{Port: 81}, mesh.Timeouts{PerRequest: &seven})}, 2}, // in dynamic blocks
		"web":      {[]declare.Port{port("web", mesh.HTTP, 8080, 15010, declare.Alias{Port: 80}, mesh.Timeouts{Idle: &off})}, 0},               // by the cluster's default
		"worker-a": {},                                                                                                                         // through a module's variable and another's output
	} {
		task, notes := declared(t, Options{}, name, plan)
		if d := cmp.Diff(want.ports, task.Ports); task.Namespace != "prod" || d != "" {
			t.Errorf("%s in %q: %s", name, task.Namespace, d)
		}
		if n := strings.Count(notes, "taken as not written"); n != want.notes {
			t.Errorf("%s notes:\n%s", name, notes)
		}
	}
	// One that runs: the provider keeps 0 for what is not written, and the plan does not tell.
	runs := strings.ReplaceAll(string(plan.Text), `"before": null`, `"before": {}`)
	task, notes := declared(t, Options{}, "api", File{"plan.json", []byte(runs)})
	if task.Ports[0].Timeouts != (mesh.Timeouts{}) || strings.Count(notes, "is 0, and may be so because nobody wrote it") != 2 {
		t.Errorf("%+v\n%s", task.Ports[0], notes)
	}
	if task, _ := declared(t, Options{}, "web", File{"plan.json", []byte(runs)}); task.Ports[0].Timeouts.Idle == nil {
		t.Error("0 was written, and the configuration shows it")
	}
	// The default of a cluster gives way to a word on the command line, a namespace that is written does not.
	for name, want := range map[string]string{"web": "other", "api": "prod"} {
		found, _ := checked(Options{Namespace: "other"}, plan)
		for _, d := range found {
			if task, _ := d.Declare(); d.Name == name && task.Namespace != want {
				t.Errorf("%s is in %s", name, task.Namespace)
			}
		}
	}
}

// TestConditions: both branches of a template, which its parameters decide.
func TestConditions(t *testing.T) {
	template := File{"t.yaml", content(t, "conditions.yaml")}
	twenty := 20 * time.Second
	task, notes := declared(t, Options{}, "Service", template)
	want := declare.Port{PortName: "web", DiscoveryName: "api", Protocol: mesh.HTTP2, ContainerPort: 8080, IngressPort: 15010, Aliases: []declare.Alias{{DNSName: "api", Port: 80}},
		TLS: &mesh.ServiceTLS{Issuer: "arn:aws:acm-pca:eu-west-1:1:certificate-authority/x"}, Timeouts: mesh.Timeouts{PerRequest: &twenty}}
	if d := cmp.Diff([]declare.Port{want}, task.Ports); d != "" || task.Namespace != "prod.local" {
		t.Errorf("%s in %q", d, task.Namespace)
	}
	// Where the function stays, nothing is fixed.
	for _, want := range []string{
		"Parameters.Size: its default is fixed from now on in the task's size (for Resources.Task.Properties.Cpu)",
		"Parameters.Port: its default is fixed from now on in the sidecar's settings (for Resources.Task.Properties.ContainerDefinitions[0].PortMappings[0].ContainerPort)",
		"Parameters.Env: its default is fixed from now on in the sidecar's settings (for Resources.Service.Properties.ServiceConnectConfiguration.Services[0].DiscoveryName)",
	} {
		if !strings.Contains(notes, want) {
			t.Errorf("not said: %s\n%s", want, notes)
		}
	}
	if strings.Contains(notes, "Parameters.Tag") || strings.Contains(notes, "Parameters.Group") {
		t.Errorf("said of what stays:\n%s", notes)
	}
	task, _ = declared(t, Options{Parameters: map[string]string{"Env": "dev"}}, "Service", template)
	want = declare.Port{PortName: "web", DiscoveryName: "api-dev", Protocol: mesh.HTTP, ContainerPort: 8080, IngressPort: 15010, Aliases: want.Aliases}
	if d := cmp.Diff([]declare.Port{want}, task.Ports); d != "" || len(task.ContainerPorts) != 2 {
		t.Errorf("%s, %v", d, task.ContainerPorts)
	}
	// What decides is not known: the function is named. Conditions that ask for one another end.
	for old, new := range map[string]string{
		"!Ref Env, prod]":          "!ImportValue Env, prod]",
		"!Equals [!Ref Env, prod]": "!And [!Condition IsDev, !Condition IsDev]",
	} {
		_, problems := checked(Options{}, File{"t.yaml", []byte(strings.Replace(string(template.Text), old, new, 1))})
		if s := problems.Error(); !strings.Contains(s, `Services[0].DiscoveryName: {"Fn::If":["IsProd"`) {
			t.Errorf("%s: %s", new, s)
		}
	}
}

// TestOneTaskDefinitionForManyServices: an answer has more services than the task
// definitions beside it are of.
func TestOneTaskDefinitionForManyServices(t *testing.T) {
	doc := decoded(t, content(t, "services.answer.json")).(map[string]any)
	other := maps.Clone(doc["services"].([]any)[0].(map[string]any))
	other["serviceName"], other["taskDefinition"] = "other", "other:3"
	doc["services"] = append(doc["services"].([]any), other)
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	found, err := Read(Options{}, File{"task.json", content(t, "task.json")}, File{"services.json", text})
	got := map[string]bool{}
	for _, d := range found {
		got[d.Name] = d.Task != nil
	}
	if d := cmp.Diff(map[string]bool{"backend": true, "other": false}, got); err != nil || d != "" {
		t.Error(d, err)
	}
}
