//go:build faultrows

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"patchbay/agentapi"
	"patchbay/config"
	"patchbay/internal/awsfake/pca"
	"patchbay/internal/awsfake/wire"
	"patchbay/internal/envoytest"
	"patchbay/mesh"
	"patchbay/mesh/policy"
	"patchbay/xds/bootstrap"
)

// whole reports whether the rows that have a short form run in full length
// (make fault-rows FULL=1).
func whole() bool { return os.Getenv("PATCHBAY_FAULT_ROWS") == "full" }

// slowCA is AWS Private CA with a quota of certificates of its own.
type slowCA struct {
	http.Handler
	mu      sync.Mutex
	limit   *rate.Limiter // nil: AWS's quota
	refused int
}

func (s *slowCA) slow(perSecond rate.Limit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit, s.refused = rate.NewLimiter(perSecond, 1), 0
}

func (s *slowCA) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	throttle := strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".IssueCertificate") && s.limit != nil && !s.limit.Allow()
	if throttle {
		s.refused++
	}
	s.mu.Unlock()
	if throttle {
		away(http.StatusBadRequest, `{"__type":"ThrottlingException","message":"Rate exceeded"}`)("", w, r)
		return
	}
	s.Handler.ServeHTTP(w, r)
}

// TestLimitedCARow is row F9: the CA gives one certificate a second, and all
// services are due at once. Twelve of them, or 300.
func TestLimitedCARow(t *testing.T) {
	t.Parallel()
	anybody(t)
	n := 12
	if whole() {
		n = 300
	}
	ca := pca.New(pca.Options{Polls: 1})
	arn, err := ca.Make(pca.Spec{ShortLived: true})
	if err != nil {
		t.Fatal(err)
	}
	limited := &slowCA{Handler: wire.New(wire.Options{}, ca.API())}
	srv := httptest.NewServer(limited)
	t.Cleanup(srv.Close)
	r := &rows{t: t}
	r.a = startPlane(t, func(c *config.Config) {
		c.Issuers = map[string]config.Issuer{arn: {PrivateCA: &config.PrivateCA{Endpoint: srv.URL, Lifetime: time.Hour}}}
		c.Registry.Lease = time.Hour // the agents here are tests
	})
	app, _ := hello()
	r.offer("short", "t1", arn, app)
	short := r.caller("short")
	for i := range (n + 98) / 100 { // the others have no Envoy: only their certificates count
		r.declare(fmt.Sprintf("many%d", i), min(100, n-1-100*i), arn)
	}
	first := r.certified(n, nil)
	issued := ca.Issued(arn)
	limited.slow(1)
	began := time.Now()
	r.during(fmt.Sprintf("F9, %d services are due at once, and the CA gives one certificate a second", n), short, func() {
		var all sync.WaitGroup
		for name := range first {
			all.Go(func() { r.a.rotate(name) })
		}
		all.Wait()
		r.certified(n, first)
	})
	took, got := time.Since(began), ca.Issued(arn)-issued
	limited.mu.Lock()
	defer limited.mu.Unlock()
	t.Logf("F9: %d certificates in %s, %.2f a second; %d requests were throttled", got, took.Round(time.Second), float64(got)/took.Seconds(), limited.refused)
	if got != n {
		t.Errorf("F9: %d certificates for %d services", got, n)
	}
}

// declare has a task of n services with TLS, without an Envoy.
func (r *rows) declare(name string, n int, issuer string) {
	var ports []*agentapi.Port
	var names []string
	for i := range n {
		one := fmt.Sprintf("%s-%02d", name, i)
		names = append(names, one)
		ports = append(ports, &agentapi.Port{
			PortName: one, DiscoveryName: one, AppProtocol: "http", ContainerPort: 8080, IngressPort: uint32(20000 + i),
			ClientAliases: []*agentapi.ClientAlias{{DnsName: one + ".demo", Port: 8080}}, Tls: &agentapi.Tls{Issuer: issuer},
		})
	}
	k, _ := r.a.joinAs(name, "t1", names...)
	send(r.t, k, &agentapi.Up{Message: &agentapi.Up_Hello{Hello: &agentapi.Hello{AgentVersion: "test", EnvoyVersion: "1.40.0", Wiring: "bind", Ports: ports}}})
}

// certified waits until n services have a certificate, which none of before is,
// and returns their serials; none may expire meanwhile.
func (r *rows) certified(n int, before map[string]string) map[string]string {
	r.t.Helper()
	var serials map[string]string
	envoytest.Eventually(r.t, time.Duration(n)*5*time.Second, func() error {
		serials = map[string]string{}
		for _, c := range r.answer().Services {
			if c.Alarm || c.Serial != "" && time.Now().After(c.NotAfter) {
				r.t.Fatalf("F9: %s is about to expire, or has: %+v", c.Service, c)
			}
			if c.Serial != "" && c.Serial != before[c.Service] {
				serials[c.Service] = c.Serial
			}
		}
		if len(serials) != n {
			return fmt.Errorf("F9: %d of %d have their certificate: %v", len(serials), n, slices.Sorted(maps.Keys(serials)))
		}
		return nil
	})
	return serials
}

// TestClockRows is row F10: the clocks of callers and of services are five
// minutes behind the control plane's, or ahead of it, and each verifies the
// other's certificate, which is new. In full length it is so again after each of
// five rotations.
func TestClockRows(t *testing.T) {
	t.Parallel()
	p := startPlane(t, func(c *config.Config) { c.Registry.Lease = time.Hour })
	rounds := 1
	if whole() {
		rounds = 5
	}
	const off = 5 * time.Minute
	for i, clocks := range [][2]time.Duration{{0, -off}, {0, off}, {-off, off}, {off, -off}} {
		p.clocks(fmt.Sprintf("clock%d", i), clocks[0], clocks[1], rounds)
	}
}

// clocks has a service and its caller, each with a clock of its own, speak
// mutual TLS.
func (p *plane) clocks(service string, its, callers time.Duration, rounds int) {
	t := p.t
	t.Helper()
	app, _ := hello()
	srv := httptest.NewServer(app)
	t.Cleanup(srv.Close)
	appPort, ingress, alias := uint16(srv.Listener.Addr().(*net.TCPAddr).Port), uint16(freePort(t)), uint32(18190)
	pol := &policy.Policy{MutualTLS: &policy.MutualTLS{Mode: policy.Required}}
	text, err := json.Marshal(pol)
	if err != nil {
		t.Fatal(err)
	}
	back, _ := p.join(service, service)
	back.clock = its
	send(t, back, &agentapi.Up{Message: &agentapi.Up_Hello{Hello: &agentapi.Hello{AgentVersion: "test", EnvoyVersion: "1.40.0", Wiring: "bind", Ports: []*agentapi.Port{{
		PortName: "web", DiscoveryName: service, AppProtocol: "http", ContainerPort: uint32(appPort), IngressPort: uint32(ingress), Policy: text,
		ClientAliases: []*agentapi.ClientAlias{{DnsName: service + ".demo", Port: alias}}, Tls: &agentapi.Tls{Issuer: "default"},
	}}, ContainerPorts: []uint32{uint32(appPort)}}}})
	p.start(back, bootstrap.NodeMeta{Version: "test", Wiring: mesh.Bind, Dependencies: []string{"nothing"}, ContainerPorts: []uint16{appPort}, Ports: []bootstrap.Port{{
		PortName: "web", DiscoveryName: service, Protocol: mesh.HTTP, AppPort: appPort, ListenerPort: ingress, TLS: &bootstrap.PortTLS{Issuer: "default"}, Policy: pol,
	}}})
	send(t, back, &agentapi.Up{Message: &agentapi.Up_Health{Health: &agentapi.Health{EnvoyReady: true, Ports: map[string]agentapi.Health_State{"web": agentapi.Health_HEALTHY}}}})
	if got := receive(t, back, (*agentapi.Down).GetRegistration); !got.GetRegistered() {
		t.Fatalf("not registered: %s", got.GetError())
	}
	for round := range rounds {
		if round > 0 {
			p.rotate(service + ".demo")
		}
		k, _ := p.joinAs("caller-of-"+service, fmt.Sprintf("t%d", round))
		k.clock = callers
		send(t, k, &agentapi.Up{Message: &agentapi.Up_Hello{Hello: &agentapi.Hello{AgentVersion: "test", EnvoyVersion: "1.40.0", Wiring: "bind", Dependencies: []string{service}}}})
		p.start(k, bootstrap.NodeMeta{Version: "test", Wiring: mesh.Bind, Dependencies: []string{service}})
		names := receive(t, k, (*agentapi.Down).GetNames)
		for len(names.GetNames()) == 0 {
			names = receive(t, k, (*agentapi.Down).GetNames)
		}
		url := fmt.Sprintf("http://%s:%d/", names.GetNames()[0].GetVip(), alias)
		envoytest.Eventually(t, 20*time.Second, func() error { return get(&http.Client{}, url) })
		l := startLoad(target{&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, url})
		l.more(50)
		l.stop()
		handshakes, broken := 0.0, 0.0
		for _, e := range []*envoytest.Envoy{back.envoy, k.envoy} {
			handshakes += e.Sum(t, "", "ssl.handshake")
			for _, how := range []string{"ssl.connection_error", "ssl.fail_verify_error", "ssl.fail_verify_no_cert", "ssl.fail_verify_san"} {
				broken += e.Sum(t, "", how)
			}
		}
		t.Logf("F10, the service's clock is %s off, its caller's %s: %d requests, %d failed; %v handshakes, %v failed", its, callers, l.done.Load(), l.failed.Load(), handshakes, broken)
		if l.failed.Load() > 0 || broken > 0 || handshakes == 0 {
			t.Errorf("F10: %v", l.last.Load())
		}
		k.envoy.Stop()
	}
}
