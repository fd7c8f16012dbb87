package xds

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"patchbay/internal/envoytest"
	"patchbay/internal/testca"
	"patchbay/mesh"
	"patchbay/sidecar/redirect"
	"patchbay/xds/bootstrap"
)

// What the generated configuration means to applications, on real Envoys.

// eventually calls f until it succeeds: a change has been pushed but may not
// have arrived.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	envoytest.Eventually(t, 10*time.Second, f)
}

func says(a mesh.Alias, want string) func() error {
	return func() error {
		got, err := get(oneCall, a)
		if err == nil && got != want {
			err = fmt.Errorf("it answers %q", got)
		}
		return err
	}
}

func TestEveryProtocolThroughTwoEnvoys(t *testing.T) {
	c, ca := startControl(t, 0), testca.New(t)
	c.trust(ca)
	apps := map[mesh.Protocol]uint16{mesh.HTTP: backend(t, "ok").Port(), mesh.HTTP2: backend(t, "ok").Port(), mesh.GRPC: grpcApp(t), mesh.TCP: tcpApp(t)}
	var ports []bootstrap.Port
	var services []*mesh.Service
	aliases := map[string]mesh.Alias{}
	for p, app := range apps {
		for _, issuer := range []string{"", "default"} {
			n := string(p) + "-" + issuer
			if issuer != "" {
				c.issue(t, ca, n, "1")
			}
			port := offer(t, n, p, app, issuer)
			aliases[n] = freeAlias(t, n)
			ports, services = append(ports, port), append(services, offered(p, aliases[n], port))
		}
	}
	c.store.SetServices("prod", services)
	callee, caller := c.task(t, "prod/backend/1", "", ports...), c.task(t, "prod/web/1", "")
	for n, a := range aliases {
		call := says(a, "ok")
		switch {
		case strings.HasPrefix(n, "grpc"):
			call = func() error { return callGRPC(t.Context(), a) }
		case strings.HasPrefix(n, "tcp"):
			call = func() error { return callTCP(a) }
		}
		if err := call(); err != nil {
			t.Errorf("%s: %v", n, err)
		}
		out := caller.Stats(t)
		if got, want := out["cluster."+n+".prod.ssl.handshake"] > 0, strings.HasSuffix(n, "default"); got != want {
			t.Errorf("%s: encrypted %v", n, got)
		}
		if out["cluster."+n+".prod.upstream_cx_total"] == 0 {
			t.Errorf("%s: the caller's Envoy has opened no connection", n)
		}
	}
	if got := callee.Sum(t, "listener.ingress-", ".ssl.handshake"); got != 4 {
		t.Errorf("the callee's Envoy saw %v handshakes, want one for each protocol", got)
	}
	if fails := callee.Sum(t, "cluster.app-", ".upstream_cx_connect_fail") + caller.Sum(t, "cluster.", ".upstream_cx_connect_fail"); fails != 0 {
		t.Errorf("%v connections failed", fails)
	}
}

func TestAnApplicationSeesTheRequestAsItWasSent(t *testing.T) {
	c := startControl(t, 0)
	seen := make(chan *http.Request, 1)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r
		w.Header().Set("Server", "mine")
		w.WriteHeader(http.StatusTeapot)
	}))
	t.Cleanup(app.Close)
	port := offer(t, "api", mesh.HTTP, netip.MustParseAddrPort(app.Listener.Addr().String()).Port(), "")
	api := freeAlias(t, "api")
	c.store.SetServices("prod", []*mesh.Service{offered(mesh.HTTP, api, port)})
	c.task(t, "prod/api/1", "", port)
	c.task(t, "prod/web/1", "")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+vip(api)+"/a//b%2Fc/../d?q=1", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	req.Host, req.Header = "api.prod:8080", http.Header{"X-Mine": {"1"}, "User-Agent": {"app"}}
	resp, err := oneCall.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusTeapot || resp.Header.Get("Server") != "mine" {
		t.Errorf("the answer: %s %v", resp.Status, resp.Header)
	}
	for h := range resp.Header {
		if !slices.Contains([]string{"Server", "Date", "Content-Length"}, h) {
			t.Errorf("the answer has a header %s: %q", h, resp.Header.Get(h))
		}
	}
	got := <-seen
	if got.RequestURI != "/a//b%2Fc/../d?q=1" || got.Host != "api.prod:8080" || got.Method != http.MethodPost {
		t.Errorf("the request: %s %s of %s", got.Method, got.RequestURI, got.Host)
	}
	for h := range got.Header {
		if !slices.Contains([]string{"X-Mine", "User-Agent", "Content-Length", "Accept-Encoding", "X-Request-Id", "X-Forwarded-Proto"}, h) {
			t.Errorf("the request has a header %s: %q", h, got.Header.Get(h))
		}
	}
}

func TestErrorsOfApplicationsAreAnswers(t *testing.T) {
	c := startControl(t, 0)
	var calls atomic.Int64
	var status atomic.Int64
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { calls.Add(1); w.WriteHeader(int(status.Load())) }))
	t.Cleanup(app.Close)
	port := offer(t, "api", mesh.HTTP, netip.MustParseAddrPort(app.Listener.Addr().String()).Port(), "")
	api := freeAlias(t, "api")
	c.store.SetServices("prod", []*mesh.Service{offered(mesh.HTTP, api, port)})
	c.task(t, "prod/api/1", "", port)
	caller := c.task(t, "prod/web/1", "")
	for _, s := range []struct{ status, calls int64 }{{500, 1}, {501, 1}, {404, 1}, {503, 3}} {
		status.Store(s.status)
		before := calls.Load()
		for range 12 {
			resp, err := oneCall.Get("http://" + vip(api))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != int(s.status) {
				t.Fatalf("the application answers %d, the caller has %d", s.status, resp.StatusCode)
			}
		}
		if n := calls.Load() - before; n != 12*s.calls {
			t.Errorf("%d: the application was asked %d times for 12 requests", s.status, n)
		}
		if s.status == 404 {
			if n := caller.Stats(t)["cluster.api.prod.outlier_detection.ejections_enforced_total"]; n != 0 {
				t.Errorf("%v ejections for the answers of an application", n)
			}
		}
	}
	for k, v := range caller.Stats(t) {
		if strings.Contains(k, "outlier") {
			t.Log(k, v)
		}
	}
}

func TestADeadHostIsAvoided(t *testing.T) {
	c := startControl(t, 0)
	port, dead := offer(t, "api", mesh.HTTP, backend(t, "ok").Port(), ""), offer(t, "api", mesh.HTTP, 1, "")
	api := freeAlias(t, "api")
	c.store.SetServices("prod", []*mesh.Service{offered(mesh.HTTP, api, port, dead)})
	c.task(t, "prod/api/1", "", port)
	caller := c.task(t, "prod/web/1", "")
	for range 40 {
		if err := says(api, "ok")(); err != nil {
			t.Fatal(err)
		}
	}
	stats := caller.Stats(t)
	const cluster = "cluster.api.prod."
	if n := stats[cluster+"outlier_detection.ejections_enforced_consecutive_local_origin_failure"]; n != 1 {
		t.Errorf("%v hosts were ejected, want 1", n)
	}
	if n := stats[cluster+"upstream_cx_connect_fail"]; n < 5 || n > 6 {
		t.Errorf("%v connections failed, want 5, then none", n)
	}
	if retried, ok := stats[cluster+"upstream_rq_retry"], stats[cluster+"upstream_rq_retry_success"]; retried < 5 || retried != ok {
		t.Errorf("%v retries, %v successful", retried, ok)
	}
}

func TestAnApplicationThatIsGoneIsAvoided(t *testing.T) {
	c := startControl(t, 0)
	port, dead := offer(t, "api", mesh.HTTP, backend(t, "ok").Port(), ""), offer(t, "api", mesh.HTTP, 1, "")
	api := freeAlias(t, "api")
	c.store.SetServices("prod", []*mesh.Service{offered(mesh.HTTP, api, port, dead)})
	c.task(t, "prod/api/1", "", port)
	c.task(t, "prod/api/2", "", dead) // its Envoy lives, its application does not
	caller := c.task(t, "prod/web/1", "")
	for range 40 {
		if err := says(api, "ok")(); err != nil {
			t.Fatal(err)
		}
	}
	if n := caller.Stats(t)["cluster.api.prod.outlier_detection.ejections_enforced_consecutive_gateway_failure"]; n != 1 {
		t.Errorf("%v hosts were ejected, want 1", n)
	}
}

func TestTimeoutsOfAService(t *testing.T) {
	c := startControl(t, 0)
	block := make(chan struct{})
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-block }))
	t.Cleanup(app.Close)
	t.Cleanup(func() { close(block) })
	port := offer(t, "api", mesh.HTTP, netip.MustParseAddrPort(app.Listener.Addr().String()).Port(), "")
	api := freeAlias(t, "api")
	s, limit := offered(mesh.HTTP, api, port), 300*time.Millisecond
	s.Timeouts.PerRequest = &limit
	c.store.SetServices("prod", []*mesh.Service{s})
	c.task(t, "prod/api/1", "", port)
	caller := c.task(t, "prod/web/1", "")
	resp, err := oneCall.Get("http://" + vip(api))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if n := caller.Stats(t)["cluster.api.prod.upstream_rq_timeout"]; resp.StatusCode != http.StatusGatewayTimeout || n != 1 {
		t.Errorf("%s, %v timeouts", resp.Status, n)
	}
}

func TestWhatAnEncryptedPortRefuses(t *testing.T) {
	c, ca := startControl(t, 0), testca.New(t)
	c.trust(ca)
	c.issue(t, ca, "api", "1")
	port := offer(t, "api", mesh.HTTP, backend(t, "ok").Port(), "default")
	c.store.SetServices("prod", []*mesh.Service{offered(mesh.HTTP, freeAlias(t, "api"), port)})
	e := c.task(t, "prod/api/1", "", port)
	if _, err := shown(port.ListenerPort, &tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, InsecureSkipVerify: true}); err == nil { //nolint:gosec // what must be refused
		t.Error("it accepts TLS 1.2")
	}
	if resp, err := oneCall.Get(fmt.Sprintf("http://127.0.0.1:%d", port.ListenerPort)); err == nil {
		resp.Body.Close()
		t.Errorf("it answers plain text: %s", resp.Status)
	}
	for suite, has := range map[string]bool{"TLS_AES_128_GCM_SHA256": true, "TLS_AES_256_GCM_SHA384": true, "TLS_CHACHA20_POLY1305_SHA256": true, "TLS_AES_128_CCM_SHA256": false} {
		out, err := exec.CommandContext(t.Context(), "openssl", "s_client", "-connect", fmt.Sprintf("127.0.0.1:%d", port.ListenerPort), "-ciphersuites", suite).CombinedOutput()
		if (err == nil && strings.Contains(string(out), "Cipher is "+suite)) != has {
			t.Errorf("%s: %v\n%s", suite, err, out)
		}
	}
	// A load balancer verifies nothing; whoever does sees the service's name.
	if _, err := shown(port.ListenerPort, &tls.Config{InsecureSkipVerify: true}); err != nil { //nolint:gosec // as a load balancer
		t.Error(err)
	}
	if s, err := shown(port.ListenerPort, &tls.Config{RootCAs: ca.Pool(), ServerName: "api.prod"}); err != nil || s.Version != tls.VersionTLS13 {
		t.Errorf("%+v, %v", s, err)
	}
	lb := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // likewise
	defer lb.CloseIdleConnections()
	resp, err := lb.Get(fmt.Sprintf("https://127.0.0.1:%d", port.ListenerPort))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("HTTPS: %v %v", resp, err)
	}
	resp.Body.Close()
	// A check that connects and closes is no noise.
	before := e.Log(1000)
	for range 10 {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port.ListenerPort))
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	eventually(t, func() error {
		if n := e.Stats(t)["listener.ingress-api.downstream_cx_active"]; n > 1 {
			return fmt.Errorf("%v connections", n)
		}
		return nil
	})
	if after := e.Log(1000); after != before {
		t.Errorf("Envoy's log grew by:\n%s", strings.TrimPrefix(after, before))
	}
}

func TestAForeignCertificateIsNotCalled(t *testing.T) {
	c, ca, other := startControl(t, 0), testca.New(t), testca.New(t)
	c.trust(ca)
	c.store.SetBundle(&mesh.Bundle{Issuer: "other", RootsPEM: other.RootPEM}) // trusted, for its own services
	c.issue(t, ca, "api", "1", "db.prod")                                     // the right CA, another name
	c.issue(t, other, "db", "1")                                              // the right name, another CA
	c.issue(t, other, "its-own", "1")
	app := backend(t, "secret").Port()
	api, db, own := offer(t, "api", mesh.HTTP, app, "default"), offer(t, "db", mesh.HTTP, app, "default"), offer(t, "its-own", mesh.HTTP, app, "other")
	a, b, its := freeAlias(t, "api"), freeAlias(t, "db"), freeAlias(t, "its-own")
	c.store.SetServices("prod", []*mesh.Service{offered(mesh.HTTP, a, api), offered(mesh.HTTP, b, db), offered(mesh.HTTP, its, own)})
	c.task(t, "prod/api/1", "", api, db, own)
	caller := c.task(t, "prod/web/1", "")
	if err := says(its, "secret")(); err != nil {
		t.Error(err)
	}
	for _, alias := range []mesh.Alias{a, b} {
		if got, err := get(oneCall, alias); err == nil {
			t.Errorf("%s answered %q", alias.DNSName, got)
		}
	}
	stats := caller.Stats(t)
	if n := stats["cluster.api.prod.ssl.fail_verify_san"]; n == 0 {
		t.Error("the name of api's certificate was not what failed")
	}
	if n := stats["cluster.db.prod.ssl.fail_verify_error"]; n == 0 {
		t.Error("the issuer of db's certificate was not what failed")
	}
	c.issue(t, ca, "api", "2")
	eventually(t, says(a, "secret"))
}

func TestTLSIsSwitchedOnAndOffUnderLoad(t *testing.T) {
	c, ca := startControl(t, 0), testca.New(t)
	c.trust(ca)
	c.issue(t, ca, "api", "1")
	plain, encrypted := offer(t, "api", mesh.HTTP, backend(t, "plain").Port(), ""), offer(t, "api", mesh.HTTP, backend(t, "encrypted").Port(), "default")
	api := freeAlias(t, "api")
	c.store.SetServices("prod", []*mesh.Service{offered(mesh.HTTP, api, plain)})
	c.task(t, "prod/api/1", "", plain)
	c.task(t, "prod/api/2", "", encrypted)
	caller := c.task(t, "prod/web/1", "")
	stop := load(api)
	for _, ports := range [][]bootstrap.Port{{plain, encrypted}, {encrypted}, {encrypted, plain}, {plain}, {encrypted}} {
		s := offered(mesh.HTTP, api, ports...)
		c.store.SetServices("prod", []*mesh.Service{s})
		last := "plain"
		if ports[len(ports)-1].TLS != nil {
			last = "encrypted"
		}
		eventually(t, says(api, last))
		eventually(t, func() error {
			if n := len(caller.Clusters(t)["api.prod"]); n != len(ports) {
				return fmt.Errorf("%d endpoints", n)
			}
			return nil
		})
		c.settled(t)
	}
	if n, err := stop(); err != nil || n < 1 {
		t.Errorf("%d requests, the first failure: %v", n, err)
	}
	if caller.Stats(t)["cluster.api.prod.ssl.handshake"] == 0 {
		t.Error("nothing was encrypted")
	}
}

func TestALeafAndItsRootAreReplacedUnderLoad(t *testing.T) {
	c, old, next := startControl(t, 0), testca.New(t), testca.New(t)
	c.trust(old)
	c.issue(t, old, "api", "1")
	port := offer(t, "api", mesh.HTTP, backend(t, "ok").Port(), "default")
	api := freeAlias(t, "api")
	c.store.SetServices("prod", []*mesh.Service{offered(mesh.HTTP, api, port)})
	c.task(t, "prod/api/1", "", port)
	c.task(t, "prod/web/1", "")
	stop := load(api)
	rotated := func(ca *testca.CA, serial string) {
		t.Helper()
		c.issue(t, ca, "api", serial)
		want, _ := pem.Decode(c.store.Snapshot().Leaves[name("api")].ChainPEM)
		eventually(t, func() error {
			s, err := shown(port.ListenerPort, &tls.Config{RootCAs: ca.Pool(), ServerName: "api.prod"})
			if err == nil && !slices.Equal(s.PeerCertificates[0].Raw, want.Bytes) {
				err = errors.New("the old leaf")
			}
			return err
		})
		if err := says(api, "ok")(); err != nil {
			t.Error(err)
		}
	}
	for i := range 10 {
		rotated(old, fmt.Sprint("old", i))
	}
	// Trust in both and the leaf of the new one come in one step.
	c.store.SetBundle(&mesh.Bundle{Issuer: "default", RootsPEM: slices.Concat(old.RootPEM, next.RootPEM)})
	rotated(next, "new")
	c.trust(next)
	c.settled(t)
	rotated(next, "newer")
	if n, err := stop(); err != nil || n < 1 {
		t.Errorf("%d requests, the first failure: %v", n, err)
	}
}

func TestWebSocketThroughTwoEnvoys(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		rw.Flush()
		line, _ := rw.ReadString('\n')
		fmt.Fprint(conn, "echo "+line)
	}))
	t.Cleanup(app.Close)
	startPair(t, mesh.HTTP, netip.MustParseAddrPort(app.Listener.Addr().String()).Port()).each(t, func(t *testing.T, api mesh.Alias) {
		conn, err := net.Dial("tcp", vip(api))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		fmt.Fprint(conn, "GET /ws HTTP/1.1\r\nHost: api\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
		r := bufio.NewReader(conn)
		resp, err := http.ReadResponse(r, nil) //nolint:bodyclose // the connection is closed
		if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%+v, %v", resp, err)
		}
		fmt.Fprintln(conn, "hello")
		if line, err := r.ReadString('\n'); line != "echo hello\n" {
			t.Errorf("%q, %v", line, err)
		}
	})
}

// An application that listens on every address calls an alias on its own
// port, in a namespace where one rule sends the VIPs to Envoy.
func TestRedirectWiring(t *testing.T) {
	api := mesh.Alias{DNSName: "api", VIP: netip.MustParseAddr("127.128.5.5"), Port: 9090}
	t.Run("live", func(t *testing.T) { redirected(t, mesh.LiveVIPs, nil, api, api.VIP) })
	own := mesh.NumberVIPs([]string{"api"})
	t.Run("strict", func(t *testing.T) { redirected(t, mesh.StrictVIPs, own, api, own["api"]) })
}

func redirected(t *testing.T, vips netip.Prefix, names map[string]netip.Addr, api mesh.Alias, at netip.Addr) {
	t.Helper()
	ns := envoytest.Netns(t)
	var lis [3]net.Listener // the control plane, the service, the application
	envoytest.In(t, ns, func() (err error) {
		for i, addr := range []string{"127.0.0.1:0", "127.0.0.1:0", "0.0.0.0:9090"} {
			if lis[i], err = net.Listen("tcp", addr); err != nil {
				return err
			}
		}
		_, err = redirect.Install(redirect.Rule{VIPs: vips, Port: bootstrap.RedirectPort})
		return err
	})
	c := startControlOn(t, lis[0])
	c.names = names
	c.store.SetServices("prod", []*mesh.Service{aliased("api", api, time.Minute, backendOn(t, lis[1], "api"))})
	backendOn(t, lis[2], "the app itself")
	e := c.task(t, "prod/web/1", ns)
	in := func(to string) (string, error) {
		var conn net.Conn
		envoytest.In(t, ns, func() (err error) { conn, err = net.Dial("tcp", to); return err })
		client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
			DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}}
		resp, err := client.Get("http://x/")
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
	if got, err := in(netip.AddrPortFrom(at, api.Port).String()); got != "api" {
		t.Errorf("the alias answered %q, %v", got, err)
	}
	if got, err := in("127.0.0.1:9090"); got != "the app itself" {
		t.Errorf("the application itself answered %q, %v", got, err)
	}
	if got, err := in(netip.AddrPortFrom(at.Next(), 80).String()); err == nil {
		t.Errorf("an address without an alias answered %q", got)
	}
	if n := e.Stats(t)["listener_manager.total_listeners_active"]; n != 2 {
		t.Errorf("%v listeners", n)
	}
}

// Ingress interception, as Service Connect has it: from outside, the
// application's own port is Envoy's; from within, it is the application. By
// IPv4 and by IPv6.
func TestInterceptedIngress(t *testing.T) {
	ns, outside := envoytest.Netns(t), envoytest.Netns(t)
	envoytest.Run(t, "ip", "link", "add", "pb0", "netns", ns, "type", "veth", "peer", "name", "pb1", "netns", outside)
	for name, addr := range map[string][3]string{ns: {"pb0", "192.0.2.1/24", "2001:db8::1/64"}, outside: {"pb1", "192.0.2.2/24", "2001:db8::2/64"}} {
		envoytest.Run(t, "ip", "-n", name, "addr", "add", addr[1], "dev", addr[0])
		envoytest.Run(t, "ip", "-n", name, "addr", "add", addr[2], "dev", addr[0], "nodad")
		envoytest.Run(t, "ip", "-n", name, "link", "set", addr[0], "up")
	}
	var lis [4]net.Listener // the control plane, and the applications
	plain, sealed, other := offer(t, "plain", mesh.HTTP, 8080, ""), offer(t, "sealed", mesh.HTTP, 8081, "default"), uint16(8082)
	envoytest.In(t, ns, func() (err error) {
		for i, addr := range []string{"127.0.0.1:0", ":8080", ":8081", ":8082"} {
			if lis[i], err = net.Listen("tcp", addr); err != nil {
				return err
			}
		}
		_, err = redirect.Install(redirect.Rule{VIPs: mesh.LiveVIPs, Port: bootstrap.RedirectPort, IPv6: true, Ingress: map[uint16]uint16{plain.AppPort: plain.ListenerPort, sealed.AppPort: sealed.ListenerPort}})
		return err
	})
	for i, says := range []string{"plain", "sealed", "other"} {
		backendOn(t, lis[i+1], says)
	}
	ca := testca.New(t)
	c := startControlOn(t, lis[0])
	c.ipv6 = true
	c.trust(ca)
	c.issue(t, ca, "sealed", "1")
	c.store.SetServices("prod", nil)
	e := c.task(t, "prod/web/1", ns, plain, sealed)
	ask := func(from, scheme, to string) string {
		var conn net.Conn
		envoytest.In(t, from, func() (err error) {
			conn, err = net.DialTimeout("tcp", to, 5*time.Second)
			return err
		})
		client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: albTLS("http/1.1"),
			DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}}
		resp, err := client.Get(scheme + "://x/")
		if err != nil {
			return "refused"
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body) //nolint:errcheck // what came tells
		return string(b)
	}
	through := func() float64 {
		s := e.Stats(t)
		return s["listener.ingress-plain.downstream_cx_total"] + s["listener.ingress-sealed.downstream_cx_total"]
	}
	for _, x := range []struct {
		from, scheme, to, want string
		envoy                  float64
	}{
		{outside, "http", "192.0.2.1:8080", "plain", 1},
		{outside, "https", "192.0.2.1:8081", "sealed", 1},
		{outside, "http", "192.0.2.1:8081", "refused", 1},
		{outside, "http", fmt.Sprintf("192.0.2.1:%d", other), "other", 0},
		{ns, "http", "127.0.0.1:8081", "sealed", 0},
		{ns, "http", "192.0.2.1:8080", "plain", 0},
		{outside, "http", "[2001:db8::1]:8080", "plain", 1},
		{outside, "https", "[2001:db8::1]:8081", "sealed", 1},
		{outside, "http", "[2001:db8::1]:8081", "refused", 1},
		{outside, "http", fmt.Sprintf("[2001:db8::1]:%d", other), "other", 0},
		{ns, "http", "[::1]:8081", "sealed", 0},
		{ns, "http", "[2001:db8::1]:8080", "plain", 0},
	} {
		before := through()
		if got := ask(x.from, x.scheme, x.to); got != x.want || through()-before != x.envoy {
			t.Errorf("%s to %s from %s: %q, %v connections to Envoy; want %q and %v", x.scheme, x.to, x.from, got, through()-before, x.want, x.envoy)
		}
	}
}
