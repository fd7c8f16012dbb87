package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"patchbay/declare/definition"
	"patchbay/declare/tree"
)

var update = flag.Bool("update", false, "write the golden files")

func content(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ours reads files of testdata and checks them.
func ours(t *testing.T, o Options, names ...string) ([]*definition.Definition, definition.Problems) {
	t.Helper()
	var files []File
	for _, n := range names {
		files = append(files, File{n, content(t, n)})
	}
	return checked(o, files...)
}

func checked(o Options, files ...File) ([]*definition.Definition, definition.Problems) {
	found, err := Read(o, files...)
	problems, _ := errors.AsType[definition.Problems](err)
	for _, d := range found {
		_, more := d.Check()
		problems = append(problems, more...)
	}
	return found, problems
}

// TestRefused holds every wrong configuration against the message that it must
// give, each with its path.
func TestRefused(t *testing.T) {
	if _, p := ours(t, Options{}, "task.json", "service.json"); len(p) > 0 {
		t.Fatalf("what the cases change does not hold: %v", p)
	}
	a, err := txtar.ParseFile("testdata/refused.txtar")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(a.Files) / 2; n < 60 {
		t.Fatalf("%d cases", n)
	}
	for i := 0; i < len(a.Files); i += 2 {
		in, says := a.Files[i], &a.Files[i+1]
		_, problems := checked(Options{}, changed(t, string(in.Data))...)
		got := problems.Error() + "\n"
		if *update {
			says.Data = []byte(got)
		} else if d := cmp.Diff(string(says.Data), got); d != "" || len(problems) == 0 || strings.Contains(got, "%!") {
			t.Errorf("%s (-update writes it anew):\n%s", in.Name, d)
		}
	}
	if *update {
		if err := os.WriteFile("testdata/refused.txtar", txtar.Format(a), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// changed are task.json and service.json with changes.
func changed(t *testing.T, changes string) []File {
	t.Helper()
	task, err := tree.Read(content(t, "task.json"))
	if err != nil {
		t.Fatal(err)
	}
	service, err := tree.Read(content(t, "service.json"))
	if err != nil {
		t.Fatal(err)
	}
	root := tree.Of("task", task.(*tree.Object).Get("taskDefinition"), "service", service)
	for line := range strings.Lines(changes) {
		path, text, set := strings.Cut(strings.TrimSpace(line), " = ")
		var v any
		if set {
			if v, err = tree.Read([]byte(text)); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		}
		change(t, root, path, v, set)
	}
	return []File{
		{"task.json", tree.Write(tree.Of("taskDefinition", root.Get("task")), "  ")},
		{"service.json", tree.Write(root.Get("service"), "  ")},
	}
}

var step = regexp.MustCompile(`[^.\[\]]+`)

func change(t *testing.T, root *tree.Object, path string, v any, set bool) {
	t.Helper()
	steps := step.FindAllString(path, -1)
	var at any = root
	for i, s := range steps {
		last := i == len(steps)-1
		switch o := at.(type) {
		case *tree.Object:
			switch {
			case last && set:
				o.Set(s, v)
			case last:
				if !o.Has(s) {
					t.Fatalf("%s: there is no %s", path, s)
				}
				o.Delete(s)
			default:
				at = o.Get(s)
			}
		case []any:
			n, err := strconv.Atoi(s)
			if err != nil || last {
				t.Fatalf("%s: %s", path, s)
			}
			at = o[n]
		default:
			t.Fatalf("%s: nothing at %s", path, s)
		}
	}
}

// TestForms reads each form as people have it.
func TestForms(t *testing.T) {
	for _, c := range []struct {
		name  string
		o     Options
		files []string
	}{
		{"ecs", Options{}, []string{"task.json", "service.json"}},
		{"answer", Options{}, []string{"task.json", "services.answer.json"}},
		{"terraform", Options{}, []string{"plan.json"}},
		{"cloudformation", Options{Parameters: map[string]string{"Port": "9000"}}, []string{"template.yaml"}},
		{"cloudformation-json", Options{Namespace: "prod"}, []string{"template.json"}},
	} {
		found, problems := ours(t, c.o, c.files...)
		if len(problems) > 0 {
			t.Errorf("%s: %v", c.name, problems)
		}
		var b bytes.Buffer
		for _, d := range found {
			declared, _ := d.Declare()
			fmt.Fprintf(&b, "%s (%s, %s)\n", d.Name, d.Form, d.NetworkMode())
			if d.Task != nil {
				fmt.Fprintf(&b, "task definition: %s", tree.Write(d.Task, "  "))
			}
			said, err := json.Marshal(declared)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "service: %starget groups: %+v\ndeclared: %s\n", tree.Write(d.Service, "  "), d.Targets, said)
			for _, n := range d.Notes {
				fmt.Fprintln(&b, n)
			}
		}
		golden(t, filepath.Join("testdata", c.name+".golden"), b.Bytes())
	}
}

// TestUnreadable: what is in no form, or leaves open what a task has to know.
func TestUnreadable(t *testing.T) {
	plan := func(old, new string) string { return strings.Replace(string(content(t, "plan.json")), old, new, 1) }
	template := func(old, new string) string {
		return strings.Replace(string(content(t, "template.yaml")), old, new, 1)
	}
	cases := map[string]string{}
	for name, text := range map[string]string{
		"empty":                   " ",
		"not JSON":                `{"family": }`,
		"a key twice":             `{"family": "a", "containerDefinitions": [{"name": "b", "name": "c"}]}`,
		"not YAML":                "a: [",
		"a list":                  `[{"name": "app"}]`,
		"something else":          `{"clusters": []}`,
		"a list of ARNs":          `{"taskDefinitionArns": []}`,
		"not found":               `{"services": [], "failures": [{"arn": "arn:aws:ecs:eu-west-1:1:service/x", "reason": "MISSING"}]}`,
		"no service":              `{"services": [], "failures": []}`,
		"a plan of nothing":       `{"format_version": "1.2", "terraform_version": "1.9.8", "planned_values": {"root_module": {}}}`,
		"not a plan":              `{"terraform_version": "1.9.8"}`,
		"containers unknown":      plan(`"container_definitions":`, `"other":`),
		"containers not JSON":     plan(`"container_definitions": "[`, `"container_definitions": "{`),
		"issuer after apply":      plan(`"kms_key": true,`, `"issuer_cert_authority": [{"aws_pca_authority_arn": true}],`),
		"a template of nothing":   `{"Resources": {"B": {"Type": "AWS::S3::Bucket"}}}`,
		"a parameter unset":       template("Type: String, Default: prod", "Type: String"),
		"an import":               template("DnsName: backend", "DnsName: !ImportValue Name"),
		"a port of the template":  template("Type: Number, Default: 8080", "Type: Number"),
		"protocol in a template":  template("AppProtocol: http", "AppProtocol: https"),
		"alias in a template":     template("{Port: 80, DnsName: backend}", "{Port: 0, DnsName: localhost}"),
		"a name in a plan":        plan(`"dns_name": "backend"`, `"dns_name": "back end"`),
		"an issuer in a plan":     plan(`"aws_pca_authority_arn": "arn:aws:acm-pca:eu-west-1:111122223333:certificate-authority/0f0f0f0f"`, `"aws_pca_authority_arn": ""`),
		"a container in a plan":   plan(`\"containerPort\": 8080`, `\"containerPort\": 0`),
		"two documents":           "Resources: {}\n---\nResources: {}\n",
		"a key twice in YAML":     "Resources: {A: 1, A: 2}\n",
		"aliases that grow":       "a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nResources: [*e,*e,*e,*e]\n",
		"a service without tasks": `{"serviceName": "a", "serviceConnectConfiguration": {"enabled": true, "namespace": "a"}, "launchType": "EXTERNAL"}`,
	} {
		_, problems := checked(Options{}, File{"f", []byte(text)})
		cases[name] = problems.Error()
		if len(problems) == 0 {
			t.Errorf("%s was accepted", name)
		}
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		fmt.Fprintf(&b, "-- %s --\n%s\n", name, cases[name])
	}
	golden(t, "testdata/unreadable.golden", []byte(b.String()))
}

// FuzzRead: no text panics, and every refusal is a list of problems that say
// something.
func FuzzRead(f *testing.F) {
	for _, name := range []string{"task.json", "service.json", "services.answer.json", "plan.json", "template.yaml", "template.json"} {
		f.Add(string(content(f, name)), string(content(f, "service.json")))
	}
	f.Add("Resources: {T: {Type: AWS::ECS::TaskDefinition, Properties: {ContainerDefinitions: !Ref x}}}", "{}")
	f.Add(`{"containerDefinitions": [null, {"portMappings": [null], "dependsOn": [null]}], "taskDefinition": null}`, `{"services": [null], "failures": [null]}`)
	f.Fuzz(func(t *testing.T, task, service string) {
		for _, files := range [][]File{{{"a", []byte(task)}}, {{"a", []byte(task)}, {"b", []byte(service)}}} {
			found, err := Read(Options{Namespace: "n"}, files...)
			if p, ok := errors.AsType[definition.Problems](err); err != nil && (!ok || len(p) == 0 || p[0].Text == "") {
				t.Fatalf("not a list of problems: %#v", err)
			}
			for _, d := range found {
				declared, problems := d.Check()
				for _, p := range problems {
					if p.Text == "" || p.File == "" {
						t.Fatalf("a problem that says nothing: %#v", p)
					}
				}
				if len(problems) == 0 && len(declared.Ports) > 100 {
					t.Fatal("more ports than a task may have")
				}
			}
		}
	})
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-update writes it anew):\n%s", file, d)
	}
}
