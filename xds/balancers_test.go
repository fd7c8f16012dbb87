package xds

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"patchbay/internal/envoytest"
	"patchbay/mesh"
	"patchbay/sidecar/closed"
)

// What load balancers in front of the mesh do to an ingress.

// albTLS is how an Application Load Balancer speaks to its targets: it says no
// name and verifies nothing.
func albTLS(protocols ...string) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: protocols} //nolint:gosec // as it does
}

// alb sends a request as a target group of HTTPS does, with the headers of an
// Application Load Balancer.
func alb(t *testing.T, client *http.Client, url, agent string) (status int, proto, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"User-Agent": {agent}}
	if agent != "ELB-HealthChecker/2.0" {
		req.Host = "shop.example.com"
		for k, v := range map[string]string{"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "443", "X-Amzn-Trace-Id": "Root=1-67891233-abcdef012345678912345678"} {
			req.Header.Set(k, v)
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Proto, string(b)
}

func TestAnApplicationLoadBalancerInFront(t *testing.T) {
	app := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" && r.UserAgent() != "ELB-HealthChecker/2.0" {
			w.WriteHeader(http.StatusBadRequest)
		}
		fmt.Fprint(w, r.Host, " ", r.Header["X-Forwarded-For"], r.Header["X-Forwarded-Proto"], r.Header["X-Forwarded-Port"], r.Header["X-Amzn-Trace-Id"])
	}))
	app.Config.Protocols = &http.Protocols{}
	app.Config.Protocols.SetHTTP1(true)
	app.Config.Protocols.SetUnencryptedHTTP2(true)
	app.Start()
	t.Cleanup(app.Close)
	port := netip.MustParseAddrPort(app.Listener.Addr().String()).Port()
	const seen = "shop.example.com [203.0.113.7] [https] [443] [Root=1-67891233-abcdef012345678912345678]"
	for _, group := range []struct {
		protocol mesh.Protocol
		alpn     []string
		proto    string
	}{{mesh.HTTP, []string{"http/1.1"}, "HTTP/1.1"}, {mesh.HTTP, nil, "HTTP/1.1"}, {mesh.HTTP2, []string{"h2"}, "HTTP/2.0"}} {
		p := startPair(t, group.protocol, port)
		for i := range p.ports {
			if p.ports[i].TLS == nil {
				continue
			}
			client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: albTLS(group.alpn...), ForceAttemptHTTP2: group.proto == "HTTP/2.0"}}
			url := fmt.Sprintf("https://127.0.0.1:%d", p.ports[i].ListenerPort)
			for range 3 { // a check, then requests on the same connections
				if code, proto, _ := alb(t, client, url+"/health", "ELB-HealthChecker/2.0"); code != http.StatusOK || proto != group.proto {
					t.Errorf("%v: the check has %d by %s", group, code, proto)
				}
				if code, proto, body := alb(t, client, url, "a browser"); code != http.StatusOK || body != seen || proto != group.proto {
					t.Errorf("%v: %d %q by %s, want %q", group, code, body, proto, seen)
				}
			}
			client.CloseIdleConnections()
			if n := p.callee.Stats(t)["listener.ingress-tls.ssl.connection_error"]; n != 0 {
				t.Errorf("%v: %v handshakes failed", group, n)
			}
		}
		p.callee.Stop()
		p.caller.Stop()
	}
}

// A target group of gRPC checks a method that no application has; any status
// of gRPC says that it lives.
func TestATargetGroupOfGRPC(t *testing.T) {
	_, port := startRPCs(t)
	p := startPair(t, mesh.GRPC, port)
	for _, in := range p.ports {
		if in.TLS == nil {
			continue
		}
		conn, err := grpc.NewClient(fmt.Sprintf("127.0.0.1:%d", in.ListenerPort), grpc.WithTransportCredentials(credentials.NewTLS(albTLS("h2"))))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.Invoke(t.Context(), "/AWS.ALB/healthcheck", &pb.Empty{}, &pb.Empty{}); status.Code(err) != codes.Unimplemented {
			t.Errorf("the check: %v", err)
		}
		if _, err := pb.NewTestServiceClient(conn).EmptyCall(t.Context(), &pb.Empty{}); err != nil {
			t.Error(err)
		}
	}
}

// A Network Load Balancer with "preserve client IP by PROXY protocol v2": the
// ingress does not speak it. Nothing of it reaches an application, and the
// access log and the statistics tell.
func TestTheProxyProtocolIsRefused(t *testing.T) {
	app, calls := counting(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "reached") })
	p := startPair(t, mesh.HTTP, app)
	preamble := "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x07\x0a\x00\x00\x01\xc0\x00\x01\xbb"
	for _, in := range p.ports {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", in.ListenerPort))
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(5 * time.Second)) //nolint:errcheck // a TCP connection has deadlines
		fmt.Fprintf(conn, "%sGET / HTTP/1.1\r\nHost: api\r\n\r\n", preamble)
		got, _ := io.ReadAll(conn) // a reset is an answer too
		conn.Close()
		if calls.Load() != 0 || strings.Contains(string(got), "reached") {
			t.Errorf("%s: a request behind the preamble is served: %q", in.PortName, got)
		}
		if in.TLS == nil && !strings.HasPrefix(string(got), "HTTP/1.1 400 ") {
			t.Errorf("%s: %q", in.PortName, got)
		}
	}
	envoytest.Eventually(t, 5*time.Second, func() error {
		s := p.callee.Stats(t)
		if a, b := s["listener.ingress-tls.ssl.connection_error"], s["http.ingress.downstream_cx_protocol_error"]; a != 1 || b != 1 {
			return fmt.Errorf("%v handshakes failed, %v connections were no HTTP", a, b)
		}
		return nil
	})
}

// The TCP check of a Network Load Balancer fails while the application is dead,
// and what is under way ends well.
func TestATCPCheckSeesADeadApplication(t *testing.T) {
	ns := envoytest.Netns(t)
	var lis [2]net.Listener // the control plane, the application
	envoytest.In(t, ns, func() (err error) {
		for i := range lis {
			if lis[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
				return err
			}
		}
		return nil
	})
	entered, release := make(chan struct{}), make(chan struct{})
	app := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		entered <- struct{}{}
		<-release
		fmt.Fprint(w, "done")
	})}
	go app.Serve(lis[1]) //nolint:errcheck // it ends with Close
	t.Cleanup(func() { app.Close() })
	c := startControlOn(t, lis[0])
	port := offer(t, "api", mesh.HTTP, uint16(lis[1].Addr().(*net.TCPAddr).Port), "")
	c.store.SetServices("prod", []*mesh.Service{offered(mesh.HTTP, freeAlias(t, "api"), port)})
	c.task(t, "prod/api/1", ns, port)
	dial := func() (conn net.Conn, err error) {
		envoytest.In(t, ns, func() error {
			conn, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port.ListenerPort))
			return nil
		})
		return conn, err
	}
	standing, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer standing.Close()
	standing.SetDeadline(time.Now().Add(10 * time.Second)) //nolint:errcheck // a TCP connection has deadlines
	fmt.Fprint(standing, "GET / HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n")
	<-entered
	envoytest.In(t, ns, func() error { return closed.Set([]uint16{port.ListenerPort}) })
	if conn, err := dial(); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the check has %v, %v", conn, err)
	}
	close(release)
	if got, err := io.ReadAll(standing); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 200 ") || !strings.Contains(string(got), "done") {
		t.Errorf("the request under way: %q, %v", got, err)
	}
	envoytest.In(t, ns, func() error { return closed.Set(nil) })
	if conn, err := dial(); err != nil {
		t.Errorf("the check of a live application: %v", err)
	} else {
		conn.Close()
	}
}
