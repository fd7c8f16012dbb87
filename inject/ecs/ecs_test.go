package ecs

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchbay/declare/definition"
	"patchbay/declare/source"
	"patchbay/declare/tree"
)

var update = flag.Bool("update", false, "write the golden files")

const shared = "../../declare/source/testdata/"

var settings = Settings{
	Image: "patchbay:1", XDS: []string{"patchbay.internal:18000"}, Agent: "patchbay.internal:18001",
	Join: map[string]string{"join.json": joined("prod"), "ca.pem": "PEM"},
}

// joined is a join.json.
func joined(namespace string) string {
	return `{"namespace": "` + namespace + `", "workload": "backend", "discoveryNames": ["backend", "backend-prod", "rpc"]}`
}

func file(t testing.TB, name string) source.File {
	t.Helper()
	if !strings.Contains(name, "/") {
		name = shared + name
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return source.File{Name: filepath.Base(name), Text: b}
}

func replaced(f source.File, pairs ...string) source.File {
	return source.File{Name: f.Name, Text: []byte(strings.NewReplacer(pairs...).Replace(string(f.Text)))}
}

func once(f source.File, old, new string) source.File {
	return source.File{Name: f.Name, Text: []byte(strings.Replace(string(f.Text), old, new, 1))}
}

// injected is one definition with its sidecar, and its originals.
func injected(t testing.TB, s Settings, files ...source.File) (*Result, Original) {
	t.Helper()
	found, err := source.Read(source.Options{Namespace: s.Namespace}, files...)
	if err != nil || len(found) != 1 {
		t.Fatalf("%d definitions: %v", len(found), err)
	}
	o := OriginalOf(found[0], files...)
	r, problems := Inject(found[0], s, o)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return r, o
}

type example struct {
	name  string
	s     Settings
	files []source.File
}

func examples(t *testing.T) []example {
	task, service := file(t, "task.json"), file(t, "service.json")
	ec2 := []string{`"requiresCompatibilities": ["FARGATE"]`, `"requiresCompatibilities": ["EC2"]`, `"launchType": "FARGATE"`, `"launchType": "EC2"`}
	without := []string{`"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"], "securityGroups": ["sg-1"], "assignPublicIp": "DISABLED"}},`, "",
		`"tls": {"issuerCertificateAuthority": {"awsPcaAuthorityArn": "arn:aws:acm-pca:eu-west-1:111122223333:certificate-authority/0f0f0f0f-1111-2222-3333-444444444444"}, "kmsKey": "k", "roleArn": "r"}`, `"ingressPortOverride": 15999`}
	templated := settings
	templated.Join = map[string]string{"join.json": joined("mesh-prod"), "ca.pem": "PEM"}
	busy := settings
	busy.Requests, busy.Services, busy.Join = 1000, 101, nil
	mode := func(m string) []source.File {
		return []source.File{
			replaced(task, append(ec2, `"networkMode": "awsvpc"`, `"networkMode": "`+m+`"`)...),
			replaced(service, append(append([]string{}, ec2...), without...)...),
		}
	}
	return []example{
		{"fargate", settings, []source.File{task, service}},
		{"ec2", busy, []source.File{replaced(task, ec2...), replaced(service, ec2...)}},
		{"bridge", settings, mode("bridge")},
		{"host", settings, mode("host")},
		{"running", settings, []source.File{task, file(t, "services.answer.json")}},
		{"terraform", settings, []source.File{file(t, "plan.json")}},
		{"template", templated, []source.File{file(t, "template.yaml")}},
	}
}

// TestInject: what is written, what is noted, and that it can be undone.
func TestInject(t *testing.T) {
	for _, e := range examples(t) {
		r, o := injected(t, e.s, e.files...)
		golden(t, "testdata/"+e.name+".golden", shown(t, r, e.files))
		if again, _ := injected(t, e.s, e.files...); string(again.Task) != string(r.Task) || string(again.Service) != string(r.Service) {
			t.Errorf("%s: the second time differs", e.name)
		}
		if e.name == "template" {
			continue // template_test.go
		}
		back, err := Remove(source.File{Name: "task", Text: r.Task}, source.File{Name: "service", Text: r.Service})
		if err != nil || back != o {
			t.Errorf("%s: removed: %v\n%s", e.name, err, cmp.Diff(o, back))
		}
	}
}

// shown is what is written, with what is said.
func shown(t *testing.T, r *Result, files []source.File) string {
	var b strings.Builder
	if r.changed != nil {
		text, err := r.Template(files[0])
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s", strings.Replace(string(text), r.label, "WHAT-WAS", 1))
	} else {
		fmt.Fprintf(&b, "%s%s%s", strings.Replace(string(r.Task), r.label, "WHAT-WAS", 1), r.Service, r.HCL)
	}
	for _, n := range append(r.Notes, r.Changes...) {
		fmt.Fprintln(&b, n)
	}
	return b.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-update writes it anew):\n%s", name, d)
	}
}

// TestRemoveEdited: what a person has changed stays, in the original.
func TestRemoveEdited(t *testing.T) {
	r, _ := injected(t, settings, file(t, "task.json"), file(t, "service.json"))
	edit := replaced(source.File{Name: "task", Text: r.Task},
		"backend:1", "backend:2", `"environment": []`, `"environment": [{"name": "A", "value": "1"}]`,
		`"containerName": "app",`, `"containerName": "app", "more": true,`)
	service := replaced(source.File{Name: "service", Text: r.Service}, `"desiredCount": 2`, `"desiredCount": 5`)
	back, err := Remove(edit, service)
	if err != nil {
		t.Fatal(err)
	}
	task := replaced(file(t, "task.json"), "backend:1\"", "backend:2\"", `"environment": []`, `"environment": [{"name": "A", "value": "1"}]`,
		`{"containerName": "app", "condition"`, `{"containerName": "app", "more": true, "condition"`)
	if !tree.Equal(mustRead(task.Text), mustRead([]byte(back.Task))) {
		t.Errorf("the task definition is not what was meant:\n%s", cmp.Diff(string(tree.Write(mustRead(task.Text), "    ")), back.Task))
	}
	want := replaced(file(t, "service.json"), `"desiredCount": 2`, `"desiredCount": 5`)
	if !tree.Equal(mustRead(want.Text), mustRead([]byte(back.Service))) {
		t.Errorf("the service is not what was meant:\n%s", cmp.Diff(string(tree.Write(mustRead(want.Text), "    ")), back.Service))
	}
	// As ECS prints it after it was registered.
	answer := tree.Of("taskDefinition", mustRead(r.Task))
	answer.Object("taskDefinition").Set("revision", tree.Number(8))
	back, err = Remove(source.File{Name: "answer", Text: tree.Write(answer, "  ")}, source.File{})
	if err != nil || strings.Contains(back.Task, Sidecar) || !strings.Contains(back.Task, `"revision": 8`) {
		t.Errorf("from an answer (%v):\n%s", err, back.Task)
	}
}

func TestRemoveRefuses(t *testing.T) {
	r, _ := injected(t, settings, file(t, "task.json"), file(t, "service.json"))
	for name, text := range map[string]string{
		"not JSON":    "{",
		"a list":      "[]",
		"label gone":  strings.Replace(string(r.Task), `"`+label+`"`, `"other"`, 1),
		"label short": strings.Replace(string(r.Task), `"patchbay.inject": "`, `"patchbay.inject": "AAAA`, 1),
	} {
		if _, err := Remove(source.File{Name: "f", Text: []byte(text)}, source.File{}); err == nil || !strings.HasPrefix(err.Error(), "f: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if back, err := Remove(file(t, "task.json"), file(t, "service.json")); err != nil || back.Task != string(file(t, "task.json").Text) {
		t.Errorf("what was never injected changes: %v", err)
	}
}

func TestRefuses(t *testing.T) {
	task, service := file(t, "task.json"), file(t, "service.json")
	full := strings.Repeat(`{"name": "NAME", "image": "x"},`, 8)
	for i := range 8 {
		full = strings.Replace(full, "NAME", fmt.Sprintf("more%d", i), 1)
	}
	for _, c := range []struct {
		name, want string
		s          Settings
		files      []source.File
	}{
		{"no service", "task.json: taskDefinition: its service is not given", settings, []source.File{task}},
		{"no task", "service.json: taskDefinition: the task definition backend is not given", settings, []source.File{service}},
		{"off", "service.json: serviceConnectConfiguration.enabled: is false", settings, []source.File{task, replaced(service, `"enabled": true`, `"enabled": false`)}},
		{"no role", "task.json: taskDefinition.taskRoleArn: is missing", settings, []source.File{replaced(task, `"taskRoleArn"`, `"pidModeX"`), service}},
		{"name taken", "task.json: taskDefinition.containerDefinitions[1].name: patchbay-sidecar is there already", settings, []source.File{replaced(task, `"name": "cache"`, `"name": "patchbay-sidecar"`), service}},
		{"redirect on Fargate", "task.json: taskDefinition.requiresCompatibilities: Fargate gives no container NET_ADMIN", Settings{Image: "i", Wiring: "redirect"}, []source.File{task, service}},
		{"wiring", `--wiring: "nat"; allowed: redirect, bind`, Settings{Image: "i", Wiring: "nat"}, []source.File{task, service}},
		{"ten containers", "task.json: taskDefinition.containerDefinitions: has 10 containers; allowed beside the sidecar: 9", settings, []source.File{replaced(task, `"containerDefinitions": [`, `"containerDefinitions": [`+full), service}},
		{"too large", "task.json: taskDefinition: has ", settings, []source.File{replaced(task, `"image": "redis"`, `"image": "redis", "command": ["`+strings.Repeat("x", 70000)+`"]`), service}},
	} {
		found, err := source.Read(source.Options{}, c.files...)
		if err != nil {
			t.Fatal(err)
		}
		if _, problems := Inject(found[0], c.s, Original{}); len(problems) == 0 || !strings.HasPrefix(problems[0].String(), c.want) {
			t.Errorf("%s: %v", c.name, problems)
		}
	}
}

// TestAnswersThatSayNothing: null is absent, and what describe-services prints of
// every service is neither a mistake nor taken along where ECS refuses it.
func TestAnswersThatSayNothing(t *testing.T) {
	task := once(file(t, "task.json"), `"name": "app",`, `"name": "app", "dependsOn": null,`)
	service := once(file(t, "services.answer.json"), `{"maximumPercent"`, `{"strategy": "ROLLING", "bakeTimeInMinutes": 0, "maximumPercent"`)
	service = once(service, `"launchType"`, `"healthCheckGracePeriodSeconds": 0, "launchType"`)
	r, _ := injected(t, settings, task, service)
	app := mustRead(r.Task).Objects("containerDefinitions")[0].Objects("dependsOn")
	if len(app) != 1 || app[0].Text("containerName") != Sidecar {
		t.Errorf("the application waits for %v", app)
	}
	if mustRead(r.Service).Has("healthCheckGracePeriodSeconds") {
		t.Errorf("%s", r.Service)
	}
	if s := r.Notes.Error(); strings.Contains(s, "function") || strings.Contains(s, "bakeTime") {
		t.Error(s)
	}
}

// TestHostPortsInBridgeMode: the override is the host's port as well; without one
// ECS picks it.
func TestHostPortsInBridgeMode(t *testing.T) {
	task := replaced(file(t, "task.json"), `"awsvpc"`, `"bridge"`, `"FARGATE"`, `"EC2"`)
	bridge := replaced(file(t, "services.answer.json"), `"networkConfiguration"`, `"x"`, `"FARGATE"`, `"EC2"`)
	for override, want := range map[string]string{`"portName": "web"`: `"hostPort": 0`, `"portName": "web", "ingressPortOverride": 9000`: `"hostPort": 9000`} {
		r, _ := injected(t, settings, task, once(bridge, `"portName": "web"`, override))
		if c := mustRead(r.Task).Objects("containerDefinitions"); !strings.Contains(string(tree.Line(c[len(c)-1])), strings.ReplaceAll(want, " ", "")) {
			t.Errorf("with %s: %s", override, tree.Line(c[len(c)-1]))
		}
	}
}

// TestAConnectingCheckSeesADeadApplication: on EC2 the sidecar closes its ingress
// then; on Fargate it can't, and ECS has to know.
func TestAConnectingCheckSeesADeadApplication(t *testing.T) {
	plan := replaced(file(t, "plan.json"), `"protocol": "HTTPS"`, `"protocol": "TCP"`, `"FARGATE"`, `"EC2"`, `\"name\": \"app\",`, `\"name\": \"app\", \"healthCheck\": {\"command\": [\"CMD\", \"/check\"]},`)
	const closes = `"PATCHBAY_CLOSE_DEAD"`
	r, _ := injected(t, settings, plan)
	if !strings.Contains(string(r.Task), closes) || !strings.Contains(r.Changes.Error(), "only connects") {
		t.Errorf("on EC2: %v\n%v", r.Notes, r.Changes)
	}
	fargate := replaced(plan, `"EC2"`, `"FARGATE"`)
	for _, c := range []struct {
		what  string
		plan  source.File
		noted bool
	}{
		{"with a healthCheck", fargate, false},
		{"without", replaced(fargate, `\"healthCheck\": {\"command\": [\"CMD\", \"/check\"]},`, ""), true},
		{"by HTTP", replaced(file(t, "plan.json"), `"protocol": "HTTPS"`, `"protocol": "HTTP"`), false},
	} {
		r, _ := injected(t, settings, c.plan)
		if strings.Contains(string(r.Task), closes) || strings.Contains(r.Notes.Error(), "only connects") != c.noted {
			t.Errorf("on Fargate %s: %v", c.what, r.Notes)
		}
	}
}

// TestNotes: the usual mistakes around a task are said.
func TestNotes(t *testing.T) {
	plan := file(t, "plan.json")
	for _, c := range []struct {
		name, want string
		files      []source.File
	}{
		{"HTTP target group", "speaks HTTP, and the ingress takes TLS alone", []source.File{once(plan, `"protocol": "HTTPS"`, `"protocol": "HTTP"`)}},
		{"old policy", "ELBSecurityPolicy-2016-08 has no TLS 1.3", []source.File{replaced(plan, "ELBSecurityPolicy-TLS13-1-2-2021-06", "ELBSecurityPolicy-2016-08")}},
		{"HTTPS check of an NLB", "a Network Load Balancer verifies the certificate", []source.File{once(plan, `"protocol": "HTTPS"`, `"protocol": "TCP"`)}},
		{"open port", "8080 stays open in plain text", []source.File{plan}},
		{"no health check", "the task is registered as soon as its port accepts connections", []source.File{plan}},
		{"read-only root", "is true: the container itself may stay so, the sidecar may not", []source.File{replaced(file(t, "task.json"), `"cpu": 0`, `"readonlyRootFilesystem": true`), file(t, "service.json")}},
		{"alias on an own port", "6379 is a port of this task, too", []source.File{file(t, "task.json"), replaced(file(t, "service.json"), `{"port": 80, `, `{"port": 6379, `)}},
		{"Envoy's user", "is 101, the user of the sidecar's Envoy", []source.File{replaced(file(t, "task.json"), `"cpu": 0`, `"user": "101"`), file(t, "service.json")}},
	} {
		r, _ := injected(t, settings, c.files...)
		if !slices.ContainsFunc(r.Notes, func(p definition.Problem) bool { return strings.Contains(p.Text, c.want) }) {
			t.Errorf("%s: %v", c.name, r.Notes)
		}
	}
	r, _ := injected(t, settings, plan)
	for _, n := range r.Notes {
		if strings.Contains(n.Text, "target group") || strings.Contains(n.Text, "TLS 1.3") {
			t.Errorf("a good target group is noted: %s", n)
		}
	}
}

// FuzzRemove: nothing that a person does to an injected definition panics.
func FuzzRemove(f *testing.F) {
	r, _ := injected(f, settings, file(f, "task.json"), file(f, "service.json"))
	f.Add(string(r.Task), string(r.Service))
	f.Add(strings.Replace(string(r.Task), `"app"`, `null`, 1), "{}")
	f.Add(strings.Replace(string(r.Task), `"portMappings": [`, `"portMappings": [null, `, 1), `{"loadBalancers": null}`)
	f.Fuzz(func(t *testing.T, task, service string) {
		_, err := Remove(source.File{Name: "t", Text: []byte(task)}, source.File{Name: "s", Text: []byte(service)})
		if err != nil && err.Error() == "" {
			t.Fatal("an error that says nothing")
		}
	})
}
