package xds

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"patchbay/external"
	"patchbay/internal/envoytest"
	"patchbay/internal/testca"
	"patchbay/mesh"
	"patchbay/sidecar/redirect"
	"patchbay/xds/bootstrap"
	"patchbay/xds/translate"
)

// Targets outside the mesh, on a real Envoy and real TLS servers.

// partner is somebody's API: it says what it is asked, and how. Its address is
// the one that a name resolves to.
func partner(t *testing.T, c *tls.Config) mesh.HostPort {
	t.Helper()
	api := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s host=%s", r.Proto, r.Host)
		if r.TLS != nil {
			fmt.Fprintf(w, " sni=%s%s", r.TLS.ServerName, r.Header.Get("X-Forwarded-Proto"))
		}
	}))
	api.EnableHTTP2 = true
	if api.TLS = c; c != nil {
		api.StartTLS()
	} else {
		api.Start()
	}
	t.Cleanup(api.Close)
	return mesh.HostPort{Host: "localhost", Port: netip.MustParseAddrPort(api.Listener.Addr().String()).Port()}
}

func outside(t *testing.T, n string, p mesh.Protocol, to mesh.HostPort, secure *mesh.ExternalTLS) *mesh.Service {
	t.Helper()
	return external.Target{Name: name(n), Protocol: p, Alias: freeAlias(t, n), Addresses: []mesh.HostPort{to}, TLS: secure}.Service()
}

func TestTargetsOutsideTheMesh(t *testing.T) {
	ca, foreign := testca.New(t), testca.New(t)
	serves := func(cert tls.Certificate) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{cert}} //nolint:gosec // what servers have
	}
	good := partner(t, serves(ca.Certificate(t, "localhost")))
	sni := func(n string) *mesh.ExternalTLS { return &mesh.ExternalTLS{Roots: ca.RootPEM, SNI: n} }
	old := serves(ca.Certificate(t, "localhost"))
	old.MaxVersion = tls.VersionTLS12
	oldServer := partner(t, old)
	wild := partner(t, serves(ca.Certificate(t, "*.partner.example")))
	plain := partner(t, nil)

	c := startControl(t, 0)
	services := map[string]*mesh.Service{}
	add := func(n string, p mesh.Protocol, to mesh.HostPort, secure *mesh.ExternalTLS) {
		services[n] = outside(t, n, p, to, secure)
	}
	add("good", mesh.HTTP, good, sni(""))
	add("h2", mesh.HTTP2, good, sni(""))
	add("wild", mesh.HTTP, wild, sni("api.partner.example"))
	add("static", mesh.HTTP, mesh.HostPort{Host: "127.0.0.1", Port: good.Port}, sni("localhost"))
	add("plain", mesh.HTTP, plain, nil)
	add("old", mesh.HTTP, oldServer, sni(""))
	add("too-old", mesh.HTTP, oldServer, &mesh.ExternalTLS{Roots: ca.RootPEM, MinimumVersion: "1.3"})
	add("wrong-name", mesh.HTTP, good, sni("other.example"))
	add("expired", mesh.HTTP, partner(t, serves(ca.Expired(t, "localhost"))), sni(""))
	add("foreign", mesh.HTTP, partner(t, serves(foreign.Certificate(t, "localhost"))), sni(""))
	services["foreign"].Policy = wants(t, `{"retries": {"max": 0}}`)
	var all []*mesh.Service
	for _, s := range services {
		all = append(all, s)
	}
	c.store.SetServices("prod", all)
	envoy := c.task(t, "prod/web/1", "")
	host := func(a mesh.HostPort) string { return fmt.Sprintf("localhost:%d", a.Port) }
	for n, want := range map[string]string{
		"good":   "HTTP/1.1 host=" + host(good) + " sni=localhost",
		"h2":     "HTTP/2.0 host=" + host(good) + " sni=localhost",
		"wild":   "HTTP/1.1 host=" + host(wild) + " sni=api.partner.example",
		"static": "HTTP/1.1 host=127.128.77.7:" + fmt.Sprint(services["static"].Aliases[0].Port) + " sni=localhost",
		"plain":  "HTTP/1.1 host=" + host(plain),
		"old":    "HTTP/1.1 host=" + host(oldServer) + " sni=localhost",
	} {
		if got, err := get(oneCall, services[n].Aliases[0]); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", n, got, err, want)
		}
	}
	for n, stat := range map[string]string{
		"too-old": "ssl.connection_error", "wrong-name": "ssl.fail_verify_san", "expired": "ssl.fail_verify_error", "foreign": "ssl.fail_verify_error",
	} {
		got, err := get(oneCall, services[n].Aliases[0])
		if err == nil || !strings.HasPrefix(err.Error(), "503 ") {
			t.Errorf("%s is answered: %q, %v", n, got, err)
		}
		if envoy.Stats(t)["cluster."+n+".prod."+stat] == 0 {
			t.Errorf("%s: it was not %s that failed", n, stat)
		}
	}
	if w := c.pusher.Withheld(); len(w) > 0 {
		t.Errorf("withheld: %+v", w)
	}
}

// TestADatabaseOutsideTheMesh: tcp in plain text from the application, TLS from
// there on.
func TestADatabaseOutsideTheMesh(t *testing.T) {
	ca := testca.New(t)
	lis, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{ca.Certificate(t, "db.internal")}}) //nolint:gosec // what servers have
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lis.Close() })
	go func() {
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.WriteString(conn, "ready\n") // it speaks first, as databases do
				line, err := bufio.NewReader(conn).ReadString('\n')
				if err == nil {
					fmt.Fprintf(conn, "%s to %s", strings.TrimSpace(line), conn.(*tls.Conn).ConnectionState().ServerName)
				}
			}()
		}
	}()
	to := mesh.HostPort{Host: "localhost", Port: netip.MustParseAddrPort(lis.Addr().String()).Port()}
	db := outside(t, "db", mesh.TCP, to, &mesh.ExternalTLS{Roots: ca.RootPEM, SNI: "db.internal"})
	c := startControl(t, 0)
	c.store.SetServices("prod", []*mesh.Service{db})
	c.task(t, "prod/web/1", "")
	conn, err := net.Dial("tcp", vip(db.Aliases[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	io.WriteString(conn, "select 1\n")
	if got, err := io.ReadAll(conn); err != nil || string(got) != "select 1 to db.internal" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestATargetComesAndGoes: beside services of the mesh, at run time.
func TestATargetComesAndGoes(t *testing.T) {
	ca := testca.New(t)
	api := partner(t, &tls.Config{Certificates: []tls.Certificate{ca.Certificate(t, "localhost")}}) //nolint:gosec // what servers have
	c := startControl(t, 0)
	app, _ := counting(t, saying("inside"))
	port := offer(t, "inside", mesh.HTTP, app, "")
	inside := offered(mesh.HTTP, freeAlias(t, "inside"), port)
	target := outside(t, "api", mesh.HTTP, api, &mesh.ExternalTLS{Roots: ca.RootPEM})
	c.store.SetServices("prod", []*mesh.Service{inside, target})
	c.task(t, "prod/inside/1", "", []bootstrap.Port{port}...)
	c.task(t, "prod/web/1", "")
	eventually(t, says(target.Aliases[0], fmt.Sprintf("HTTP/1.1 host=localhost:%d sni=localhost", api.Port)))
	next := *target
	next.External = &mesh.External{Addresses: []mesh.HostPort{api}, Discovery: "STRICT_DNS", Host: "as.configured", TLS: target.External.TLS}
	c.store.SetServices("prod", []*mesh.Service{inside, &next})
	eventually(t, says(target.Aliases[0], "HTTP/1.1 host=as.configured sni=localhost"))
	c.store.SetServices("prod", []*mesh.Service{inside})
	eventually(t, func() error {
		if got, err := get(oneCall, target.Aliases[0]); err == nil {
			return fmt.Errorf("it is still answered: %s", got)
		}
		return nil
	})
	eventually(t, says(inside.Aliases[0], "inside "+vip(inside.Aliases[0])+"/"))
}

// TestATargetForSomeWorkloads: the others' Envoys know nothing of it, also
// where a service that they call leads to it.
func TestATargetForSomeWorkloads(t *testing.T) {
	ca := testca.New(t)
	api := partner(t, &tls.Config{Certificates: []tls.Certificate{ca.Certificate(t, "localhost")}}) //nolint:gosec // what servers have
	c := startControl(t, 0)
	app, _ := counting(t, saying("inside"))
	port := offer(t, "inside", mesh.HTTP, app, "")
	inside := offered(mesh.HTTP, freeAlias(t, "inside"), port)
	bank := outside(t, "bank", mesh.HTTP, api, &mesh.ExternalTLS{Roots: ca.RootPEM})
	bank.External.Callers = []string{"till"}
	inside.Policy = wants(t, `{"routes": [{"match": {"path": "/bank"}, "to": [{"service": "bank", "weight": 1}]}]}`)
	c.store.SetServices("prod", []*mesh.Service{bank, inside})
	c.task(t, "prod/inside/1", "", port)
	knows := func(e *envoytest.Envoy) bool {
		return e.Clusters(t)["bank.prod"] != nil || e.Listeners(t)[translate.EgressName(bank.Aliases[0])] != ""
	}
	web := c.task(t, "prod/web/1", "")
	eventually(t, says(inside.Aliases[0], "inside "+vip(inside.Aliases[0])+"/"))
	if got, err := get(oneCall, bank.Aliases[0]); err == nil || knows(web) {
		t.Errorf("web, which is not among the callers: %q, %v", got, err)
	}
	if code, body := send(t, http.MethodGet, inside.Aliases[0], "/bank"); code != http.StatusServiceUnavailable {
		t.Errorf("web, by another service's route: %d %s", code, body)
	}
	web.Stop() // both would have the aliases: this machine is one task
	till := c.task(t, "prod/till/1", "")
	eventually(t, says(bank.Aliases[0], fmt.Sprintf("HTTP/1.1 host=localhost:%d sni=localhost", api.Port)))
	if code, body := send(t, http.MethodGet, inside.Aliases[0], "/bank"); code != http.StatusOK || !knows(till) {
		t.Errorf("till, by another service's route: %d %s", code, body)
	}
}

// TestANameThatLeadsBack: a target whose name resolves to its own alias, or to
// another target's that leads there, is called once and no more, in either
// wiring; the others go on.
func TestANameThatLeadsBack(t *testing.T) {
	for _, wiring := range []string{"bind", "redirect"} {
		t.Run(wiring, func(t *testing.T) {
			ns, own := "", ""
			lis, err := net.Listen("tcp", "127.0.0.1:0")
			if wiring == "redirect" {
				ns = envoytest.Netns(t)
				envoytest.In(t, ns, func() error {
					if lis, err = net.Listen("tcp", "127.0.0.1:0"); err == nil {
						_, err = redirect.Install(redirect.Rule{VIPs: mesh.LiveVIPs, Port: bootstrap.RedirectPort, Own: bootstrap.OutsideTTL})
					}
					return err
				})
				own = ns
			}
			if err != nil {
				t.Fatal(err)
			}
			c := startControlOn(t, lis)
			a, b, d := freeAlias(t, "a"), freeAlias(t, "b"), freeAlias(t, "d")
			b.VIP, d.VIP = b.VIP.Next(), d.VIP.Next().Next()
			// What Envoy makes of a name, and of an address that it takes for one, is the same.
			to := func(n string, p mesh.Protocol, from, to mesh.Alias) *mesh.Service {
				s := external.Target{Name: name(n), Protocol: p, Alias: from, Addresses: []mesh.HostPort{{Host: to.VIP.String(), Port: to.Port}}, Discovery: "STRICT_DNS"}.Service()
				s.Policy = wants(t, `{"retries": {"max": 0}}`)
				return s
			}
			good := outside(t, "good", mesh.HTTP, partner(t, nil), nil)
			c.store.SetServices("prod", []*mesh.Service{to("self", mesh.HTTP, a, a), to("there", mesh.TCP, b, d), to("back", mesh.TCP, d, b), good})
			e := c.task(t, "prod/web/1", own)
			client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(_ context.Context, network, address string) (conn net.Conn, err error) {
				if ns == "" {
					return net.Dial(network, address)
				}
				envoytest.In(t, ns, func() error { conn, err = net.Dial(network, address); return err })
				return conn, err
			}}}
			var calls sync.WaitGroup
			calls.Go(func() {
				if _, err := get(client, a); err == nil || !strings.HasPrefix(err.Error(), "503 ") {
					t.Errorf("a call to itself: %v", err)
				}
			})
			calls.Go(func() {
				if got, err := get(client, b); err == nil {
					t.Errorf("a connection in a ring is answered %q", got)
				}
			})
			calls.Wait()
			stats := e.Stats(t)
			for name, want := range map[string]float64{"self": 1, "there": 1, "back": 0} {
				if n := float64(stats["cluster."+name+".prod.upstream_cx_total"]); n != want {
					t.Errorf("%s: %v connections for one call, want %v", name, n, want)
				}
			}
			if ns == "" { // the partner is not in the other namespace
				if got, err := get(client, good.Aliases[0]); err != nil {
					t.Errorf("another target: %q, %v", got, err)
				}
			}
			if w := c.pusher.Withheld(); len(w) > 0 {
				t.Errorf("withheld: %+v", w)
			}
		})
	}
}
