package main

import (
	"fmt"
	"os"
	"testing"
	"time"

	"patchbay/agentapi"
	"patchbay/config"
	"patchbay/identity"
	"patchbay/internal/envoytest"
)

// heard is how many other replicas a control plane hears.
func (p *plane) heard() float64 {
	for _, m := range p.metrics()["patchbay_replicas"].GetMetric() {
		if m.GetLabel()[0].GetValue() == "true" {
			return m.GetGauge().GetValue()
		}
	}
	return 0
}

// endpoints is how many a control plane shows of all services.
func (p *plane) endpoints() float64 {
	var n float64
	for _, m := range p.metrics()["patchbay_endpoints"].GetMetric() {
		n += m.GetGauge().GetValue()
	}
	return n
}

// Two control planes over one registry without a watch, as with AWS: what is
// registered through one is known to the other, and what leaves through one
// leaves the other at once, though it was the last instance.
func TestTwoReplicasAreOneMesh(t *testing.T) {
	r := startRegistry(t, "--listen", "127.0.0.1:0")
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		t.Setenv(name, "anything-at-all")
	}
	shared := t.TempDir()
	if _, err := identity.OpenSigner(shared, testDomain); err != nil {
		t.Fatal(err)
	}
	replica := func(c *config.Config) {
		c.Registry, c.CloudMap = nil, &config.CloudMap{Endpoint: r.url, Region: "us-east-1"}
		c.Replicas = &config.Replicas{Listen: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
		if err := os.CopyFS(identity.ControlDir(c.Data), os.DirFS(shared)); err != nil {
			t.Fatal(err)
		}
	}
	a, b := startPlane(t, replica), startPlane(t, replica)
	stranger := startPlane(t, func(c *config.Config) { // with a CA of its own
		replica(c)
		if err := os.RemoveAll(identity.ControlDir(c.Data)); err != nil {
			t.Fatal(err)
		}
	})
	both := func(what string, ok func(p *plane) bool) {
		t.Helper()
		envoytest.Eventually(t, 10*time.Second, func() error {
			if !ok(a) || !ok(b) {
				return fmt.Errorf("%s: a hears %v and has %v, b hears %v and has %v", what, a.heard(), a.endpoints(), b.heard(), b.endpoints())
			}
			return nil
		})
	}
	both("they hear each other", func(p *plane) bool { return p.heard() == 1 })
	k, _ := a.join("backend", "backend")
	a.offer(k, "backend", 15001)
	both("registered through a", func(p *plane) bool { return p.endpoints() == 1 })
	send(t, k, &agentapi.Up{Message: &agentapi.Up_Drain{Drain: &agentapi.Drain{}}})
	receive(t, k, (*agentapi.Down).GetDrainComplete)
	both("drained through a", func(p *plane) bool { return p.endpoints() == 0 })
	if n := stranger.heard(); n != 0 {
		t.Errorf("a control plane of another CA hears %v", n)
	}
	b.end()
	envoytest.Eventually(t, 10*time.Second, func() error {
		if n := a.heard(); n != 0 {
			return fmt.Errorf("a hears %v", n)
		}
		return nil
	})
	other, _ := a.join("other", "other")
	a.offer(other, "other", 15002)
}
