package declare

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/google/go-cmp/cmp"
)

// everything is a block with each field of ECS's API.
const everything = `{
  "enabled": true, "namespace": "prod",
  "services": [{
    "portName": "web", "discoveryName": "orders", "ingressPortOverride": 15999,
    "clientAliases": [{"port": 80, "dnsName": "orders", "testTrafficRules": {"header": {"name": "x-test", "value": {"exact": "green"}}}}],
    "timeout": {"idleTimeoutSeconds": 600, "perRequestTimeoutSeconds": 30},
    "tls": {"issuerCertificateAuthority": {"awsPcaAuthorityArn": "default"}, "kmsKey": "alias/orders", "roleArn": "arn:aws:iam::111122223333:role/orders"}
  }],
  "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "mesh"}, "secretOptions": [{"name": "n", "valueFrom": "arn"}]},
  "accessLogConfiguration": {"format": "JSON", "includeQueryParameters": "ENABLED"},
  "containerConfigurations": [{"logLevel": "debug"}]
}`

// others is another value for each field.
var others = map[string]string{
	"enabled": `false`, "namespace": `"dev"`, "services.portName": `"rpc"`, "services.discoveryName": `"other"`, "services.ingressPortOverride": `16000`,
	"services.clientAliases.port": `81`, "services.clientAliases.dnsName": `"other"`, "services.clientAliases.testTrafficRules.header.name": `"x-other"`,
	"services.clientAliases.testTrafficRules.header.value.exact": `"blue"`, "services.timeout.idleTimeoutSeconds": `0`, "services.timeout.perRequestTimeoutSeconds": `0`,
	"services.tls.issuerCertificateAuthority.awsPcaAuthorityArn": `"other"`, "services.tls.kmsKey": `"alias/other"`,
	"accessLogConfiguration.format": `"TEXT"`, "accessLogConfiguration.includeQueryParameters": `"DISABLED"`, "containerConfigurations.logLevel": `"info"`,
	"logConfiguration.logDriver": `"splunk"`, "logConfiguration.options": `{}`, "logConfiguration.secretOptions.name": `"m"`, "logConfiguration.secretOptions.valueFrom": `"other"`,
	"services.tls.roleArn": `"arn:aws:iam::111122223333:role/other"`,
}

// without are those that have no effect in a task: docs/reference/declaration.md
// says so. inject gives the sidecar's container this log configuration.
var without = []string{
	"logConfiguration.logDriver", "logConfiguration.options", "logConfiguration.secretOptions.name", "logConfiguration.secretOptions.valueFrom", "services.tls.roleArn",
}

// TestEveryFieldOfTheAPI: each field of the newest API is read, and has an
// effect unless the reference says that it has none.
func TestEveryFieldOfTheAPI(t *testing.T) {
	var all []string
	leaves(reflect.TypeFor[types.ServiceConnectConfiguration](), "", &all)
	base := parsed(t, everything)
	for _, path := range all {
		other, known := others[path]
		if !known {
			t.Errorf("%s is in the API and not in this test", path)
			continue
		}
		if got := parsed(t, replaced(t, path, other)); slices.Contains(without, path) != cmp.Equal(base, got) {
			t.Errorf("%s: with %q the task is %+v", path, other, got)
		}
	}
	if len(all) != len(others) {
		t.Errorf("%d fields, want %d: %v", len(all), len(others), all)
	}
}

// leaves are the fields of a type of the API, in its JSON's words.
func leaves(of reflect.Type, at string, into *[]string) {
	switch of.Kind() {
	case reflect.Pointer, reflect.Slice:
		leaves(of.Elem(), at, into)
	case reflect.Struct:
		for f := range of.Fields() {
			if f.IsExported() {
				leaves(f.Type, strings.TrimPrefix(at+"."+strings.ToLower(f.Name[:1])+f.Name[1:], "."), into)
			}
		}
	case reflect.Interface: // a union: these are its members
		*into = append(*into, at+".logLevel")
		var _ types.ServiceConnectContainerConfiguration = &types.ServiceConnectContainerConfigurationMemberLogLevel{}
	default:
		*into = append(*into, at)
	}
}

func parsed(t *testing.T, block string) Task {
	t.Helper()
	task, err := Parse([]byte(`{"serviceConnectConfiguration": ` + block + `, "portMappings": [{"name": "web", "containerPort": 8080, "appProtocol": "http"}, {"name": "rpc", "containerPort": 9090, "appProtocol": "grpc"}]}`))
	if err != nil {
		t.Fatalf("%v\n%s", err, block)
	}
	return task
}

// replaced is everything with another value at a path.
func replaced(t *testing.T, path, other string) string {
	t.Helper()
	var doc any
	if err := json.Unmarshal([]byte(everything), &doc); err != nil {
		t.Fatal(err)
	}
	keys := strings.Split(path, ".")
	for at := doc; ; {
		if list, is := at.([]any); is {
			at = list[0]
		}
		object := at.(map[string]any)
		if object[keys[0]] == nil {
			t.Fatalf("%s is not in the block with everything", path)
		}
		if len(keys) == 1 {
			object[keys[0]] = json.RawMessage(other)
			break
		}
		at, keys = object[keys[0]], keys[1:]
	}
	b, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
