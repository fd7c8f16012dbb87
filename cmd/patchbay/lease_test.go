package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"

	"patchbay/agentapi"
	"patchbay/config"
	"patchbay/internal/envoytest"
)

// offer registers one port of a task that has no Envoy.
func (p *plane) offer(k *task, name string, ingress uint32) {
	p.t.Helper()
	send(p.t, k, &agentapi.Up{Message: &agentapi.Up_Hello{Hello: &agentapi.Hello{AgentVersion: "test", EnvoyVersion: "1.40.0", Wiring: "bind", Ports: []*agentapi.Port{{
		PortName: "web", DiscoveryName: name, AppProtocol: "http", ContainerPort: 8080, IngressPort: ingress,
		ClientAliases: []*agentapi.ClientAlias{{DnsName: name + ".demo", Port: 8080}},
	}}}}})
	p.beat(k)
	if r := receive(p.t, k, (*agentapi.Down).GetRegistration); !r.GetRegistered() {
		p.t.Fatalf("%s is not registered: %s", name, r.GetError())
	}
}

// beat is an agent's sign of life.
func (p *plane) beat(k *task) {
	p.t.Helper()
	send(p.t, k, &agentapi.Up{Message: &agentapi.Up_Health{Health: &agentapi.Health{EnvoyReady: true, Ports: map[string]agentapi.Health_State{"web": agentapi.Health_HEALTHY}}}})
}

// A task that dies without a word is UNHEALTHY after one lease and gone after
// two; one whose stream lives stays. The registry is one for other machines,
// embedded or a process of its own: the control plane signs its calls.
func TestADeadTaskGoesByItsLease(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys.yaml")
	if err := os.WriteFile(keys, []byte(keysFile), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("embedded", func(t *testing.T) {
		p := startPlane(t, func(c *config.Config) {
			c.Registry.Listen = strings.Replace(c.Registry.Listen, "127.0.0.1", "0.0.0.0", 1)
			c.Registry.KeysFile, c.Registry.Lease = keys, time.Second
		})
		p.deadTaskGoes("http://" + strings.Replace(p.cfg.Registry.Listen, "0.0.0.0", "127.0.0.1", 1))
	})
	t.Run("apart", func(t *testing.T) {
		r := startRegistry(t, "--listen", "0.0.0.0:0", "--keys", keys)
		t.Setenv("AWS_ACCESS_KEY_ID", "control")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "a-secret-of-the-control-plane")
		p := startPlane(t, func(c *config.Config) {
			c.Registry, c.CloudMap = nil, &config.CloudMap{Endpoint: r.url, Lease: time.Second}
		})
		p.deadTaskGoes(r.url)
	})
}

func (p *plane) deadTaskGoes(registry string) {
	t := p.t
	t.Helper()
	c := (&process{url: registry}).sdk("dashboard", "a-secret-of-the-dashboard")
	health := func(name string) (types.HealthStatus, error) {
		out, err := c.DiscoverInstances(t.Context(), &sd.DiscoverInstancesInput{NamespaceName: aws.String("demo"), ServiceName: &name})
		if err != nil || len(out.Instances) != 1 {
			return "", err
		}
		return out.Instances[0].HealthStatus, nil
	}
	alive, _ := p.join("alive", "alive")
	p.offer(alive, "alive", 15001)
	dead, _ := p.join("dead", "dead")
	p.offer(dead, "dead", 15002)
	if h, err := health("dead"); h != types.HealthStatusHealthy {
		t.Fatalf("registered as %q, %v", h, err)
	}
	if err := dead.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []types.HealthStatus{types.HealthStatusUnhealthy, ""} {
		envoytest.Eventually(t, 10*time.Second, func() error {
			p.beat(alive)
			if h, err := health("dead"); err != nil || h != want {
				return errors.Join(err, fmt.Errorf("the dead task is %q, not %q", h, want))
			}
			return nil
		})
		if h, err := health("alive"); h != types.HealthStatusHealthy {
			t.Errorf("the living task is %q, %v", h, err)
		}
	}
}
