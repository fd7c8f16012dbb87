package xds

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"sync"
	"testing"

	"patchbay/internal/testca"
	"patchbay/mesh"
	"patchbay/mesh/policy"
	"patchbay/xds/bootstrap"
)

// What an authorization means is written twice: for Envoy, and for those who
// ask why a call was refused. Here the two are one.

// judged are the rules that each call below is held against, with every field
// of a rule, alone and together, present and empty.
var judged = []string{
	`"rules": []`,
	`"rules": [{"from": ["*"]}]`,
	`"rules": [{"from": ["*/*"]}]`,
	`"rules": [{"from": ["web", "other/batch", "ops/*"]}]`,
	`"rules": [{"from": ["web"], "methods": [], "paths": [], "prefixes": []}]`,
	`"rules": [{"from": ["web"], "methods": ["GET", "PATCH"]}, {"from": ["ops/*"], "methods": ["POST"], "paths": ["/v1"]}]`,
	`"rules": [{"from": ["web"], "methods": ["GET"], "prefixes": ["/v1", "/files/"]}, {"from": ["ops/*"]}, {"from": ["*"], "paths": ["/healthz"]}, {"from": ["*/*"], "paths": ["/members"]}]`,
	`"rules": [{"from": ["*"], "paths": ["/", "/v1/", "/a.b*c", "/%41", "/v1/x"]}]`,
	`"rules": [{"from": ["*"], "prefixes": ["/v1/", "/.a", "/a.b", "/%C3%BC"]}]`,
	`"rules": [{"from": ["*", "web"], "prefixes": ["/"]}, {"from": ["*/*"], "methods": ["POST"]}]`,
	`"dryRun": true, "rules": [{"from": ["web"], "methods": ["GET"], "paths": ["/members"], "prefixes": ["/v1"]}]`,
}

// callers are those who call, by what their certificate says; the first has none.
var callers = []mesh.Workload{{}, {Namespace: "prod", Name: "web"}, {Namespace: "prod", Name: "webs"}, {Namespace: "other", Name: "web"}, {Namespace: "other", Name: "batch"},
	{Namespace: "ops", Name: "admin"}, {Namespace: "opsx", Name: "web"}}

// asked is what is asked of each.
var asked = func() (out []policy.Call) {
	for _, path := range []string{
		"/", "/v1", "/v1/", "/v1/x", "/v10", "/V1", "/v1/x/y/", "/healthz", "/healthz/", "/HEALTHZ", "/healthz;a=b", "/members", "/files", "/files/", "/files/a", "/nothing",
		// A query is no part of a path, whatever it has.
		"/v1?q=1", "/v1?x=/../admin", "/admin?x=/v1/", "/?", "/healthz?%2f", "/v1/x?a//b",
		// What is made plain where a rule goes by paths.
		"/v1/../admin", "/admin/../v1", "/v1/..", "/v1/.", "/v1/./x", "/..", "/../v1", "//v1", "//v1//x", "/v1//", "/v1/x//../y", "/v1//../healthz",
		"/v1/%2e%2e/admin", "/v1/%2E./admin", "/v1/%2e", "/a%2eb", "/.a", "/%2ea", "/v1/...", "/v1/%252e%252e/admin",
		"/v1/..;/admin", "/v1/..;a=b/admin", "/v1/.;/x", "/v1/..;", "/v1/%2e%2e;/admin", "/v1/...;/admin", "/v1/..%3b/admin", `/v1/..;\admin`,
		`/v1\x`, `/v1\..\admin`,
		// What is refused there, because an application could read it either way.
		"/v1%2fx", "/v1%2F..%2Fadmin", "/v1%5cx", "/%2f",
		// Other escapes, and what a URI may not hold.
		"/%761", "/v%31", "/%41", "/A", "/%68ealthz", "/%76%31/x", "/v1/%7Ex", "/v1%3fx", "/v1%20", "/healthz%20", "/%C3%BC", "/%c3%bc", "/a.b*c", "/a.bxc", "/v1/%zz", "/v1/%", "/v1|b", "/v1/a|b", "/v1/a{b}", "/v1/a^b", "/v1/a`b", `/v1/"`, "/v1/<a>", "/v1/~", "/v1/a'b(c)", "/v1/a@b:c",
	} {
		out = append(out, policy.Call{Method: "GET", Path: path})
	}
	for _, method := range []string{"POST", "PATCH", "DELETE", "OPTIONS"} {
		for _, path := range []string{"/", "/v1", "/v1/../healthz", "/members"} {
			out = append(out, policy.Call{Method: method, Path: path})
		}
	}
	return out
}()

// TestTheJudgeSaysWhatEnvoyDoes: each rule with each caller and each request is
// judged as Envoy judges it.
func TestTheJudgeSaysWhatEnvoyDoes(t *testing.T) {
	ca := testca.New(t)
	c := mutual(t, ca)
	app := yes(t)
	var ports []bootstrap.Port
	for i, rules := range judged {
		port := offer(t, fmt.Sprintf("s%d", i), mesh.HTTP, app, "default")
		port.Policy = wants(t, `{"mutualTls": {"mode": "permissive"}, "authorization": {`+rules+`}}`)
		c.issue(t, ca, port.DiscoveryName, "1")
		ports = append(ports, port)
	}
	c.store.SetServices("prod", nil)
	c.task(t, "prod/api/1", "", ports...)
	shown := certificates(t, ca)
	var all sync.WaitGroup
	for i, port := range ports {
		all.Go(func() {
			for n, who := range callers {
				line := &line{ctx: t.Context(), port: port.ListenerPort, cert: shown[n]}
				defer line.close()
				for _, call := range asked {
					call.Namespace, call.Workload = who.Namespace, who.Name
					rule, why := port.Policy.Authorization.Judge("prod", call)
					code, err := line.ask(call)
					if want := rule >= 0 || port.Policy.Authorization.DryRun; err != nil || (code == http.StatusOK) != want {
						t.Errorf("%s\n%s: the judge says rule %d, %q; Envoy answers %d, %v", judged[i], call, rule, why, code, err)
					}
				}
			}
		})
	}
	all.Wait()
}

// TestTheJudgeSaysWhoConnects: the same of connections.
func TestTheJudgeSaysWhoConnects(t *testing.T) {
	ca := testca.New(t)
	c := mutual(t, ca)
	app := tcpApp(t)
	var ports []bootstrap.Port
	for i, rules := range []string{`[]`, `[{"from": ["*/*"]}]`, `[{"from": ["web", "other/batch"]}, {"from": ["ops/*"]}]`, `[{"from": ["other/*"]}]`} {
		port := offer(t, fmt.Sprintf("s%d", i), mesh.TCP, app, "default")
		port.Policy = wants(t, `{"mutualTls": {"mode": "required"}, "authorization": {"rules": `+rules+`}}`)
		c.issue(t, ca, port.DiscoveryName, "1")
		ports = append(ports, port)
	}
	c.store.SetServices("prod", nil)
	c.task(t, "prod/db/1", "", ports...)
	shown := certificates(t, ca)
	for _, port := range ports {
		for n, who := range callers {
			rule, _ := port.Policy.Authorization.Judge("prod", policy.Call{Namespace: who.Namespace, Workload: who.Name})
			conn, err := dialAs(t.Context(), port.ListenerPort, shown[n])
			if err == nil { // the application speaks first
				_, err = conn.Read(make([]byte, 8))
				conn.Close()
			}
			if (err == nil) != (rule >= 0) {
				t.Errorf("%s, %q: the judge says rule %d, Envoy %v", port.DiscoveryName, who, rule, err)
			}
		}
	}
}

// certificates are those of the callers; the first is nil.
func certificates(t *testing.T, ca *testca.CA) []*tls.Certificate {
	t.Helper()
	out := []*tls.Certificate{nil}
	for _, w := range callers[1:] {
		out = append(out, certificate(t)(ca.Issue(t, w.SPIFFEID("mesh.test"))))
	}
	return out
}

// yes is an application that takes any request, however odd, and answers 200 and
// the host that was asked for.
func yes(t *testing.T) (port uint16) {
	t.Helper()
	lis, port := listen(t)
	t.Cleanup(func() { lis.Close() })
	go func() {
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				host := ""
				for in := textproto.NewReader(bufio.NewReader(conn)); ; {
					text, err := in.ReadLine()
					if err != nil {
						return
					}
					if of, is := strings.CutPrefix(text, "host: "); is { // as Envoy writes it
						host = of
					}
					if text == "" { // the end of a request without a body
						fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(host), host)
					}
				}
			}()
		}
	}()
	return port
}

// line is a connection that is made anew when the other side has closed it.
type line struct {
	ctx  context.Context //nolint:containedctx // the test's
	port uint16
	cert *tls.Certificate
	conn net.Conn
	in   *bufio.Reader
}

// ask sends a call as it stands, and returns the status of the answer.
func (l *line) ask(call policy.Call) (int, error) {
	if l.conn != nil {
		if code, err := l.try(call); err == nil {
			return code, nil
		}
		l.close()
	}
	return l.try(call)
}

func (l *line) try(call policy.Call) (int, error) {
	if l.conn == nil {
		conn, err := dialAs(l.ctx, l.port, l.cert)
		if err != nil {
			return 0, err
		}
		l.conn, l.in = conn, bufio.NewReader(conn)
	}
	if _, err := fmt.Fprintf(l.conn, "%s %s HTTP/1.1\r\nHost: api.prod\r\nContent-Length: 0\r\n\r\n", call.Method, call.Path); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(l.in, nil)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if resp.Close {
		l.close()
	}
	return resp.StatusCode, errors.Join(err, resp.Body.Close())
}

func (l *line) close() {
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
}
