package xds

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"patchbay/internal/envoytest"
	"patchbay/internal/testca"
	"patchbay/mesh"
	"patchbay/xds/bootstrap"
)

// What limits of policies do to calls, on real Envoys.

// greeting is what a new connection of an alias is told; empty: it is closed.
func greeting(a mesh.Alias) (conn net.Conn, said string, err error) {
	conn, err = net.DialTimeout("tcp", vip(a), 10*time.Second)
	if err != nil {
		return nil, "", err
	}
	conn.SetDeadline(time.Now().Add(time.Minute)) //nolint:errcheck // a TCP connection has deadlines
	buf := make([]byte, 64)
	n, err := conn.Read(buf)
	if n == 0 && err != nil { // closed, in whatever way
		conn.Close()
		return nil, "", nil //nolint:nilerr // that it is closed is the answer
	}
	return conn, string(buf[:n]), nil
}

// greeter takes connections, says hello, and counts them.
func greeter(t *testing.T) (at netip.AddrPort, taken *atomic.Int64) {
	t.Helper()
	lis, _ := listen(t)
	t.Cleanup(func() { lis.Close() })
	taken = &atomic.Int64{}
	go func() {
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			taken.Add(1)
			go func() {
				defer conn.Close()
				io.WriteString(conn, "hello") //nolint:errcheck // the test reads it, or not
				io.Copy(io.Discard, conn)     //nolint:errcheck // until the other end has enough
			}()
		}
	}()
	return netip.MustParseAddrPort(lis.Addr().String()), taken
}

// Connections above the limit of a tcp service are closed by its own sidecar;
// the application does not hear of them, and the statistics do.
func TestALimitOfConnections(t *testing.T) {
	c, ca := startControl(t, 0), testca.New(t)
	c.trust(ca)
	c.issue(t, ca, "sealed", "1")
	const limit, calls = 3, 7
	taken := map[string]*atomic.Int64{}
	var ports []bootstrap.Port
	var services []*mesh.Service
	for n, issuer := range map[string]string{"plain": "", "sealed": "default"} {
		app, count := greeter(t)
		port := offer(t, n, mesh.TCP, app.Port(), issuer)
		port.Policy = wants(t, fmt.Sprintf(`{"rateLimit": {"requests": 1, "per": "1h", "burst": %d}}`, limit))
		taken[n], ports, services = count, append(ports, port), append(services, offered(mesh.TCP, freeAlias(t, n), port))
		services[len(services)-1].Policy = wants(t, `{"retries": {"max": 0}, "outlierDetection": {"failures": 2}}`)
	}
	c.store.SetServices("prod", services)
	callee, caller := c.task(t, "prod/api/1", "", ports...), c.task(t, "prod/web/1", "")
	for _, s := range services {
		n := s.Name.DiscoveryName
		let := 0
		for range calls {
			conn, said, err := greeting(s.Aliases[0])
			if err != nil {
				t.Fatal(err)
			}
			if said == "hello" {
				let++
				defer conn.Close()
			}
		}
		if let != limit || taken[n].Load() != limit {
			t.Errorf("%s: %d of %d connections were let in, and the application has %d; want %d", n, let, calls, taken[n].Load(), limit)
		}
	}
	if n := callee.Stats(t)["local_rate_limit.ingress.rate_limited"]; n != 2*(calls-limit) {
		t.Errorf("Envoy counts %v above the limit, want %d", n, 2*(calls-limit))
	}
	// With TLS a connection that is closed has failed for its caller, without it has not.
	eventually(t, func() error { // another thread of Envoy's leaves an endpoint out
		stats := caller.Stats(t)
		for n, want := range map[string][2]float64{"plain": {0, 0}, "sealed": {calls - limit, 1}} {
			failed, out := stats["cluster."+n+".prod.upstream_cx_connect_fail"], stats["cluster."+n+".prod.outlier_detection.ejections_enforced_total"]
			if failed != want[0] || out != want[1] {
				return fmt.Errorf("%s: %v connections failed, and %v endpoints are left out; want %v", n, failed, out, want)
			}
		}
		return nil
	})
}

// More than a caller may have under way is refused by its own sidecar.
func TestLimitsOfACaller(t *testing.T) {
	c := startControl(t, 0)
	release := make(chan struct{})
	var asked atomic.Int64
	hold := application(t, func(http.ResponseWriter, *http.Request) { asked.Add(1); <-release })
	requests := under(t, "requests", `{"connectionLimits": {"maxRequests": 2}}`, hold)
	waiting := under(t, "waiting", `{"connectionLimits": {"maxPendingRequests": 0}}`, hold)
	app, taken := greeter(t)
	connections := under(t, "connections", `{"connectionLimits": {"maxConnections": 2}}`, app)
	connections.Protocol = mesh.TCP
	c.store.SetServices("prod", []*mesh.Service{requests, waiting, connections})
	c.task(t, "prod/web/1", "")

	var held sync.WaitGroup
	for range 2 {
		held.Go(func() {
			if code := codeOf(patient, requests.Aliases[0], "/"); code != http.StatusOK {
				t.Errorf("of two requests one is answered %d", code)
			}
		})
	}
	eventually(t, func() error {
		if n := asked.Load(); n != 2 {
			return fmt.Errorf("%d requests are under way", n)
		}
		return nil
	})
	for range 3 {
		if code := codeOf(patient, requests.Aliases[0], "/"); code != http.StatusServiceUnavailable {
			t.Errorf("a third request is answered %d", code)
		}
	}
	// Each waits for a connection at first, and none may.
	if code := codeOf(patient, waiting.Aliases[0], "/"); code != http.StatusServiceUnavailable {
		t.Errorf("a request that may not wait is answered %d", code)
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("the application was asked %d times, want 2", n)
	}
	close(release)
	held.Wait()
	if code := codeOf(patient, requests.Aliases[0], "/"); code != http.StatusOK {
		t.Errorf("when the others have ended: %d", code)
	}

	var open []net.Conn
	for i := range 4 {
		conn, said, err := greeting(connections.Aliases[0])
		if err != nil {
			t.Fatal(err)
		}
		if (said == "hello") != (i < 2) {
			t.Errorf("connection %d is told %q", i, said)
		}
		if conn != nil {
			open = append(open, conn)
		}
	}
	if n := taken.Load(); n != 2 {
		t.Errorf("the application has %d connections", n)
	}
	for _, conn := range open {
		conn.Close()
	}
	eventually(t, func() error {
		conn, said, err := greeting(connections.Aliases[0])
		if err != nil || said != "hello" {
			return fmt.Errorf("when the others have ended: %q, %w", said, err)
		}
		return conn.Close()
	})
}

// TestAsksForHealthAreNoPartOfALimit: a service with much to do is not taken for
// sick by all of its callers.
func TestAsksForHealthAreNoPartOfALimit(t *testing.T) {
	c := startControl(t, 0)
	web, calls := counting(t, saying("web"))
	lis, rpc := listen(t)
	var asked atomic.Int64
	server := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		asked.Add(1)
		return handle(ctx, req)
	}))
	healthv1.RegisterHealthServer(server, health.NewServer())
	go server.Serve(lis) //nolint:errcheck // it ends with Stop
	t.Cleanup(server.Stop)

	var ports []bootstrap.Port
	var services []*mesh.Service
	for _, x := range []struct {
		name     string
		protocol mesh.Protocol
		app      uint16
		check    string
	}{{"web", mesh.HTTP, web, `"path": "/healthz"`}, {"rpc", mesh.GRPC, rpc, `"protocol": "grpc"`}} {
		port := offer(t, x.name, x.protocol, x.app, "")
		s := offered(x.protocol, freeAlias(t, x.name), port)
		wish(t, s, &port, `{"rateLimit": {"requests": 1, "per": "1h"}, "loadBalancing": {"panicThreshold": 0},
			"healthCheck": {`+x.check+`, "interval": "1s", "unhealthyThreshold": 1, "healthyThreshold": 1}}`)
		ports, services = append(ports, port), append(services, s)
	}
	c.store.SetServices("prod", services)
	c.task(t, "prod/api/1", "", ports...)
	c.task(t, "prod/client/1", "")
	envoytest.Eventually(t, time.Minute, func() error {
		if calls.Load() < 3 || asked.Load() < 3 {
			return fmt.Errorf("the applications were asked %d and %d times", calls.Load(), asked.Load())
		}
		return nil
	})
	api := services[0].Aliases[0]
	for i, want := range []int{200, 429, 429} {
		if code, body := send(t, "GET", api, "/"); code != want {
			t.Errorf("request %d: %d %s, want %d", i, code, body, want)
		}
	}
	if code, _ := send(t, "POST", api, "/healthz"); code != 429 {
		t.Errorf("what only looks like a check is answered %d", code)
	}
}
