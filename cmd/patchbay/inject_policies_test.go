package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"patchbay/cmd/patchbay/tasks"
	"patchbay/internal/envoytest"
)

// TestPoliciesOnECSAndEC2: what stands beside the block in service.json, and in
// sidecar.yaml, holds for the callers of the real sidecars.
func TestPoliciesOnECSAndEC2(t *testing.T) {
	t.Parallel()
	p := startPlane(t)
	_, app := listen(t, "hello")
	front := p.sidecar(p.joinDir("frontend"), "f1", clientOnly)
	front.until(serving)
	ecsAlias, ec2Alias := uint16(freePort(t)), uint16(freePort(t))
	p.sidecar(p.joinDir("backend", "backend"), "b1", injectedDeclaration(t, app, uint16(freePort(t)), ecsAlias)).until(serving)

	file := filepath.Join(t.TempDir(), "sidecar.yaml")
	text := fmt.Sprintf(`join: %s
task: m1
revision: 7
deploymentConfiguration: {strategy: BLUE_GREEN}
serviceConnectConfiguration:
  enabled: true
  namespace: demo
  services:
    - {portName: web, discoveryName: machine, ingressPortOverride: %d, clientAliases: [{port: %d}]}
portMappings:
  - {name: web, containerPort: %d, appProtocol: http}
policies:
  machine: {fault: {abort: {status: 418, percent: 100}}}
`, p.joinDir("machine", "machine"), freePort(t), ec2Alias, app)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Unsetenv(tasks.DeclarationVar); err != nil { // set back when the test ends
		t.Fatal(err)
	}
	p.agent("m1", "--config", file).until(serving)
	front.aborted("backend.demo", ecsAlias)
	front.aborted("machine.demo", ec2Alias)
	// Its revision holds production, as the strategy says.
	p.prints(exitDone, `machine\.demo: 7 100 %`, "shift", "machine.demo", "--status")
}

// aborted waits until a call is answered as the policies say.
func (m *member) aborted(name string, port uint16) {
	m.t.Helper()
	envoytest.Eventually(m.t, 30*time.Second, func() error {
		_, err := m.get(name, port)
		if err == nil || !strings.Contains(err.Error(), "418") {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

// injectedDeclaration is what the sidecar of a task definition gets that
// `patchbay inject ecs` made.
func injectedDeclaration(t *testing.T, app, ingress, alias uint16) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"task.json": fmt.Sprintf(`{"family": "backend", "networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"], "cpu": "256", "memory": "512",
			"taskRoleArn": "arn:aws:iam::111122223333:role/backend",
			"containerDefinitions": [{"name": "app", "image": "backend:1", "portMappings": [{"name": "web", "containerPort": %d, "appProtocol": "http"}]}]}`, app),
		"service.json": fmt.Sprintf(`{"serviceName": "backend", "taskDefinition": "backend", "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
			"serviceConnectConfiguration": {"enabled": true, "namespace": "demo", "services": [{"portName": "web", "discoveryName": "backend",
				"ingressPortOverride": %d, "clientAliases": [{"port": %d}]}]},
			"policies": {"backend": {"fault": {"abort": {"status": 418, "percent": 100}}}}}`, ingress, alias),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if code, out := command(t, "inject", "ecs", filepath.Join(dir, "task.json"), filepath.Join(dir, "service.json"), "-o", dir, "--xds", "patchbay:18000", "--agent", "patchbay:18001"); code != exitDone {
		t.Fatalf("%d %s", code, out)
	}
	service, err := os.ReadFile(filepath.Join(dir, "backend.service.json"))
	if err != nil || strings.Contains(string(service), "policies") {
		t.Errorf("ECS gets the policies (%v):\n%s", err, service)
	}
	var made struct {
		ContainerDefinitions []struct {
			Environment []struct{ Name, Value string }
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "backend.task-definition.json"))
	if err == nil {
		err = json.Unmarshal(text, &made)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range made.ContainerDefinitions {
		for _, e := range c.Environment {
			if e.Name == tasks.DeclarationVar {
				return e.Value
			}
		}
	}
	t.Fatalf("no declaration:\n%s", text)
	return ""
}

// TestSidecarFileSaysAllAtOnce: unknown keys, wrong values of flags and of the
// declaration, each with its line.
func TestSidecarFileSaysAllAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sidecar.yaml")
	if err := os.WriteFile(file, []byte(`xds: [patchbay.internal]
agents: a:18001
drainTime: soon
serviceConnectConfiguration: {enabled: true, services: [{portName: web}]}
portMappings:
  - {name: web, containerPort: 80, appProtocol: https}
policies:
  web: {retries: {max: 99}}
revision: a b
deploymentConfiguration:
  strategy: SLOW
`), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out := command(t, "sidecar", "--config", file, "--state", t.TempDir(), "--join", t.TempDir())
	for _, want := range []string{
		`xds: "patchbay.internal"; allowed: HOST:PORT`, ":2: agents: is not a key here (did you mean agent?)", ":3: drainTime: ",
		`:6: portMappings[0].appProtocol: "https"; allowed: http, http2, grpc`, ":8: policies.web.retries.max: 99; allowed: 0 to 10",
		`:9: revision: "a b"; allowed: up to 64 of [0-9a-zA-Z_.-]`, `:11: deploymentConfiguration.strategy: "SLOW"; allowed: ROLLING, BLUE_GREEN, CANARY, LINEAR`,
	} {
		if code != exitUsage || !strings.Contains(out, want) {
			t.Errorf("%d, and not said: %s\n%s", code, want, out)
		}
	}
}
