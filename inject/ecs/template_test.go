package ecs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchbay/declare/definition"
	"patchbay/declare/source"
	"patchbay/declare/tree"
)

// templates are templates with all that people write in them.
func templates(t *testing.T) map[string]source.File {
	yaml := file(t, "template.yaml")
	two := string(yaml.Text)
	at := strings.Index(two, "  Task:\n")
	second := strings.NewReplacer("  Task:\n", "  Task2:\n", "  Service:\n", "  Service2:\n", "!Ref Task\n", "!Ref Task2\n", "DiscoveryName: !Join", "DiscoveryName: rpc #!Join").Replace(two[at:])
	commented := strings.NewReplacer(
		"  Task:\n", "\n  # the task\n  Task: # backend\n", "        - Name: app\n", "        # the application\n        - Name: app # 8080\n\n",
		"  Service:\n", "# at the left\n\n  Service:\n").Replace(two) + "\n\n# the end\nOutputs: {Name: {Value: !GetAtt Service.Name}}\n"
	json := file(t, "template.json")
	return map[string]source.File{
		"yaml":      yaml,
		"two":       {Name: "two.yaml", Text: []byte(two + second)},
		"commented": {Name: "commented.yaml", Text: []byte(commented)},
		"windows":   {Name: "windows.yaml", Text: []byte(strings.ReplaceAll(commented, "\n", "\r\n"))},
		"no end":    {Name: "end.yaml", Text: []byte(strings.TrimSuffix(two, "\n"))},
		"json":      replaced(json, `"NetworkMode": "awsvpc"`, `"NetworkMode": "awsvpc", "TaskRoleArn": "r"`, `"Enabled": true`, `"Enabled": true, "Namespace": "prod"`),
		"json in lines": {Name: "lines.json", Text: tree.Write(mustRead(replaced(json, `"NetworkMode": "awsvpc"`, `"NetworkMode": "awsvpc", "TaskRoleArn": {"Fn::GetAtt": ["Role", "Arn"]}`,
			`"Enabled": true`, `"Enabled": true, "Namespace": "prod"`).Text), "\t")},
	}
}

// inTemplate injects every service of a template.
func inTemplate(t *testing.T, f source.File) source.File {
	t.Helper()
	found, err := source.Read(source.Options{}, f)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range found {
		s := settings
		s.Join = nil
		if d.Name == "Service" && strings.HasSuffix(f.Name, "template.yaml") {
			if err := source.Policies(d, source.File{Name: "p", Text: []byte(`{"policies": {"payments": {"retries": {"max": 0}}}}`)}); err != nil {
				t.Fatal(err)
			}
		}
		r, problems := Inject(d, s, OriginalOf(d, f))
		if len(problems) > 0 {
			t.Fatalf("%s: %v", f.Name, problems)
		}
		text, err := r.Template(f)
		if err != nil {
			t.Fatal(err)
		}
		f = source.File{Name: f.Name, Text: text}
	}
	return f
}

// TestTemplateThereAndBack: the result is a template with sidecars in it, all
// else as it was, and it goes back byte for byte.
func TestTemplateThereAndBack(t *testing.T) {
	for name, f := range templates(t) {
		made := inTemplate(t, f)
		found, err := source.Read(source.Options{}, made)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, made.Text)
		}
		for _, d := range found {
			if _, ok := find(d.Task); !ok || d.InMesh() || d.Service == nil {
				t.Errorf("%s: %s has no sidecar, or Service Connect's:\n%s", name, d.Name, made.Text)
			}
		}
		if strings.Contains(string(made.Text), "\r") != strings.Contains(string(f.Text), "\r") {
			t.Errorf("%s: other line ends", name)
		}
		back, n, err := RemoveTemplate(made)
		if d := cmp.Diff(string(f.Text), string(back)); err != nil || n != len(found) || d != "" {
			t.Errorf("%s: %v, %d services\n%s", name, err, n, d)
		}
		if back, n, err := RemoveTemplate(f); err != nil || n != 0 || string(back) != string(f.Text) {
			t.Errorf("%s: what was never injected changes (%v)", name, err)
		}
	}
}

// TestTemplateKeeps: functions and comments stay as they were written.
func TestTemplateKeeps(t *testing.T) {
	made := string(inTemplate(t, templates(t)["commented"]).Text)
	for _, want := range []string{
		"  # the task\n  Task: # backend\n", "Image: !Ref Image\n", "TaskRoleArn: !GetAtt Role.Arn\n", "# the application", "# 8080", "{Name: web, ContainerPort: !Ref Port, AppProtocol: http}",
		"# at the left\n\n  Service:\n", "TaskDefinition: !Ref Task\n", "{TargetGroupArn: !Ref Group, ContainerName: patchbay-sidecar, ContainerPort: 15010}",
		"\n\n# the end\nOutputs: {Name: {Value: !GetAtt Service.Name}}\n", "Enabled: false\n", "awslogs-group:\n", "Ref: Logs\n",
	} {
		if !strings.Contains(made, want) {
			t.Errorf("not there: %q\n%s", want, made)
		}
	}
}

// TestTemplateEdited: what a person has changed in the meantime stays.
func TestTemplateEdited(t *testing.T) {
	for name, f := range templates(t) {
		if name != "yaml" && name != "commented" && name != "two" {
			continue
		}
		edit := strings.NewReplacer("Image: !Ref Image", "Image: !Sub '${Image}:2'", "LaunchType: FARGATE", "LaunchType: FARGATE\n      DesiredCount: 3", "Type: AWS::Logs::LogGroup", "Type: AWS::Logs::LogGroup # mine")
		made := inTemplate(t, f)
		made.Text = []byte(edit.Replace(string(made.Text)))
		want, got := source.File{Name: f.Name, Text: []byte(edit.Replace(string(f.Text)))}, source.File{Name: f.Name}
		var err error
		if got.Text, _, err = RemoveTemplate(made); err != nil {
			t.Fatal(err)
		}
		a, b := read(t, want), read(t, got)
		for i := range a {
			if !tree.Equal(a[i].TaskRaw, b[i].TaskRaw) || !tree.Equal(a[i].ServiceRaw, b[i].ServiceRaw) {
				t.Errorf("%s:\n%s", name, cmp.Diff(string(want.Text), string(got.Text)))
			}
		}
		if !strings.Contains(string(got.Text), "# mine") {
			t.Errorf("%s: another resource has changed:\n%s", name, got.Text)
		}
	}
}

func read(t *testing.T, f source.File) []*definition.Definition {
	t.Helper()
	found, err := source.Read(source.Options{}, f)
	if err != nil {
		t.Fatalf("%v\n%s", err, f.Text)
	}
	return found
}

// TestTemplateRefuses: a text that can't be changed line by line, and a label
// that does not hold what was.
func TestTemplateRefuses(t *testing.T) {
	yaml := file(t, "template.yaml")
	flow := source.File{Name: "flow.yaml", Text: []byte(strings.Replace(string(yaml.Text), "    Type: AWS::ECS::TaskDefinition\n    Properties:\n", "    {Type: AWS::ECS::TaskDefinition, Properties: {NetworkMode: awsvpc, Cpu: 256, Memory: 512, TaskRoleArn: r, ContainerDefinitions: [{Name: app, PortMappings: [{Name: web, ContainerPort: 8080}]}]}}\n  Old:\n    Type: X\n    Properties:\n", 1))}
	d := read(t, flow)[0]
	s := settings
	s.Join = nil
	r, problems := Inject(d, s, OriginalOf(d, flow))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if _, err := r.Template(flow); err == nil || !strings.Contains(err.Error(), "flow.yaml: Resources.Task: is not in block style") {
		t.Error(err)
	}
	made := inTemplate(t, yaml)
	made.Text = []byte(strings.Replace(string(made.Text), "patchbay.inject: ", "patchbay.inject: AAAA", 1))
	if _, _, err := RemoveTemplate(made); err == nil || !strings.Contains(err.Error(), "its label does not give back what was injected") {
		t.Error(err)
	}
}
