package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"patchbay/agentapi"
	"patchbay/config"
	"patchbay/controlplane/answers"
	"patchbay/internal/awsfake/pca"
	"patchbay/internal/awsfake/secrets"
	"patchbay/internal/awsfake/wire"
	"patchbay/internal/envoytest"
	"patchbay/mesh"
	"patchbay/xds/bootstrap"
)

// TestRootRollover replaces the private CA of a service under load, through two
// real Envoys: the next CA is trusted too, signs, and the first is dropped from
// the file; the control plane is restarted for each. No request fails.
func TestRootRollover(t *testing.T) {
	ca := pca.New(pca.Options{Polls: 1})
	first, err := ca.Make(pca.Spec{KeyAlgorithm: "EC_secp384r1", SigningAlgorithm: "SHA512WITHECDSA", Name: "first"})
	if err != nil {
		t.Fatal(err)
	}
	second, err := ca.Make(pca.Spec{Name: "second"})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(wire.New(wire.Options{Unlimited: true}, ca.API(), secrets.New(secrets.Options{}).API()))
	t.Cleanup(h.Close)
	for name, v := range map[string]string{"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"} {
		t.Setenv(name, v)
	}
	issuer := func(c *config.Config, arn string, also ...string) {
		c.Issuers = map[string]config.Issuer{"default": {PrivateCA: &config.PrivateCA{ARN: arn, Endpoint: h.URL, AlsoTrust: also}}}
	}
	p := startPlane(t, func(c *config.Config) {
		issuer(c, first)
		c.Registry.Lease = time.Hour // the agents here are tests, and don't come back
	})
	url, ingress := p.encryptedPair()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(append(ca.Certificate(first), ca.Certificate(second)...))
	sessions := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: "backend.demo", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	load := startLoad(
		target{&http.Client{}, url}, target{&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, url},
		// A connection each, resumed where the server's Envoy can.
		target{&http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: sessions}}, "https://" + ingress + "/"},
	)
	defer load.stop()
	again := func(arn string, also ...string) {
		p.end()
		issuer(&p.cfg, arn, also...)
		p.serve(slog.New(slog.DiscardHandler))
	}
	until := func(what string, ok func(answers.Issuer) bool) {
		t.Helper()
		envoytest.Eventually(t, 60*time.Second, func() error {
			var a answers.Certificates
			_, body := p.ask("/api/v1/certificates")
			if err := json.Unmarshal(body, &a); err != nil || len(a.Issuers) != 1 || !ok(a.Issuers[0]) {
				return fmt.Errorf("%s: %s, %v", what, body, err)
			}
			return nil
		})
	}
	again(first, second)
	until("announced", func(i answers.Issuer) bool { return i.Phase == "announced" && i.Roots == 2 && len(i.Unacked) == 0 })
	p.connected(2)
	again(second, first)
	until("still announced", func(i answers.Issuer) bool { return i.Phase == "announced" && len(i.Unacked) == 0 })
	p.connected(2)
	p.rotate("backend.demo") // waits for the lead of the new root by itself
	until("switched", func(i answers.Issuer) bool { return i.Older == 0 && i.Phase == "steady" })
	envoytest.Eventually(t, 20*time.Second, func() error {
		conn, err := tls.Dial("tcp", ingress, &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: "backend.demo"})
		if err != nil {
			return err
		}
		defer conn.Close()
		if got := conn.ConnectionState().PeerCertificates[0].Issuer.CommonName; got != "second" {
			return fmt.Errorf("the server's certificate is of %s", got)
		}
		return nil
	})
	p.caller("new", url) // a full handshake between two Envoys
	load.more(500)
	if n := ca.Issued(second); n == 0 {
		t.Error("the second CA has signed nothing")
	}
	again(second)
	until("retiring", func(i answers.Issuer) bool { return i.Phase == "retiring" && i.Roots == 2 })
	p.connected(3)
	p.caller("newer", url)
	load.more(500)
	load.stop()
	if load.failed.Load() > 0 || load.done.Load() < 2000 {
		t.Errorf("%d of %d requests failed: %v", load.failed.Load(), load.done.Load(), load.last.Load())
	}
	t.Logf("%d requests, %d failed", load.done.Load(), load.failed.Load())
}

// connected waits until n Envoys are connected and have accepted all.
func (p *plane) connected(n int) {
	p.t.Helper()
	envoytest.Eventually(p.t, 40*time.Second, func() error {
		_, body := p.ask("/api/v1/sidecars")
		var all []map[string]any
		if err := json.Unmarshal(body, &all); err != nil || len(all) != n {
			return fmt.Errorf("%d Envoys, %v: %s", len(all), err, body)
		}
		return nil
	})
}

// encryptedPair is a service with TLS and its caller, two real Envoys: the
// caller's address of it, and its ingress.
func (p *plane) encryptedPair() (url, ingressAddr string) {
	t := p.t
	t.Helper()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })) //nolint:errcheck // test
	t.Cleanup(app.Close)
	appPort, ingress := uint16(app.Listener.Addr().(*net.TCPAddr).Port), uint16(freePort(t))
	backend, _ := p.join("backend", "backend")
	send(t, backend, &agentapi.Up{Message: &agentapi.Up_Hello{Hello: &agentapi.Hello{AgentVersion: "test", EnvoyVersion: "1.40.0", Wiring: "bind", Ports: []*agentapi.Port{{
		PortName: "web", DiscoveryName: "backend", AppProtocol: "http", ContainerPort: uint32(appPort), IngressPort: uint32(ingress),
		ClientAliases: []*agentapi.ClientAlias{{DnsName: "backend.demo", Port: uint32(appPort)}}, Tls: &agentapi.Tls{Issuer: "default"},
	}}, ContainerPorts: []uint32{uint32(appPort)}}}})
	p.start(backend, bootstrap.NodeMeta{Version: "test", Wiring: mesh.Bind, ContainerPorts: []uint16{appPort}, Ports: []bootstrap.Port{{
		PortName: "web", DiscoveryName: "backend", Protocol: mesh.HTTP, AppPort: appPort, ListenerPort: ingress, TLS: &bootstrap.PortTLS{Issuer: "default"},
	}}})
	send(t, backend, &agentapi.Up{Message: &agentapi.Up_Health{Health: &agentapi.Health{EnvoyReady: true, Ports: map[string]agentapi.Health_State{"web": agentapi.Health_HEALTHY}}}})
	if r := receive(t, backend, (*agentapi.Down).GetRegistration); !r.GetRegistered() {
		t.Fatalf("not registered: %s", r.GetError())
	}
	frontend, _ := p.join("frontend")
	send(t, frontend, &agentapi.Up{Message: &agentapi.Up_Hello{Hello: &agentapi.Hello{AgentVersion: "test", EnvoyVersion: "1.40.0", Wiring: "bind"}}})
	names := receive(t, frontend, (*agentapi.Down).GetNames)
	for len(names.GetNames()) == 0 {
		names = receive(t, frontend, (*agentapi.Down).GetNames)
	}
	p.start(frontend, bootstrap.NodeMeta{Version: "test", Wiring: mesh.Bind})
	url = fmt.Sprintf("http://%s:%d/", names.GetNames()[0].GetVip(), appPort)
	envoytest.Eventually(t, 20*time.Second, func() error { return get(http.DefaultClient, url) })
	return url, fmt.Sprintf("127.0.0.1:%d", ingress)
}

// caller starts one more Envoy that knows nothing yet, and waits until it has
// called the service: at its own port, since the address of the alias is taken.
func (p *plane) caller(name, url string) {
	t := p.t
	t.Helper()
	k, _ := p.join(name)
	send(t, k, &agentapi.Up{Message: &agentapi.Up_Hello{Hello: &agentapi.Hello{AgentVersion: "test", EnvoyVersion: "1.40.0", Wiring: "bind"}}})
	p.start(k, bootstrap.NodeMeta{Version: "test", Wiring: mesh.Bind})
	envoytest.Eventually(t, 20*time.Second, func() error {
		// Listeners of several Envoys on one port share its connections.
		for range 20 {
			if err := get(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, url); err != nil {
				t.Fatalf("with a new caller: %v", err)
			}
		}
		stats := k.envoy.Stats(t)
		if stats["cluster.backend.demo.ssl.handshake"] < 1 || stats["cluster.backend.demo.upstream_rq_total"] < 1 {
			return fmt.Errorf("%s has made %v handshakes for %v requests", name, stats["cluster.backend.demo.ssl.handshake"], stats["cluster.backend.demo.upstream_rq_total"])
		}
		if n := stats["cluster.backend.demo.ssl.fail_verify_error"] + stats["cluster.backend.demo.ssl.fail_verify_san"]; n > 0 {
			t.Fatalf("%s refused %v certificates", name, n)
		}
		return nil
	})
}

func get(c *http.Client, url string) error {
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != "hello" {
		return fmt.Errorf("%s: %s", resp.Status, body)
	}
	return nil
}

// target is one client and what it asks for.
type target struct {
	client *http.Client
	url    string
}

// load sends fifty requests a second to each target.
type load struct {
	done, failed atomic.Int64
	last         atomic.Value
	stop         func()
}

func startLoad(targets ...target) *load {
	l := &load{}
	end := make(chan struct{})
	var all sync.WaitGroup
	for _, x := range targets {
		x.client.Timeout = 10 * time.Second
		all.Go(func() {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-end:
					return
				case <-tick.C:
				}
				if err := get(x.client, x.url); err != nil {
					l.failed.Add(1)
					l.last.Store(err.Error())
				}
				l.done.Add(1)
			}
		})
	}
	l.stop = sync.OnceFunc(func() { close(end); all.Wait() })
	return l
}

// more waits until n more requests are done.
func (l *load) more(n int64) {
	for want := l.done.Load() + n; l.done.Load() < want; {
		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // polls a counter
	}
}
