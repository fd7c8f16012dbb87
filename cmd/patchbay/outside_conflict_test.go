package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"patchbay/config"
	"patchbay/internal/envoytest"
)

// A service of the registry that loses its alias to a target of the control
// plane's file is counted, and shown everywhere, as one that loses it to another
// service.
func TestAnAliasThatATargetHasIsAConflict(t *testing.T) {
	p := startPlane(t, func(c *config.Config) {
		c.External = []config.External{{Name: "partner", Protocol: "http", Alias: config.ExternalAlias{DNSName: "backend.demo", Port: 8080}, Addresses: []string{"127.0.0.1:9"}}}
	})
	if n := value(p.metrics()["patchbay_alias_conflicts"], map[string]string{"namespace": "demo"}); n != 0 {
		t.Errorf("%v conflicts before anybody has claimed the alias", n)
	}
	k, _ := p.join("backend", "backend")
	p.offer(k, "backend", 15001)
	envoytest.Eventually(t, 20*time.Second, func() error {
		if n := value(p.metrics()["patchbay_alias_conflicts"], map[string]string{"namespace": "demo"}); n != 1 {
			return fmt.Errorf("%v conflicts are counted", n)
		}
		return nil
	})
	if text := strings.Join(strings.Fields(string(p.get("/api/v1/namespaces"))), ""); !strings.Contains(text, `{"alias":"backend.demo","port":8080,"winner":"partner.demo","loser":"backend.demo"}`) {
		t.Errorf("namespaces: %s", text)
	}
	p.prints(exitProblems, `PB1101 two services claim one alias: .*backend\.demo`, "status")
}
