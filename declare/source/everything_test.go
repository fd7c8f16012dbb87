package source

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/google/go-cmp/cmp"

	"patchbay/declare/tree"
)

// TestEverything: an answer of describe-services, a plan with dynamic blocks
// resolved and a template, each with all that there is, are accepted unchanged
// and mean the same.
func TestEverything(t *testing.T) {
	var first any
	var service *tree.Object
	for _, names := range [][]string{{"task.json", "services.json"}, {"plan.json"}, {"template.json"}} {
		for i := range names {
			names[i] = filepath.Join("everything", names[i])
		}
		found, problems := ours(t, Options{}, names...)
		if len(problems) > 0 || len(found) != 1 {
			t.Fatalf("%s: %d definitions, %v", names, len(found), problems)
		}
		task, wrong := found[0].Declare()
		if len(wrong) > 0 {
			t.Fatalf("%s: %v", names, wrong)
		}
		declared := decoded(t, tree.Line(found[0].Declaration()))
		if first == nil {
			first, service = declared, found[0].Service
			if len(task.Ports) != 2 || task.Ports[0].Policy.Deployment.Strategy != "CANARY" || task.AccessLog == nil {
				t.Errorf("%+v", task)
			}
			continue
		}
		if d := cmp.Diff(first, declared); d != "" {
			t.Errorf("%s declares something else:\n%s", names, d)
		}
		// What create-service takes is the same, but for what Terraform's
		// provider does not have yet.
		mine := found[0].Service
		for _, key := range []string{"deploymentConfiguration", "networkConfiguration", "loadBalancers", "serviceRegistries", "capacityProviderStrategy", "volumeConfigurations",
			"vpcLatticeConfigurations", "desiredCount", "platformVersion", "healthCheckGracePeriodSeconds", "schedulingStrategy", "deploymentController", "tags", "propagateTags",
			"enableECSManagedTags", "enableExecuteCommand", "availabilityZoneRebalancing", "serviceName"} {
			want := service.Get(key)
			if want == nil {
				want = service.Objects("deployments")[0].Get(key)
			}
			a, b := decoded(t, tree.Line(want)), decoded(t, tree.Line(mine.Get(key)))
			if key == "deploymentConfiguration" && found[0].TaskKey != "Task" {
				a = lacking(a.(map[string]any), "earlySuccessCriteria", "lifecycleHooks", "deploymentCircuitBreaker")
				b = lacking(b.(map[string]any), "lifecycleHooks", "deploymentCircuitBreaker")
			}
			if d := cmp.Diff(a, b); d != "" {
				t.Errorf("%s: %s is another:\n%s", names, key, d)
			}
		}
	}
}

// TestEverythingIsEverything: the answer has each member that the API knows.
func TestEverythingIsEverything(t *testing.T) {
	doc := decoded(t, content(t, filepath.Join("everything", "services.json"))).(map[string]any)
	service := doc["services"].([]any)[0].(map[string]any)
	deployment := service["deployments"].([]any)[0].(map[string]any)
	configuration := service["deploymentConfiguration"].(map[string]any)
	for _, x := range []struct {
		has  map[string]any
		of   reflect.Type
		less string
	}{
		{service, reflect.TypeFor[types.Service](), "launchType"}, // or capacityProviderStrategy
		{deployment, reflect.TypeFor[types.Deployment](), "launchType"},
		{configuration, reflect.TypeFor[types.DeploymentConfiguration](), "linearConfiguration"}, // or the canary
		{configuration["deploymentCircuitBreaker"].(map[string]any), reflect.TypeFor[types.DeploymentCircuitBreaker](), ""},
		{configuration["lifecycleHooks"].([]any)[0].(map[string]any), reflect.TypeFor[types.DeploymentLifecycleHook](), ""},
		{configuration["canaryConfiguration"].(map[string]any), reflect.TypeFor[types.CanaryConfiguration](), ""},
	} {
		for f := range x.of.Fields() {
			key := strings.ToLower(f.Name[:1]) + f.Name[1:]
			if f.IsExported() && x.has[key] == nil && key != x.less {
				t.Errorf("%s lacks %s", x.of.Name(), key)
			}
		}
	}
}

func decoded(t *testing.T, text []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

func lacking(m map[string]any, keys ...string) map[string]any {
	for _, k := range keys {
		delete(m, k)
	}
	return m
}
