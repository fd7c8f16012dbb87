package file

import (
	"strings"
	"testing"

	"patchbay/declare"
)

var flags = []string{"xds", "agent", "join", "drain-time", "envoy-user", "concurrency", "revision"}

const good = `xds: [a:18000, b:18000]
agent: a:18001
drainTime: 5s
concurrency: 1
revision: 007
serviceConnectConfiguration:
  enabled: true
  namespace: prod
  services:
    - {portName: web, discoveryName: backend, clientAliases: [{port: 8080}]}
portMappings:
  - {name: web, containerPort: 8080, appProtocol: http}
policies:
  backend:
    retries:
      max: 1
deploymentConfiguration:
  strategy: CANARY
  canaryConfiguration: {canaryPercent: 20}
`

func TestParse(t *testing.T) {
	f, err := Parse("sidecar.yaml", []byte(good), flags)
	if err != nil {
		t.Fatal(err)
	}
	want := []Flag{{"xds", "xds", "a:18000,b:18000", 1}, {"agent", "agent", "a:18001", 2}, {"drainTime", "drain-time", "5s", 3}, {"concurrency", "concurrency", "1", 4}, {"revision", "revision", "007", 5}}
	if len(f.Flags) != len(want) {
		t.Fatalf("%+v", f.Flags)
	}
	for i := range want {
		if f.Flags[i] != want[i] {
			t.Errorf("%+v; want %+v", f.Flags[i], want[i])
		}
	}
	task, err := declare.Parse(f.Declaration)
	if n := f.Line("serviceConnectConfiguration.services[0].clientAliases[0].port"); n != 10 {
		t.Errorf("the alias stands in line %d", n)
	}
	if n := f.Line("policies.backend.retries.max"); n != 16 {
		t.Errorf("the policy stands in line %d", n)
	}
	if n := f.Line("deploymentConfiguration.canaryConfiguration.canaryPercent"); n != 19 {
		t.Errorf("the first step stands in line %d", n)
	}
	if n := f.Line("serviceConnect"); n != 0 {
		t.Errorf("what is not there stands in line %d", n)
	}
	if err != nil || task.Ports[0].Policy == nil || *task.Ports[0].Policy.Retries.Max != 1 || *task.Ports[0].Policy.Deployment.Canary.Percent != 20 || !task.Enabled || len(task.Ports) != 1 || task.Ports[0].DiscoveryName != "backend" || task.Ports[0].ContainerPort != 8080 {
		t.Errorf("%s: %+v, %v", f.Declaration, task, err)
	}
}

// TestEverythingAtOnce lists all problems, each at its line.
func TestEverythingAtOnce(t *testing.T) {
	_, err := Parse("sidecar.yaml", []byte(`xds: {a: b}
agents: a:18001
join:
drainTime: 5s
drainTime: 6s
xds.listen: [[a]]
envoyUser: [[a]]
---
more: here
`), flags)
	if err == nil {
		t.Fatal("it is taken")
	}
	for _, want := range []string{
		"sidecar.yaml:1: xds: has no value; allowed", "sidecar.yaml:2: agents: is not a key here (did you mean agent?); allowed: agent, concurrency, deploymentConfiguration, drainTime, envoyUser, join, policies, portMappings, revision, serviceConnectConfiguration, xds",
		"sidecar.yaml:3: join: has no value", "sidecar.yaml:5: drainTime: stands in line 4 already", "sidecar.yaml:6: xds.listen: is not a key here", "sidecar.yaml:7: envoyUser: allowed: a list of plain values", "a second document; allowed: one",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("nothing says %q:\n%v", want, err)
		}
	}
	for text, want := range map[string]string{"": "is empty", "- a": "is no mapping", "a: [": "yaml"} {
		if _, err := Parse("f", []byte(text), flags); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(good)
	f.Add("a: &a [*a]")
	f.Fuzz(func(_ *testing.T, text string) {
		got, err := Parse("f", []byte(text), flags)
		if err == nil && got.Declaration != nil {
			_, _ = declare.Parse(got.Declaration)
		}
	})
}
