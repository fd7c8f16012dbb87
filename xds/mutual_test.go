package xds

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"patchbay/internal/envoytest"
	"patchbay/internal/testca"
	"patchbay/mesh"
	"patchbay/mesh/policy"
	"patchbay/xds/bootstrap"
)

// Mutual TLS and authorization, on real Envoys.

func spiffe(workload string) string { return "spiffe://mesh.test/workload/" + workload }

// mutual is a control plane whose callers have certificates of ca, as soon as
// they need one.
func mutual(t *testing.T, ca *testca.CA) *control {
	t.Helper()
	c := startControl(t, 0, Identities("mesh.test", "default"))
	c.trust(ca)
	gone := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			snap := c.store.Snapshot()
			for _, w := range snap.Callers {
				if snap.Leaves[w.CertificateName()] == nil {
					c.identify(t, ca, w, "1")
				}
			}
			select {
			case <-c.store.Changed(snap.Generation):
			case <-gone:
				return
			}
		}
	}()
	t.Cleanup(func() { close(gone); <-ended })
	return c
}

// identify gives a workload a certificate to call with.
func (c *control) identify(t *testing.T, ca *testca.CA, w mesh.Workload, serial string) {
	chain, key := ca.Issue(t, w.SPIFFEID("mesh.test"))
	c.store.SetLeaf(&mesh.Leaf{Service: w.CertificateName(), Issuer: "default", Serial: serial, ChainPEM: chain, KeyPEM: key})
}

// wish is the policy of a port and of its service.
func wish(t *testing.T, s *mesh.Service, port *bootstrap.Port, text string) {
	t.Helper()
	port.Policy = wants(t, text)
	s.Policy = port.Policy
}

func mode(m string) string { return fmt.Sprintf(`{"mutualTls": {"mode": %q}}`, m) }

// dialAs connects to a port as whoever has cert, nil is nobody, for as long as
// a test may take.
func dialAs(ctx context.Context, port uint16, cert *tls.Certificate) (net.Conn, error) {
	cfg := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}} //nolint:gosec // it is the callers that are judged
	if cert != nil {                                                               // whatever CA is asked for
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	conn, err := (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err == nil {
		err = conn.SetDeadline(time.Now().Add(time.Minute))
	}
	return conn, err
}

// direct calls a port as whoever has cert; a handshake of TLS 1.3 is over
// before the other side has judged it, so it sends a request.
func direct(t *testing.T, port uint16, cert *tls.Certificate, method, path string) (code int, body string, err error) {
	t.Helper()
	conn, err := dialAs(t.Context(), port, cert)
	if err != nil {
		return 0, "", err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: api.prod\r\nConnection: close\r\n\r\n", method, path); err != nil {
		return 0, "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// certificate is what a CA has issued, for crypto/tls.
func certificate(t *testing.T) func(chain, key []byte) *tls.Certificate {
	return func(chain, key []byte) *tls.Certificate {
		t.Helper()
		pair, err := tls.X509KeyPair(chain, key)
		if err != nil {
			t.Fatal(err)
		}
		return &pair
	}
}

func TestWhoGetsInByMutualTLS(t *testing.T) {
	ca, stranger := testca.New(t), testca.New(t)
	c := mutual(t, ca)
	app := backend(t, "ok").Port()
	var ports []bootstrap.Port
	var services []*mesh.Service
	listeners := map[string]uint16{}
	for name, text := range map[string]string{
		"off": mode("off"), "permissive": mode("permissive"), "required": mode("required"), "exempt": `{"mutualTls": {"mode": "required", "exempt": ["exempt"]}}`,
	} {
		c.issue(t, ca, name, "1")
		port := offer(t, name, mesh.HTTP, app, "default")
		s := offered(mesh.HTTP, freeAlias(t, name), port)
		wish(t, s, &port, text)
		listeners[name], ports, services = port.ListenerPort, append(ports, port), append(services, s)
	}
	c.store.SetServices("prod", services)
	c.task(t, "prod/api/1", "", ports...)

	web := certificate(t)(ca.Issue(t, spiffe("prod/web")))
	for who, cert := range map[string]*tls.Certificate{
		"nobody": nil, "a workload": web,
		"another trust domain": certificate(t)(ca.Issue(t, "spiffe://other.test/workload/prod/web")),
		"another CA":           certificate(t)(stranger.Issue(t, spiffe("prod/web"))),
		"expired":              certificate(t)(ca.IssueUntil(t, time.Now().Add(-time.Second), spiffe("prod/web"))),
		"a service":            certificate(t)(ca.Issue(t, "web.prod", "spiffe://mesh.test/service/prod/web")),
		"a node":               certificate(t)(ca.Issue(t, "spiffe://mesh.test/node/prod/web/1")),
		"a similar domain":     certificate(t)(ca.Issue(t, "spiffe://mesh.test.evil.example/workload/prod/web")),
	} {
		for at, port := range listeners {
			asks := at == "permissive" || at == "exempt"
			// Whoever shows a good certificate that is no workload's is nobody.
			nobody := who == "nobody" || who == "another trust domain" || who == "a service" || who == "a node" || who == "a similar domain"
			want := at == "off" || who == "a workload" || asks && nobody
			code, _, err := direct(t, port, cert, "GET", "/")
			if got := err == nil && code == 200; got != want {
				t.Errorf("%s at %s: %d, %v; let in should be %v", who, at, code, err, want)
			}
		}
	}
	if resp, err := oneCall.Get(fmt.Sprintf("http://127.0.0.1:%d", listeners["permissive"])); err == nil {
		resp.Body.Close()
		t.Error("permissive takes plain text")
	}
}

func TestMutualTLSIsSwitchedOnUnderLoad(t *testing.T) {
	ca := testca.New(t)
	c := mutual(t, ca)
	c.issue(t, ca, "api", "1")
	api := freeAlias(t, "api")
	task := map[string]bootstrap.Port{}
	envoys := map[string]*envoytest.Envoy{}
	at := func(m string) *mesh.Service {
		s := offered(mesh.HTTP, api, task[m])
		s.Policy = task[m].Policy
		return s
	}
	for _, m := range policy.Modes {
		port := offer(t, "api", mesh.HTTP, backend(t, m).Port(), "default")
		port.Policy = wants(t, mode(m))
		task[m] = port
	}
	c.store.SetServices("prod", []*mesh.Service{at("off")})
	for _, m := range policy.Modes {
		envoys[m] = c.task(t, "prod/api/"+m, "", task[m])
	}
	c.task(t, "prod/web/1", "")
	if len(c.store.Snapshot().Callers) > 0 {
		t.Error("somebody needs a certificate although nobody asks")
	}
	stop := load(api)
	// Up step by step, down again, and up at once.
	for _, m := range []string{"off", "permissive", "required", "permissive", "off", "required"} {
		c.store.SetServices("prod", []*mesh.Service{at(m)})
		eventually(t, says(api, m))
		c.settled(t)
	}
	for i := range 10 { // and its certificate is replaced while it calls
		c.identify(t, ca, mesh.Workload{Namespace: "prod", Name: "web"}, fmt.Sprint("rotated", i))
		c.settled(t)
		if err := says(api, "required")(); err != nil {
			t.Error(err)
		}
	}
	if n, err := stop(); err != nil || n < 1 {
		t.Errorf("%d requests, the first failure: %v", n, err)
	}
	if s := envoys["required"].Stats(t); s["listener.ingress-api.ssl.handshake"] == 0 || s["listener.ingress-api.ssl.no_certificate"] != 0 {
		t.Errorf("handshakes: %v, without a certificate: %v", s["listener.ingress-api.ssl.handshake"], s["listener.ingress-api.ssl.no_certificate"])
	}
	if s := envoys["permissive"].Stats(t); s["listener.ingress-api.ssl.handshake"] <= s["listener.ingress-api.ssl.no_certificate"] {
		t.Errorf("of %v connections to the permissive one, %v had no certificate", s["listener.ingress-api.ssl.handshake"], s["listener.ingress-api.ssl.no_certificate"])
	}
}

func TestAuthorizationByWorkloadMethodAndPath(t *testing.T) {
	ca := testca.New(t)
	c := mutual(t, ca)
	c.issue(t, ca, "api", "1")
	app, calls := counting(t, saying("api"))
	port := offer(t, "api", mesh.HTTP, app, "default")
	s := offered(mesh.HTTP, freeAlias(t, "api"), port)
	wish(t, s, &port, `{"mutualTls": {"mode": "permissive"}, "authorization": {"rules": [
		{"from": ["web"], "methods": ["GET"], "prefixes": ["/v1", "/files/"]},
		{"from": ["ops/*"]}, {"from": ["*"], "paths": ["/healthz"]}, {"from": ["*/*"], "paths": ["/members"]}]}}`)
	c.store.SetServices("prod", []*mesh.Service{s})
	e := c.task(t, "prod/api/1", "", port)
	c.task(t, "prod/web/1", "")
	who := map[string]*tls.Certificate{"": nil}
	for _, w := range []string{"prod/web", "other/web", "ops/admin", "prod/webs"} {
		who[w] = certificate(t)(ca.Issue(t, spiffe(w)))
	}
	for _, x := range []struct {
		who, method, path string
		want              int
	}{
		{"prod/web", "GET", "/v1", 200}, {"prod/web", "GET", "/v1/x?q=1", 200}, {"prod/web", "GET", "/v10", 403}, {"prod/web", "POST", "/v1", 403},
		{"prod/web", "GET", "/files/a", 200}, {"prod/web", "GET", "/files", 403}, {"prod/web", "GET", "/", 403},
		{"prod/web", "GET", "/v1/../admin", 403}, {"prod/web", "GET", "//v1/x", 200}, {"prod/web", "GET", "/v1/%2e%2e/admin", 403}, {"prod/web", "GET", "/v1/..%2fadmin", 400},
		{"prod/web", "GET", "/v1/..;/admin", 403}, {"prod/web", "GET", "/v1/%2e%2e;/admin", 403}, {"prod/web", "GET", "/v1/x;y/z", 200},
		{"other/web", "GET", "/v1", 403}, {"prod/webs", "GET", "/v1", 403}, {"ops/admin", "DELETE", "/anything", 200},
		{"", "GET", "/v1", 403}, {"", "GET", "/healthz", 200}, {"other/web", "PUT", "/healthz", 200},
		{"other/web", "GET", "/members", 200}, {"", "GET", "/members", 403},
	} {
		before := calls.Load()
		code, body, err := direct(t, port.ListenerPort, who[x.who], x.method, x.path)
		if err != nil || code != x.want {
			t.Errorf("%q %s %s: %d %q, %v; want %d", x.who, x.method, x.path, code, body, err, x.want)
		}
		if asked := calls.Load() > before; asked != (x.want == 200) {
			t.Errorf("%q %s %s: the application was asked: %v", x.who, x.method, x.path, asked)
		}
	}
	// A caller with a sidecar is known by its certificate, and who is refused
	// stands in the log.
	if code, body := send(t, "GET", s.Aliases[0], "/v1/mine"); code != 200 {
		t.Errorf("%d %s", code, body)
	}
	if code, body := send(t, "GET", s.Aliases[0], "/v2/not"); code != 403 || body != "RBAC: access denied" {
		t.Errorf("%d %q", code, body)
	}
	logged(t, e, `"authorization":"denied"`, `"caller":"spiffe://mesh.test/workload/prod/web"`, `"service":"api.prod"`, `"path":"/v2/not"`, "rbac_access_denied_matched_policy[none]")
	// What a caller says of itself is not what the log goes by.
	send(t, "GET", s.Aliases[0], "/v2/hidden", "x-forwarded-for", "192.0.2.6", "x-envoy-original-path", "/v1/mine", "x-forwarded-client-cert", "URI="+spiffe("ops/admin"))
	logged(t, e, `"authorization":"denied"`, `"caller":"spiffe://mesh.test/workload/prod/web"`, `"path":"/v2/hidden"`, `"address":"127.0.0.1"`)
	if strings.Contains(e.Log(1000), "/v1/mine") {
		t.Error("what is allowed is logged")
	}
	if n := e.Stats(t)["http.ingress.rbac.denied"]; n < 9 {
		t.Errorf("%v denials are counted", n)
	}
}

// logged waits for a line of Envoy's output that has all of the parts.
func logged(t *testing.T, e *envoytest.Envoy, parts ...string) {
	t.Helper()
	eventually(t, func() error {
		for line := range strings.Lines(e.Log(1000)) {
			if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
				return nil
			}
		}
		return fmt.Errorf("no line of the log has %q", parts)
	})
}

// TestNoAuthorizationIsRejected: whatever the rules of a policy accept, Envoy
// takes.
func TestNoAuthorizationIsRejected(t *testing.T) {
	ca := testca.New(t)
	c := mutual(t, ca)
	var ports []bootstrap.Port
	long := strings.Repeat("a", 128)
	for i, rules := range []string{
		`[]`, `[{"from":["*"]}]`, `[{"from":["*","a"]}]`, `[{"from":["a","b/c","d/*","A.b_c-1","*/*"]},{"from":["` + long + `/` + long + `"]}]`,
		`[{"from":["a"],"methods":["GET","M-SEARCH","A|B"],"paths":["/a.b*c(d","/"],"prefixes":["/","/x","/x/","/%41[","/` + long + `"]}]`,
		`[{"from":["a"],"methods":[],"paths":[],"prefixes":[]}]`, `[` + strings.Repeat(`{"from":["a"]},`, 99) + `{"from":["b"]}]`,
	} {
		for _, more := range []string{"", `"dryRun":true,`} {
			for _, protocol := range []mesh.Protocol{mesh.HTTP, mesh.GRPC, mesh.TCP} {
				port := offer(t, fmt.Sprintf("s%d", len(ports)), protocol, 9, "default")
				for slices.ContainsFunc(ports, func(o bootstrap.Port) bool { return o.ListenerPort == port.ListenerPort }) {
					port.ListenerPort = freePort(t)
				}
				p := wants(t, `{"mutualTls":{"mode":"required"},"authorization":{`+more+`"rules":`+rules+`}}`)
				if p.Misplaced(policy.OfService, protocol.L7()) != nil {
					continue
				}
				c.issue(t, ca, port.DiscoveryName, fmt.Sprint(i))
				port.Policy = p
				ports = append(ports, port)
			}
		}
	}
	c.store.SetServices("prod", nil)
	e := c.task(t, "prod/api/1", "", ports...)
	if s := e.Stats(t); s["listener_manager.lds.update_rejected"] != 0 || s["listener_manager.total_listeners_active"] < float64(len(ports)) {
		t.Errorf("rejected: %v, active: %v of %d", s["listener_manager.lds.update_rejected"], s["listener_manager.total_listeners_active"], len(ports))
	}
	if w := c.pusher.Withheld(); len(w) != 0 {
		t.Errorf("withheld: %+v", w)
	}
}

func TestAuthorizationDryRun(t *testing.T) {
	ca := testca.New(t)
	c := mutual(t, ca)
	c.issue(t, ca, "api", "1")
	app, _ := counting(t, saying("api"))
	port := offer(t, "api", mesh.HTTP, app, "default")
	s := offered(mesh.HTTP, freeAlias(t, "api"), port)
	wish(t, s, &port, `{"mutualTls": {"mode": "required"}, "authorization": {"dryRun": true, "rules": [{"from": ["batch"]}]}}`)
	c.store.SetServices("prod", []*mesh.Service{s})
	e := c.task(t, "prod/api/1", "", port)
	c.task(t, "prod/web/1", "")
	if code, body := send(t, "GET", s.Aliases[0], "/x"); code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	logged(t, e, `"authorization":"would be denied"`, `"caller":"spiffe://mesh.test/workload/prod/web"`, `"path":"/x"`)
	if st := e.Stats(t); st["http.ingress.rbac.shadow_denied"] != 1 || st["http.ingress.rbac.denied"] != 0 {
		t.Errorf("would be denied: %v, denied: %v", st["http.ingress.rbac.shadow_denied"], st["http.ingress.rbac.denied"])
	}
}

func TestAuthorizationDryRunOfConnections(t *testing.T) {
	ca := testca.New(t)
	c := mutual(t, ca)
	c.issue(t, ca, "db", "1")
	port := offer(t, "db", mesh.TCP, tcpApp(t), "default")
	s := offered(mesh.TCP, freeAlias(t, "db"), port)
	wish(t, s, &port, `{"mutualTls": {"mode": "required"}, "authorization": {"dryRun": true, "rules": [{"from": ["web"]}]}}`)
	c.store.SetServices("prod", []*mesh.Service{s})
	e := c.task(t, "prod/db/1", "", port)
	c.task(t, "prod/batch/1", "")
	if err := callTCP(s.Aliases[0]); err != nil {
		t.Error(err)
	}
	logged(t, e, `"authorization":"would be denied"`, `"caller":"spiffe://mesh.test/workload/prod/batch"`, `"service":"db.prod"`)
	if n := e.Stats(t)["tcp.ingress.rbac.shadow_denied"]; n != 1 {
		t.Errorf("%v are counted", n)
	}
}

func TestAuthorizationOfConnections(t *testing.T) {
	ca := testca.New(t)
	c := mutual(t, ca)
	c.issue(t, ca, "db", "1")
	port := offer(t, "db", mesh.TCP, tcpApp(t), "default")
	s := offered(mesh.TCP, freeAlias(t, "db"), port)
	wish(t, s, &port, `{"mutualTls": {"mode": "required"}, "authorization": {"rules": [{"from": ["web"]}]}}`)
	c.store.SetServices("prod", []*mesh.Service{s})
	e := c.task(t, "prod/db/1", "", port)
	web := c.task(t, "prod/web/1", "")
	if err := callTCP(s.Aliases[0]); err != nil {
		t.Error(err)
	}
	web.Stop()
	c.task(t, "prod/batch/1", "")
	if err := callTCP(s.Aliases[0]); err == nil {
		t.Error("another workload gets in")
	}
	if n := e.Stats(t)["listener.ingress-db.ssl.fail_verify_san"]; n == 0 {
		t.Error("no denial is counted")
	}
	logged(t, e, `"authorization":"denied"`, `"caller":"spiffe://mesh.test/workload/prod/batch"`, `"service":"db.prod"`, "no rule of its authorization allows it")
	// The server speaks first: whoever is refused must not hear it.
	for who, want := range map[string]bool{"prod/web": true, "prod/batch": false} {
		cert := certificate(t)(ca.Issue(t, spiffe(who)))
		conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port.ListenerPort), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{*cert}}) //nolint:gosec // it is the caller that is judged
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(5 * time.Second)) //nolint:errcheck // a TCP connection has deadlines
		if n, err := conn.Read(make([]byte, 8)); (n > 0) != want {
			t.Errorf("%s hears %d bytes, %v", who, n, err)
		}
		conn.Close()
	}
	// A probe of a load balancer connects and closes: no handshake, no denial.
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port.ListenerPort))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	// The application does not hear of those who are refused.
	if let, all := e.Stats(t)["cluster.app-db.upstream_cx_total"], e.Stats(t)["listener.ingress-db.ssl.handshake"]; let == 0 || let > all {
		t.Errorf("the application had %v connections, of %v with a certificate", let, all)
	}
	if log := e.Log(1000); strings.Contains(log, `"caller":"spiffe://mesh.test/workload/prod/web"`) || strings.Contains(log, `"caller":null`) {
		t.Errorf("who is let in, or calls nobody, is logged as denied:\n%s", log)
	}
}
