package ecs

import (
	"slices"
	"strings"
	"testing"

	"patchbay/declare/definition"
	"patchbay/declare/source"
	"patchbay/declare/tree"
)

const wanted = `{"backend": {"fault": {"abort": {"status": 418, "percent": 100}}}, "payments": {"retries": {"max": 0}}}`

// declaredIn is what the sidecar of a task definition reads.
func declaredIn(t *testing.T, task []byte) *tree.Object {
	t.Helper()
	c, _ := find(mustRead(task))
	for _, e := range c.Objects("environment") {
		if e.Text("name") == "PATCHBAY_SERVICE_CONNECT" {
			return mustRead([]byte(e.Text("value")))
		}
	}
	t.Fatal("no declaration")
	return nil
}

// TestPoliciesBesideTheBlock: they reach the sidecar, no part of them reaches
// ECS, and they come back.
func TestPoliciesBesideTheBlock(t *testing.T) {
	for _, name := range []string{"service.json", "services.answer.json"} {
		service := once(file(t, name), `"serviceName":`, `"policies": `+wanted+`, "serviceName":`)
		r, o := injected(t, settings, file(t, "task.json"), service)
		if got := declaredIn(t, r.Task).Get(policies); !tree.Equal(got, mustRead([]byte(wanted))) {
			t.Errorf("%s: the sidecar reads %s", name, tree.Line(got))
		}
		if mustRead(r.Service).Has(policies) || mustRead(r.Task).Has(policies) {
			t.Errorf("%s: ECS gets them:\n%s", name, r.Service)
		}
		back, err := Remove(source.File{Name: "t", Text: r.Task}, source.File{Name: "s", Text: r.Service})
		if err != nil || back != o {
			t.Errorf("%s: they did not come back (%v):\n%s", name, err, back.Service)
		}
		edited := replaced(source.File{Name: "s", Text: r.Service}, `"maximumPercent": 200`, `"maximumPercent": 150`)
		if back, err = Remove(source.File{Name: "t", Text: r.Task}, edited); err != nil || !strings.Contains(back.Service, policies) {
			t.Errorf("%s: they did not come back to an edited service (%v):\n%s", name, err, back.Service)
		}
	}
}

// TestPoliciesOfAFile: a plan can't hold them.
func TestPoliciesOfAFile(t *testing.T) {
	for _, e := range examples(t) {
		if e.name != "terraform" {
			continue // of a template: template_test.go
		}
		found, err := source.Read(source.Options{}, e.files...)
		if err != nil {
			t.Fatal(err)
		}
		if err := source.Policies(found[0], source.File{Name: "p.yaml", Text: []byte("policies:\n  payments: {retries: {max: 0, 'on': [\"503\"]}}\n")}); err != nil {
			t.Fatal(err)
		}
		o := OriginalOf(found[0], e.files...)
		r, problems := Inject(found[0], e.s, o)
		if len(problems) > 0 {
			t.Fatalf("%s: %v", e.name, problems)
		}
		if got := declaredIn(t, r.Task).Object(policies).Object("payments").Object("retries"); string(tree.Line(got)) != `{"max":0,"on":["503"]}` {
			t.Errorf("%s: the sidecar reads %s", e.name, tree.Line(got))
		}
		if back, err := Remove(source.File{Name: "t", Text: r.Task}, source.File{Name: "s", Text: r.Service}); err != nil || back != o {
			t.Errorf("%s: %v", e.name, err)
		}
	}
}

// TestPoliciesRefused: in the words of package declare, at their path.
func TestPoliciesRefused(t *testing.T) {
	task, service := file(t, "task.json"), file(t, "service.json")
	beside := func(text string) source.File {
		return once(service, `"serviceName":`, `"policies": `+text+`, "serviceName":`)
	}
	for _, c := range []struct {
		name, want string
		service    source.File
	}{
		{"a wrong value", "service.json: policies.backend.retries.max: ", beside(`{"backend": {"retries": {"max": 99}}}`)},
		{"a wrong key", "service.json: policies.backend.retry: is not a key here (did you mean retries?); allowed: authorization", beside(`{"backend": {"retry": {}}}`)},
		{"a number for a time", `service.json: policies.payments.timeout.perRequest: is 2; allowed: a string, such as "2s"`, beside(`{"payments": {"timeout": {"perRequest": 2}}}`)},
		{"in the block", "service.json: serviceConnectConfiguration.policies: is not a key here, but stands beside serviceConnectConfiguration", once(service, `"enabled": true`, `"enabled": true, "policies": {}`)},
	} {
		found, err := source.Read(source.Options{}, task, c.service)
		if err != nil {
			t.Fatal(err)
		}
		if _, problems := Inject(found[0], settings, Original{}); !slices.ContainsFunc(problems, func(p definition.Problem) bool { return strings.HasPrefix(p.String(), c.want) }) {
			t.Errorf("%s: %v", c.name, problems)
		}
	}
	if _, err := source.Read(source.Options{}, task, beside(`[]`)); err == nil || !strings.Contains(err.Error(), "service.json: policies: is not an object") {
		t.Error(err)
	}
	found, err := source.Read(source.Options{}, task, beside(wanted))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"": "p: is empty", "{": "p: is not JSON", `{"backend": {}}`: "p: has the keys backend; allowed: ", "{}": "p: has no keys",
		`{"policies": {}}`: "p: policies: stand in service.json as well",
	} {
		if err := source.Policies(found[0], source.File{Name: "p", Text: []byte(text)}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	tmpl := once(file(t, "template.yaml"), "LaunchType: FARGATE", "LaunchType: FARGATE\n      Policies: {backend: {}}")
	if found, err = source.Read(source.Options{}, tmpl); err != nil {
		t.Fatal(err)
	}
	if _, problems := Inject(found[0], settings, Original{}); !strings.Contains(problems.Error(), "Properties.Policies: is no property of AWS::ECS::Service") {
		t.Error(problems)
	}
}

// TestJoin: a directory that this service can't use is refused here, not in the
// task.
func TestJoin(t *testing.T) {
	for text, want := range map[string]string{
		`{"namespace": "prod", "workload": "frontend", "discoveryNames": []}`:         "--join: is for the workload frontend, which may not offer backend; allowed: the directory of the workload that offers it",
		`{"namespace": "test", "workload": "backend", "discoveryNames": ["backend"]}`: `--join: is for the namespace "test", and the service is in "prod"`,
		`[]`: "--join: ",
		`{"namespace": "prod", "workload": "frontend", "discoveryNames": ["backend"]}`: "note --join: is for the workload frontend, and the service is called backend",
	} {
		s := settings
		s.Join = map[string]string{"join.json": text}
		found, err := source.Read(source.Options{}, file(t, "task.json"), file(t, "service.json"))
		if err != nil {
			t.Fatal(err)
		}
		r, problems := Inject(found[0], s, Original{})
		got := problems.Error()
		if r != nil {
			got = "note " + r.Notes.Error()
		}
		if !strings.Contains(strings.ReplaceAll(got, "\n", "\nnote "), want) {
			t.Errorf("%s: %s", text, got)
		}
	}
}

// TestJoinOfOneOfSeveral: to let the workload of one service offer what another
// does would be no remedy.
func TestJoinOfOneOfSeveral(t *testing.T) {
	found, err := source.Read(source.Options{}, file(t, "task.json"), file(t, "service.json"))
	if err != nil {
		t.Fatal(err)
	}
	s := settings
	s.Together = []string{"frontend", "backend"}
	s.Join = map[string]string{"join.json": `{"namespace": "prod", "workload": "frontend", "discoveryNames": []}`}
	_, problems := Inject(found[0], s, Original{})
	if got := problems.Error(); !strings.Contains(got, "one run for each of the services frontend, backend, with --service (here backend) and the --join of its own workload") || strings.Contains(got, "--discovery-name") {
		t.Error(got)
	}
	s.Join = map[string]string{"join.json": `{"namespace": "prod", "workload": "frontend", "discoveryNames": ["backend"]}`}
	r, problems := Inject(found[0], s, Original{})
	if len(problems) > 0 || !strings.Contains(r.Notes.Error(), "in a run of its own, with --service backend and its own --join") {
		t.Error(problems)
	}
}

// TestRoleOfTheSamePlan: its ARN is known after apply, and nothing here needs it.
func TestRoleOfTheSamePlan(t *testing.T) {
	none := replaced(file(t, "plan.json"), `"task_role_arn": "arn:aws:iam::111122223333:role/backend"`, `"task_role_arn": null`)
	found, err := source.Read(source.Options{}, none)
	if err != nil {
		t.Fatal(err)
	}
	if _, problems := Inject(found[0], settings, Original{}); !strings.Contains(problems.Error(), "task_role_arn: is missing") {
		t.Errorf("no role: %v", problems)
	}
	later := once(none, `"resource_changes": [`, `"resource_changes": [{"address": "module.backend[0].aws_ecs_task_definition.this", "change": {"after_unknown": {"task_role_arn": true}}},`)
	if found, err = source.Read(source.Options{}, later); err != nil {
		t.Fatal(err)
	}
	r, problems := Inject(found[0], settings, Original{})
	if len(problems) > 0 || !strings.Contains(r.Changes.Error(), "task_role_arn: is known after apply only, and stays as it is") {
		t.Errorf("%v", problems)
	}
}
