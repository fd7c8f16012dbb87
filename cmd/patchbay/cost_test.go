package main

import (
	"encoding/json"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"patchbay/agentapi"
	"patchbay/discovery/cost"
)

// TestCost is the bill of a running mesh: what the control plane says of itself
// goes in, and it adds up to what the plan of the same mesh costs.
func TestCost(t *testing.T) {
	p := startPlane(t)
	backend, _ := p.join("backend", "backend")
	send(t, backend, &agentapi.Up{Message: &agentapi.Up_Hello{Hello: &agentapi.Hello{AgentVersion: "test", EnvoyVersion: "1.40.0", Wiring: "bind", Ports: []*agentapi.Port{{
		PortName: "web", DiscoveryName: "backend", AppProtocol: "http", ContainerPort: 8080, IngressPort: 15010,
		ClientAliases: []*agentapi.ClientAlias{{DnsName: "backend.demo", Port: 8080}},
	}}}}})
	send(t, backend, &agentapi.Up{Message: &agentapi.Up_Health{Health: &agentapi.Health{EnvoyReady: true, Ports: map[string]agentapi.Health_State{"web": agentapi.Health_HEALTHY}}}})
	if r := receive(t, backend, (*agentapi.Down).GetRegistration); !r.GetRegistered() {
		t.Fatalf("not registered: %s", r.GetError())
	}
	out := p.prints(exitDone, `(?m)^registered +0\.10 +1 instance,`, "cost")
	for _, want := range []string{`(?m)^OPERATION +CALLS A MONTH +DOLLARS +FOR$`, `(?m)^DiscoverInstances +\d+ +\d+\.\d\d `, `(?m)^all calls +\d+\.\d\d +1 service, 1 changes a minute, 1 replica$`, `Prices of 2025-08\. .*to be checked`} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("not printed: %s\n%s", want, out)
		}
	}
	var got cost.Bill
	out, code := p.command("cost", "--replicas", "3", "-o", "json")
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitDone {
		t.Fatalf("%v, exit %d:\n%s", err, code, out)
	}
	if m := got.Mesh; m.Services != 1 || m.Managed != 1 || m.Checked != 1 || m.Instances != 1 || m.Namespaces != 1 || m.Replicas != 3 {
		t.Errorf("%+v", m)
	}
	plan := got.Mesh.Month(cost.Schedule{Topology: 30 * time.Second, Settings: time.Minute})
	if math.Abs(plan.Calls-got.Calls) > 1e-9 || got.Calls < 0.05 || got.Calls > 2 { // three replicas list by themselves
		t.Errorf("one service costs $%f, planned $%f", got.Calls, plan.Calls)
	}
	if out, code := p.command("cost", "--unhinted"); code != exitUsage || !strings.Contains(out, "--services") {
		t.Errorf("exit %d: %s", code, out)
	}
}

// TestCostOnThePage: the prices of the page are those that are used.
func TestCostOnThePage(t *testing.T) {
	text, err := os.ReadFile("../../docs/reference/discovery.md")
	if err != nil {
		t.Fatal(err)
	}
	for row, calls := range map[string]float64{`| a million calls of Cloud Map, of any kind | 1.00 |`: cost.Of("ListServices"), `| a million calls of SQS | 0.40 |`: cost.Of(cost.Queue)} {
		want := strings.TrimSpace(strings.Split(row, "|")[2])
		var price float64
		if err := json.Unmarshal([]byte(want), &price); err != nil || math.Abs(price-calls*1e6) > 1e-9 || !strings.Contains(string(text), row) {
			t.Errorf("%s: %v, %v", row, calls*1e6, err)
		}
	}
}
