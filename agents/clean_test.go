package agents

import (
	"slices"
	"strings"
	"testing"
	"unicode"

	"patchbay/agentapi"
	"patchbay/mesh"
)

// TestTextsOfAgentsAreText: nothing that a terminal obeys, nothing without end,
// and nothing of ports that the task does not have.
func TestTextsOfAgentsAreText(t *testing.T) {
	evil := "1.0\x1b]0;owned\x07\x00\u202e\n" + strings.Repeat("x", 9000)
	h := &agentapi.Hello{AgentVersion: evil, EnvoyVersion: evil}
	cleanHello(h)
	s := &session{ports: []*port{{Port: Port{Ingress: mesh.Ingress{PortName: "web"}}}}}
	health := &agentapi.Health{EnvoyError: evil, Why: map[string]string{"web": evil, evil: evil}, Ports: map[string]agentapi.Health_State{"web": 77, evil: 1}}
	s.cleanHealth(health)
	n := &agentapi.NamesApplied{Version: evil, Refused: []string{evil}, Waiting: slices.Repeat([]string{evil}, 2*namesMost)}
	cleanNames(n)
	if len(n.GetWaiting()) != namesMost || len(health.GetWhy()) != 1 || len(health.GetPorts()) != 1 || health.GetPorts()["web"] != agentapi.Health_UNKNOWN {
		t.Errorf("%d waiting, %v, %v", len(n.GetWaiting()), len(health.GetWhy()), health.GetPorts())
	}
	for _, text := range []string{h.GetAgentVersion(), h.GetEnvoyVersion(), health.GetEnvoyError(), health.GetWhy()["web"], n.GetVersion(), n.GetRefused()[0], n.GetWaiting()[0]} {
		if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) || len(text) > textMost+20 || !strings.HasPrefix(text, "1.0\uFFFD]0;owned") {
			t.Errorf("%.60q… of %d bytes", text, len(text))
		}
	}
}
