package xds

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"patchbay/internal/envoytest"
	"patchbay/internal/testca"
	"patchbay/mesh"
	"patchbay/xds/bootstrap"
)

// Tasks run as in the product: a real Envoy beside each application, configured
// by the store, pushed by the engine.

// task starts the Envoy of a task; id is "namespace/workload/task". Wiring is
// bind unless a network namespace is named: then it is redirect, inside.
func (c *control) task(t *testing.T, id, netns string, ports ...bootstrap.Port) *envoytest.Envoy {
	t.Helper()
	meta := bootstrap.NodeMeta{Version: "test", Wiring: mesh.Bind, Ports: ports, AccessLog: c.accessLog, Dependencies: c.dependencies, Policies: c.policies}
	meta.IPv6, meta.EitherLoopback = c.ipv6, c.ipv6
	if c.names != nil {
		meta.Profile, meta.Names = mesh.Strict, c.names
	}
	switch {
	case netns != "":
		meta.Wiring = mesh.Redirect
	case len(ports) > 0:
		// All tasks of a test share one network: two Envoys of one user would
		// share the ports of aliases, and each get some of the connections.
		for _, s := range c.store.Snapshot().Services {
			for _, a := range s.Aliases {
				meta.ContainerPorts = append(meta.ContainerPorts, a.Port)
			}
		}
	}
	admin := filepath.Join(t.TempDir(), "admin.sock")
	b, err := bootstrap.Config{NodeID: id, NodeCluster: filepath.Dir(id), AdminSocket: admin, Meta: meta,
		XDS: []bootstrap.HostPort{{Host: "127.0.0.1", Port: c.port}}}.JSON()
	if err != nil {
		t.Fatal(err)
	}
	e := envoytest.Start(t, b, admin, netns)
	e.Ready(t)
	return e
}

// offer is a port of a task whose application listens on app; encrypted if
// issuer is not empty.
func offer(t *testing.T, discoveryName string, p mesh.Protocol, app uint16, issuer string) bootstrap.Port {
	t.Helper()
	port := bootstrap.Port{PortName: discoveryName, DiscoveryName: discoveryName, Protocol: p, AppPort: app, ListenerPort: freePort(t)}
	if issuer != "" {
		port.TLS = &bootstrap.PortTLS{Issuer: issuer}
	}
	return port
}

// offered is the service of which the ports are the endpoints.
func offered(p mesh.Protocol, a mesh.Alias, ports ...bootstrap.Port) *mesh.Service {
	s := &mesh.Service{Name: name(ports[0].DiscoveryName), Protocol: p, Aliases: []mesh.Alias{a}}
	for _, port := range ports {
		addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port.ListenerPort)
		s.Endpoints = append(s.Endpoints, mesh.Endpoint{InstanceID: addr.String(), Addr: addr, Weight: 1, TLS: port.TLS != nil})
		if port.TLS != nil {
			s.TLS = &mesh.ServiceTLS{Issuer: port.TLS.Issuer}
		}
	}
	return s
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	return unused(t, netip.IPv4Unspecified()) // the ingress will listen so
}

// handedOut are the ports that unused gave to somebody.
var handedOut sync.Map

// unused finds a port that nobody has. It lies below the range from which the
// system gives ports to clients, so that none of these takes it before it is
// used, and above those that a sidecar has by default, which a task may not choose.
func unused(t *testing.T, at netip.Addr) uint16 {
	t.Helper()
	for range 100 {
		port := uint16(20000 + rand.IntN(10000))
		lis, err := net.Listen("tcp", netip.AddrPortFrom(at, port).String())
		if err != nil {
			continue
		}
		lis.Close()
		if _, given := handedOut.LoadOrStore(port, true); !given {
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// trust makes ca the issuer "default".
func (c *control) trust(ca *testca.CA) {
	c.store.SetBundle(&mesh.Bundle{Issuer: "default", RootsPEM: ca.RootPEM})
}

// issue gives a service a leaf of ca, for its own name unless others are given.
func (c *control) issue(t *testing.T, ca *testca.CA, discoveryName, serial string, names ...string) {
	t.Helper()
	if names == nil {
		names = []string{discoveryName + ".prod"}
	}
	chain, key := ca.Issue(t, names...)
	c.store.SetLeaf(&mesh.Leaf{Service: name(discoveryName), Issuer: "default", Serial: serial, ChainPEM: chain, KeyPEM: key})
}

// grpcApp is a gRPC server; it returns its port.
func grpcApp(t *testing.T) uint16 {
	t.Helper()
	lis, port := listen(t)
	s := grpc.NewServer()
	healthv1.RegisterHealthServer(s, health.NewServer())
	go s.Serve(lis) //nolint:errcheck // it ends with Stop
	t.Cleanup(s.Stop)
	return port
}

// tcpApp speaks first, then echoes.
func tcpApp(t *testing.T) uint16 {
	t.Helper()
	lis, port := listen(t)
	go echoes(lis)
	t.Cleanup(func() { lis.Close() })
	return port
}

// echoes is what tcpApp does, until the listener is closed.
func echoes(lis net.Listener) {
	for {
		conn, err := lis.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			fmt.Fprintln(conn, "welcome")
			buf := make([]byte, 1024)
			for {
				n, err := conn.Read(buf)
				if err != nil {
					return
				}
				conn.Write(buf[:n]) //nolint:errcheck // the next Read tells
			}
		}()
	}
}

func listen(t *testing.T) (net.Listener, uint16) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return lis, uint16(lis.Addr().(*net.TCPAddr).Port)
}

// callGRPC asks the health service behind an alias.
func callGRPC(ctx context.Context, a mesh.Alias) error {
	conn, err := grpc.NewClient(vip(a), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	r, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{})
	if err == nil && r.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		err = fmt.Errorf("the health service says %s", r.GetStatus())
	}
	return err
}

// callTCP reads the greeting and an echo.
func callTCP(a mesh.Alias) error {
	conn, err := net.DialTimeout("tcp", vip(a), 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second)) //nolint:errcheck // a TCP connection has deadlines
	var greeting, echo string
	if _, err := fmt.Fscanln(conn, &greeting); err != nil || greeting != "welcome" {
		return fmt.Errorf("greeting %q, %w", greeting, err)
	}
	fmt.Fprintln(conn, "ping")
	if _, err := fmt.Fscanln(conn, &echo); err != nil || echo != "ping" {
		return fmt.Errorf("echo %q, %w", echo, err)
	}
	return nil
}

func vip(a mesh.Alias) string { return netip.AddrPortFrom(a.VIP, a.Port).String() }

// shown is the TLS session that a port gives.
func shown(port uint16, cfg *tls.Config) (*tls.ConnectionState, error) {
	d := &tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: cfg}
	conn, err := d.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	state := conn.(*tls.Conn).ConnectionState()
	return &state, nil
}
