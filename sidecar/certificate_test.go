package sidecar

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"patchbay/agentapi"
	"patchbay/declare"
	"patchbay/internal/envoytest"
	"patchbay/internal/testca"
	"patchbay/mesh"
	"patchbay/xds"
	"patchbay/xds/bootstrap"
	"patchbay/xds/delta"
)

// control is the xDS server of a control plane; it returns its port.
func control(t *testing.T, store *mesh.Store) uint16 {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	pusher := xds.NewPusher(store, delta.NewCache(nil), nil, log)
	server := xds.NewServer(pusher, xds.ServerConfig{Log: log})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { pusher.Run(ctx) })
	running.Go(func() { server.Run(ctx, lis) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return uint16(lis.Addr().(*net.TCPAddr).Port)
}

// A real Envoy opens the port's listener although its certificate is not there,
// and resets whoever connects. The port is healthy from its certificate on, and
// not before: at that moment a handshake succeeds.
func TestAPortIsHealthyOnlyWithItsCertificate(t *testing.T) {
	app, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ingress := uint16(free.Addr().(*net.TCPAddr).Port)
	free.Close()
	port := declare.Port{
		PortName: "web", DiscoveryName: "api", Protocol: mesh.TCP, TLS: &mesh.ServiceTLS{Issuer: "default"},
		ContainerPort: uint16(app.Addr().(*net.TCPAddr).Port), IngressPort: ingress,
	}
	a, socket := newQuietAgent(t, func(c *Config) { c.Declaration.Ports = []declare.Port{port} })

	store := mesh.NewStore()
	name := mesh.ServiceName{Namespace: "prod", DiscoveryName: "api"}
	store.SetServices("prod", []*mesh.Service{{Name: name, Protocol: mesh.TCP, TLS: &mesh.ServiceTLS{Issuer: "default"}}})
	b, err := bootstrap.Config{
		NodeID: "prod/api/1", NodeCluster: "prod/api", AdminSocket: socket, XDS: []bootstrap.HostPort{{Host: "127.0.0.1", Port: control(t, store)}},
		Meta: bootstrap.NodeMeta{Version: "test", Wiring: mesh.Bind, Ports: []bootstrap.Port{{
			PortName: "web", DiscoveryName: "api", Protocol: mesh.TCP, AppPort: port.ContainerPort, ListenerPort: ingress, TLS: &bootstrap.PortTLS{Issuer: "default"},
		}}},
	}.JSON()
	if err != nil {
		t.Fatal(err)
	}
	envoytest.Start(t, b, socket, "").Ready(t)
	look := func() (agentapi.Health_State, string) {
		a.turn(t)
		return a.st.health.GetPorts()["web"], a.st.health.GetWhy()["web"]
	}
	handshake := func() error {
		c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ingress), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // whose it is does not matter here
		if err != nil {
			return err
		}
		return c.Close()
	}

	envoytest.Eventually(t, 10*time.Second, func() error {
		if open, err := a.admin.Listeners(t.Context()); err != nil || !open["ingress-web"] {
			return fmt.Errorf("listeners: %v, %w", open, err)
		}
		return nil
	})
	if err := handshake(); err == nil {
		t.Fatal("a handshake without a certificate")
	}
	if state, why := look(); state != agentapi.Health_UNHEALTHY || !strings.Contains(why, "waits for its certificate") {
		t.Fatalf("open and without a certificate: %s, %q", state, why)
	}
	chain, key := testca.New(t).Issue(t, name.String())
	store.SetLeaf(&mesh.Leaf{Service: name, Issuer: "default", Serial: "1", ChainPEM: chain, KeyPEM: key})
	envoytest.Eventually(t, 10*time.Second, func() error {
		if state, why := look(); state != agentapi.Health_HEALTHY {
			return fmt.Errorf("%s: %s", state, why)
		}
		return nil
	})
	if err := handshake(); err != nil {
		t.Errorf("healthy, but a handshake fails: %v", err)
	}
}

// What was once seen is not asked for again, until the listener is another one.
func TestEnvoyIsAskedForACertificateUntilItHasIt(t *testing.T) {
	app, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	a, envoy := newAgent(t, func(c *Config) {
		c.Declaration.Ports = []declare.Port{{PortName: "web", DiscoveryName: "api", TLS: &mesh.ServiceTLS{Issuer: "default"}, ContainerPort: uint16(app.Addr().(*net.TCPAddr).Port), IngressPort: 15010}}
	})
	step := func(want agentapi.Health_State, asked int, change func(*fakeAdmin)) {
		t.Helper()
		envoy.set(change)
		a.turn(t)
		if got := a.st.health.GetPorts()["web"]; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		envoy.set(func(f *fakeAdmin) {
			if f.asked != asked {
				t.Error(errors.New("asked for secrets"), f.asked, "times, want", asked)
			}
		})
	}
	step(agentapi.Health_UNHEALTHY, 0, func(*fakeAdmin) {})
	step(agentapi.Health_UNHEALTHY, 1, func(f *fakeAdmin) {
		f.listeners = []string{"ingress-web"}
		f.secrets = []string{"leaf/ap.prod", "bundle/default"}
	})
	step(agentapi.Health_HEALTHY, 2, func(f *fakeAdmin) { f.secrets = []string{"leaf/api.prod"} })
	step(agentapi.Health_HEALTHY, 2, func(f *fakeAdmin) { f.secrets = nil })
	step(agentapi.Health_UNHEALTHY, 2, func(f *fakeAdmin) { f.listeners = nil })
	step(agentapi.Health_UNHEALTHY, 3, func(f *fakeAdmin) { f.listeners = []string{"ingress-web"} })
}
