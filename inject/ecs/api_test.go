package ecs

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/google/go-cmp/cmp"

	"patchbay/declare/source"
	"patchbay/declare/tree"
)

// TestFieldsOfAnswers: what is taken out of answers is what the API's inputs do
// not have.
func TestFieldsOfAnswers(t *testing.T) {
	fields := func(v any) map[string]bool {
		m := map[string]bool{}
		for f := range reflect.TypeOf(v).Fields() {
			if f.IsExported() {
				m[strings.ToLower(f.Name[:1])+f.Name[1:]] = true
			}
		}
		return m
	}
	less := func(a, b map[string]bool) (out []string) {
		for k := range a {
			if !b[k] && k != "resultMetadata" {
				out = append(out, k)
			}
		}
		slices.Sort(out)
		return out
	}
	sorted := func(l []string) []string { l = slices.Clone(l); slices.Sort(l); return l }
	if d := cmp.Diff(less(fields(types.TaskDefinition{}), fields(ecs.RegisterTaskDefinitionInput{})), sorted(answerOnly)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(less(fields(types.Service{}), fields(ecs.CreateServiceInput{})), sorted(serviceAnswerOnly)); d != "" {
		t.Error(d)
	}
	update := fields(ecs.UpdateServiceInput{})
	update["serviceName"] = true // called service there
	if d := cmp.Diff(less(fields(ecs.CreateServiceInput{}), update), sorted(notUpdated)); d != "" {
		t.Error(d)
	}
}

// TestEverything: of a service with all that the API knows, everything stays
// but what concerns the mesh and what describe-services alone has.
func TestEverything(t *testing.T) {
	for _, names := range [][]string{{"task.json", "services.json"}, {"plan.json"}, {"template.json"}} {
		var files []source.File
		for _, n := range names {
			files = append(files, file(t, shared+"everything/"+n))
		}
		s := settings
		s.Join = nil
		r, _ := injected(t, s, files...)
		found, err := source.Read(source.Options{}, files...)
		if err != nil {
			t.Fatal(err)
		}
		was, is := found[0].Service, mustRead(r.Service)
		if found[0].ServiceRaw != nil {
			was, is = camel(found[0].ServiceRaw), camel(is)
		}
		for _, key := range was.Keys() {
			switch {
			case slices.Contains(serviceAnswerOnly, key), r.Update && slices.Contains(notUpdated, key), key == block, key == "loadBalancers", key == "serviceName", r.Update && key == "desiredCount":
			case key == "taskDefinition" && is.Has(key):
			case !cmp.Equal(string(tree.Line(was.Get(key))), string(tree.Line(is.Get(key)))):
				t.Errorf("%s: %s is %s, was %s", names, key, tree.Line(is.Get(key)), tree.Line(was.Get(key)))
			}
		}
		before, after := was.Objects("loadBalancers")[0], is.Objects("loadBalancers")[0]
		if string(tree.Line(before.Get("advancedConfiguration"))) != string(tree.Line(after.Get("advancedConfiguration"))) {
			t.Errorf("%s: the load balancer is %s", names, tree.Line(after))
		}
	}
}

// TestCommandLine: the AWS command line takes what is written, and sends it.
func TestCommandLine(t *testing.T) {
	var got []string
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		got = append(got, op)
		fmt.Fprint(w, "{}")
	}))
	t.Cleanup(h.Close)
	ask := func(operation string, text []byte) error {
		name := filepath.Join(t.TempDir(), "input.json")
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		c := exec.CommandContext(t.Context(), "aws", "ecs", operation, "--cli-input-json", "file://"+name, "--endpoint-url", h.URL)
		c.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b", "AWS_REGION=eu-west-1", "AWS_DEFAULT_REGION=eu-west-1", "AWS_EC2_METADATA_DISABLED=true")
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", operation, err, out)
		}
		return nil
	}
	for _, e := range examples(t) {
		if !slices.Contains([]string{"fargate", "running", "ec2", "terraform"}, e.name) {
			continue
		}
		r, _ := injected(t, e.s, e.files...)
		do := "create-service"
		if r.Update {
			do = "update-service"
		}
		if err := errors.Join(ask("register-task-definition", r.Task), ask(do, r.Service)); err != nil {
			t.Errorf("%s: %v", e.name, err)
		}
		if e.name == "fargate" && ask("register-task-definition", []byte(strings.Replace(string(r.Task), `"essential"`, `"essentials"`, 1))) == nil {
			t.Error("the command line takes anything")
		}
	}
	want := []string{"RegisterTaskDefinition", "CreateService", "RegisterTaskDefinition", "CreateService", "RegisterTaskDefinition", "UpdateService",
		"RegisterTaskDefinition", "CreateService"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
