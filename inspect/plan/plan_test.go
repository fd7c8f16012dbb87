package plan

import (
	"cmp"
	"os"
	"strings"
	"testing"

	"patchbay/declare/source"
)

const (
	task     = `{"family": "api", "containerDefinitions": [{"name": "app", "image": "x", "portMappings": [{"name": "api", "containerPort": 80, "appProtocol": "http"}]}]}`
	block    = `"serviceConnectConfiguration": {"enabled": true, "services": [{"portName": "api", "discoveryName": "NAME", "clientAliases": [{"port": 80}]}]}`
	service  = `{"serviceName": "api", "taskDefinition": "api:7", ` + block + `}`
	compose1 = "x-patchbay: {namespace: demo}\nservices:\n  web:\n    image: x\n    x-service-connect:\n      services:\n        - {portName: web, clientAliases: [{port: 80}]}\n      portMappings:\n        - {name: web, containerPort: 80, appProtocol: http}\n"
)

func file(name, text string) source.File {
	return source.File{Name: name, Text: []byte(strings.ReplaceAll(text, "NAME", strings.TrimSuffix(name, ".json")))}
}

func example(t *testing.T, name string) source.File {
	t.Helper()
	text, err := os.ReadFile("../../declare/source/testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return source.File{Name: name, Text: text}
}

func read(files ...source.File) string {
	all, err := Read("prod", files...)
	if err != nil {
		return err.Error()
	}
	var names []string
	for _, p := range all {
		names = append(names, p.DiscoveryName+"."+p.Namespace)
	}
	return cmp.Or(strings.Join(names, " "), "nothing")
}

// TestFilesThatBelongTogether: a task definition and its service in two files
// are one, as inject pairs them, whatever else is read beside them.
func TestFilesThatBelongTogether(t *testing.T) {
	tasks, services := file("task.json", task), file("service.json", service)
	unnamed := `{"taskDefinition": ` + task + `, "service": {"serviceName": "x", ` + block + `}}`
	for _, c := range []struct {
		name, want string
		files      []source.File
	}{
		{"task first", "service.prod", []source.File{tasks, services}},
		{"service first", "service.prod", []source.File{services, tasks}},
		{"as described", "backend.prod", []source.File{example(t, "task.json"), example(t, "service.json")}},
		{"an answer about services, its namespace an ARN", "backend.prod", []source.File{example(t, "services.answer.json"), example(t, "task.json")}},
		{"two pairs", "service.prod backend.prod", []source.File{tasks, example(t, "service.json"), services, example(t, "task.json")}},
		{"both in one, twice", "a.prod b.prod", []source.File{file("a.json", unnamed), file("b.json", unnamed)}},
		{"beside others", "web.demo bare.prod service.prod", []source.File{tasks, file("compose.yml", compose1), file("bare.json", `{`+block+`, "portMappings": [{"name": "api", "containerPort": 80}]}`), services}},
		{"a client", "nothing", []source.File{file("client.json", `{"serviceConnectConfiguration": {"enabled": true}}`)}},
	} {
		if got := read(c.files...); got != c.want {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.want)
		}
	}
}

// TestFilesThatDeclareNothing are refused by name: nothing would change because
// nothing was found.
func TestFilesThatDeclareNothing(t *testing.T) {
	tasks, services := file("task.json", task), file("service.json", service)
	const none = "task.json: declares no service; allowed: a compose file with x-service-connect; a task definition and its service"
	for _, c := range []struct {
		name, want string
		files      []source.File
	}{
		{"a task alone", none, []source.File{tasks}},
		{"a task beside another service", none, []source.File{tasks, file("bare.json", `{`+block+`, "portMappings": [{"name": "api", "containerPort": 80}]}`)}},
		{"both merged", none, []source.File{file("task.json", strings.TrimSuffix(task, "}")+`, "serviceName": "api", `+block+"}")}},
		{"a list beside a task", none, []source.File{file("task.json", `{"taskDefinition": `+task+`, "services": [`+service+`]}`)}},
		{"no block", none, []source.File{file("task.json", `{"taskDefinition": `+task+`, "service": {"serviceName": "api"}}`)}},
		{"a service alone", "service.json: taskDefinition: the task definition is not given, which has the ports; allowed: the file of it by another -f", []source.File{services}},
		{"another's task", `service.json: taskDefinition: "api:7" is not the task definition that was given (other)`, []source.File{services, file("task.json", strings.Replace(task, "api", "other", 1))}},
	} {
		if got := read(c.files...); !strings.HasPrefix(got, c.want) || strings.Contains(got, "\n") {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.want)
		}
	}
}
