package xds

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"patchbay/internal/envoytest"
	"patchbay/internal/testca"
	"patchbay/mesh"
	"patchbay/xds/bootstrap"
)

// What protocols promise, through two Envoys, with and without TLS.

// pair is a service of two kinds, with and without TLS, its task and a caller.
type pair struct {
	*control
	callee, caller *envoytest.Envoy
	at             map[string]mesh.Alias // by kind: "plain", "tls"
	ports          []bootstrap.Port
}

// startPair has an application of a protocol behind both kinds.
func startPair(t *testing.T, p mesh.Protocol, app uint16) pair {
	t.Helper()
	c, ca := startControl(t, 0), testca.New(t)
	c.trust(ca)
	c.issue(t, ca, "tls", "1")
	out := pair{control: c, at: map[string]mesh.Alias{}}
	var services []*mesh.Service
	for kind, issuer := range map[string]string{"plain": "", "tls": "default"} {
		port := offer(t, kind, p, app, issuer)
		for out.at[kind] = freeAlias(t, kind); out.at["plain"].Port == out.at["tls"].Port; {
			out.at[kind] = freeAlias(t, kind) // what was free a moment ago is free again
		}
		out.ports, services = append(out.ports, port), append(services, offered(p, out.at[kind], port))
	}
	c.store.SetServices("prod", services)
	out.callee, out.caller = c.task(t, "prod/backend/1", "", out.ports...), c.task(t, "prod/web/1", "")
	return out
}

// each runs f for both kinds.
func (p pair) each(t *testing.T, f func(t *testing.T, a mesh.Alias)) {
	t.Helper()
	for kind, a := range p.at {
		t.Run(kind, func(t *testing.T) { f(t, a) })
		if got, want := p.caller.Stats(t)["cluster."+kind+".prod.ssl.handshake"] > 0, kind == "tls"; got != want {
			t.Errorf("%s: encrypted %v", kind, got)
		}
	}
}

// rpcs is a gRPC application. Its connections end after a moment, as those of
// one that is replaced: clients are told by GOAWAY.
type rpcs struct {
	pb.UnimplementedTestServiceServer
	ended atomic.Int64 // calls that their caller gave up
}

func (s *rpcs) FullDuplexCall(stream pb.TestService_FullDuplexCallServer) error {
	stream.SetTrailer(metadata.Pairs("x-end", "here"))
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return status.Error(codes.DataLoss, "it ends so: ü")
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&pb.StreamingOutputCallResponse{Payload: in.GetPayload()}); err != nil {
			return err
		}
	}
}

func (s *rpcs) EmptyCall(context.Context, *pb.Empty) (*pb.Empty, error) { return &pb.Empty{}, nil }

// UnaryCall takes as long as its caller waits.
func (s *rpcs) UnaryCall(ctx context.Context, _ *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	if _, limited := ctx.Deadline(); !limited {
		return nil, status.Error(codes.FailedPrecondition, "the deadline has not arrived")
	}
	<-ctx.Done()
	s.ended.Add(1)
	return nil, ctx.Err()
}

func startRPCs(t *testing.T, opts ...grpc.ServerOption) (*rpcs, uint16) {
	t.Helper()
	lis, port := listen(t)
	app, s := &rpcs{}, grpc.NewServer(opts...)
	pb.RegisterTestServiceServer(s, app)
	go s.Serve(lis) //nolint:errcheck // it ends with Stop
	t.Cleanup(s.Stop)
	return app, port
}

func client(t *testing.T, a mesh.Alias) pb.TestServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(vip(a), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return pb.NewTestServiceClient(conn)
}

// talk exchanges a message.
func talk(stream pb.TestService_FullDuplexCallClient, text string) error {
	if err := stream.Send(&pb.StreamingOutputCallRequest{Payload: &pb.Payload{Body: []byte(text)}}); err != nil {
		return err
	}
	got, err := stream.Recv()
	if err == nil && string(got.GetPayload().GetBody()) != text {
		err = fmt.Errorf("%q, want %q", got.GetPayload().GetBody(), text)
	}
	return err
}

func TestStreamsOfGRPC(t *testing.T) {
	app, port := startRPCs(t)
	startPair(t, mesh.GRPC, port).each(t, func(t *testing.T, a mesh.Alias) {
		c := client(t, a)
		stream, err := c.FullDuplexCall(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"one", "two", strings.Repeat("x", 1<<20)} {
			if err := talk(stream, text); err != nil {
				t.Fatal(err)
			}
		}
		stream.CloseSend() //nolint:errcheck // Recv tells
		if _, err := stream.Recv(); status.Code(err) != codes.DataLoss || status.Convert(err).Message() != "it ends so: ü" {
			t.Errorf("the status: %v", err)
		}
		if end := stream.Trailer().Get("x-end"); len(end) != 1 || end[0] != "here" {
			t.Errorf("the trailers: %v", stream.Trailer())
		}

		// A deadline reaches the application, and so does its end.
		before := app.ended.Load()
		ctx, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer stop()
		if _, err := c.UnaryCall(ctx, &pb.SimpleRequest{}); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("beyond the deadline: %v", err)
		}
		eventually(t, func() error {
			if app.ended.Load() == before {
				return errors.New("the application works on")
			}
			return nil
		})
	})
}

// An application says GOAWAY, then its Envoy does: no call is lost, and a
// stream that is open ends as it wants.
func TestGOAWAYLosesNoCall(t *testing.T) {
	_, port := startRPCs(t, grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: 20 * time.Millisecond}))
	_, calm := startRPCs(t)
	p := startPair(t, mesh.GRPC, port)
	p.each(t, func(t *testing.T, a mesh.Alias) {
		c := client(t, a)
		began := p.callee.Sum(t, "cluster.app-", ".upstream_cx_total")
		eventually(t, func() error {
			for range 50 {
				if _, err := c.EmptyCall(t.Context(), &pb.Empty{}); err != nil {
					t.Fatal(err)
				}
			}
			if n := p.callee.Sum(t, "cluster.app-", ".upstream_cx_total") - began; n < 3 {
				return fmt.Errorf("%v connections to the application", n)
			}
			return nil
		})
	})

	var ports []bootstrap.Port
	for range 2 {
		ports = append(ports, offer(t, "two", mesh.GRPC, calm, ""))
	}
	a := freeAlias(t, "two")
	p.store.SetServices("prod", append(p.store.Snapshot().Services, offered(mesh.GRPC, a, ports...)))
	first := p.task(t, "prod/two/1", "", ports[0])
	p.task(t, "prod/two/2", "", ports[1])
	c := client(t, a)
	var streams []pb.TestService_FullDuplexCallClient
	for range 4 { // two at each
		eventually(t, func() error {
			s, err := c.FullDuplexCall(t.Context())
			if err == nil {
				err = talk(s, "hello")
			}
			if err == nil {
				streams = append(streams, s)
			}
			return err
		})
	}
	if _, err := first.Post("/drain_listeners?graceful&inboundonly"); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if _, err := c.EmptyCall(t.Context(), &pb.Empty{}); err != nil {
			t.Fatal(err)
		}
	}
	for i, s := range streams {
		if err := talk(s, "still here"); err != nil {
			t.Errorf("stream %d: %v", i, err)
		}
		s.CloseSend() //nolint:errcheck // Recv tells
		if _, err := s.Recv(); status.Code(err) != codes.DataLoss {
			t.Errorf("stream %d: %v", i, err)
		}
	}
}

// An application that answers when its peer has said all, as many old
// protocols do.
func TestHalfClosedConnections(t *testing.T) {
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
				n, err := io.Copy(io.Discard, conn)
				fmt.Fprintf(conn, "%d bytes, %v", n, err)
			}()
		}
	}()
	startPair(t, mesh.TCP, port).each(t, func(t *testing.T, a mesh.Alias) {
		conn, err := net.Dial("tcp", vip(a))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(time.Minute)) //nolint:errcheck // a TCP connection has deadlines
		if _, err := conn.Write(make([]byte, 3<<20)); err != nil {
			t.Fatal(err)
		}
		conn.(*net.TCPConn).CloseWrite() //nolint:errcheck // the answer tells
		if got, err := io.ReadAll(conn); string(got) != "3145728 bytes, <nil>" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// A connection without a word is ended after the idle timeout; one without a
// limit, and one that is used, are not.
func TestIdleConnections(t *testing.T) {
	c := startControl(t, 0)
	app := tcpApp(t)
	short, never, ages := time.Second, time.Duration(0), mesh.MaxTimeout
	var services []*mesh.Service
	var ports []bootstrap.Port
	at := map[string]mesh.Alias{}
	for n, idle := range map[string]*time.Duration{"short": &short, "never": &never, "ages": &ages} {
		port := offer(t, n, mesh.TCP, app, "")
		at[n] = freeAlias(t, n)
		s := offered(mesh.TCP, at[n], port)
		s.Timeouts.Idle = idle
		services, ports = append(services, s), append(ports, port)
	}
	c.store.SetServices("prod", services)
	c.task(t, "prod/backend/1", "", ports...)
	c.task(t, "prod/web/1", "")
	open := func(n string) (net.Conn, *bufio.Reader) {
		conn, err := net.Dial("tcp", vip(at[n]))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(10 * time.Second)) //nolint:errcheck // a TCP connection has deadlines
		r := bufio.NewReader(conn)
		if line, err := r.ReadString('\n'); line != "welcome\n" {
			t.Fatalf("%q, %v", line, err)
		}
		return conn, r
	}
	idle, silent := open("short")
	free, answers := open("never")
	long, same := open("ages")
	if _, err := silent.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("an idle connection: %v", err)
	}
	idle.Close()
	for conn, r := range map[net.Conn]*bufio.Reader{free: answers, long: same} {
		fmt.Fprintln(conn, "ping")
		if line, err := r.ReadString('\n'); line != "ping\n" {
			t.Errorf("without a limit, or with ECS's longest: %q, %v", line, err)
		}
	}
}

// Of http it is the connections between sidecars that end, and 0 keeps them.
func TestIdleConnectionsOfHTTP(t *testing.T) {
	c := startControl(t, 0)
	app := backend(t, "ok").Port()
	short, never := time.Second, time.Duration(0)
	var services []*mesh.Service
	var ports []bootstrap.Port
	for n, idle := range map[string]*time.Duration{"short": &short, "never": &never} {
		port := offer(t, n, mesh.HTTP, app, "")
		s := offered(mesh.HTTP, freeAlias(t, n), port)
		s.Timeouts.Idle = idle
		services, ports = append(services, s), append(ports, port)
	}
	c.store.SetServices("prod", services)
	c.task(t, "prod/backend/1", "", ports...)
	caller := c.task(t, "prod/web/1", "")
	call := func(n string) {
		for _, s := range services {
			if s.Name.DiscoveryName == n {
				if _, err := get(oneCall, s.Aliases[0]); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	call("never")
	call("short")
	eventually(t, func() error {
		s := caller.Stats(t)
		if made, open := s["cluster.short.prod.upstream_cx_total"], s["cluster.short.prod.upstream_cx_active"]; made == 0 || open != 0 {
			return fmt.Errorf("%v connections were made, %v are open", made, open)
		}
		return nil
	})
	if s := caller.Stats(t); s["cluster.never.prod.upstream_cx_active"] != 1 {
		t.Errorf("without a limit %v connections are open", s["cluster.never.prod.upstream_cx_active"])
	}
}

// The smaller of the two timeouts ends a request; 0 is none.
func TestTheSmallerTimeoutWins(t *testing.T) {
	c := startControl(t, 0)
	block := make(chan struct{})
	app, _ := counting(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-block:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(block) })
	second, none, long := 400*time.Millisecond, time.Duration(0), mesh.MaxTimeout
	var services []*mesh.Service
	var ports []bootstrap.Port
	for n, limits := range map[string]mesh.Timeouts{"idle": {Idle: &second, PerRequest: &long}, "idle-only": {Idle: &second, PerRequest: &none}, "request": {Idle: &long, PerRequest: &second}, "request-only": {Idle: &none, PerRequest: &second}} {
		port := offer(t, n, mesh.HTTP, app, "")
		s := offered(mesh.HTTP, freeAlias(t, n), port)
		s.Timeouts = limits
		services, ports = append(services, s), append(ports, port)
	}
	c.store.SetServices("prod", services)
	c.task(t, "prod/backend/1", "", ports...)
	c.task(t, "prod/web/1", "")
	var all sync.WaitGroup
	for _, s := range services {
		all.Go(func() {
			resp, err := oneCall.Get("http://" + vip(s.Aliases[0]))
			if err != nil {
				t.Errorf("%s: %v", s.Name, err)
				return
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusGatewayTimeout {
				t.Errorf("%s: %s", s.Name, resp.Status)
			}
		})
	}
	all.Wait()
}

func TestLargeBodiesAndSlowClients(t *testing.T) {
	const size, endless = 20 << 20, 96 << 20 // beyond the windows of HTTP/2 (16 MiB) and all buffers
	var written atomic.Int64
	release := make(chan struct{})
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/sum":
			h := sha256.New()
			n, err := io.Copy(h, r.Body)
			fmt.Fprintf(w, "%d %x %v", n, h.Sum(nil), err)
		case "/events":
			for range 2 {
				fmt.Fprintln(w, "event")
				w.(http.Flusher).Flush()
				<-release
			}
		default:
			written.Store(0)
			for range endless / 65536 {
				n, err := w.Write(make([]byte, 65536))
				written.Add(int64(n))
				if err != nil {
					return
				}
			}
		}
	}))
	t.Cleanup(app.Close)
	startPair(t, mesh.HTTP, netip.MustParseAddrPort(app.Listener.Addr().String()).Port()).each(t, func(t *testing.T, a mesh.Alias) {
		body := make([]byte, size)
		rand.Read(body)                                                                               //nolint:errcheck // it never fails
		resp, err := oneCall.Post("http://"+vip(a)+"/sum", "", io.MultiReader(bytes.NewReader(body))) // chunked
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := fmt.Sprintf("%d %x <nil>", size, sha256.Sum256(body)); string(got) != want {
			t.Errorf("%s, want %s", got, want)
		}

		// What an application sends arrives before it has sent all.
		if resp, err = oneCall.Get("http://" + vip(a) + "/events"); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(resp.Body)
		for range 2 {
			if line, err := lines.ReadString('\n'); line != "event\n" {
				t.Fatalf("%q, %v", line, err)
			}
			release <- struct{}{}
		}
		resp.Body.Close()

		// Who reads nothing holds the application up, not the Envoys' memory.
		conn, err := net.Dial("tcp", vip(a))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(20 * time.Second)) //nolint:errcheck // a TCP connection has deadlines
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n")
		last := int64(-1)
		eventually(t, func() error {
			now := written.Load()
			defer func() { last = now }()
			if now == 0 || now != last {
				return fmt.Errorf("%d bytes written", now)
			}
			return nil
		})
		if last >= endless {
			t.Errorf("all %d bytes are buffered somewhere", last)
		}
		if n, err := io.Copy(io.Discard, conn); err != nil || n < endless {
			t.Errorf("the slow client has %d bytes, %v", n, err)
		}
	})
}

// An application that listens on loopback of one family alone has its calls,
// whichever it is: what 127.0.0.1 refuses is tried at ::1.
func TestAnApplicationOnEitherLoopback(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(at, func(t *testing.T) {
			on := func() net.Listener {
				l, err := net.Listen("tcp", at)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { l.Close() })
				return l
			}
			c, ca := startControl(t, 0), testca.New(t)
			c.ipv6 = true
			c.trust(ca)
			c.issue(t, ca, "sealed", "1")
			web, raw := on(), on()
			backendOn(t, web, "hello")
			go echoes(raw)
			port := func(l net.Listener) uint16 { return uint16(l.Addr().(*net.TCPAddr).Port) }
			ports := []bootstrap.Port{offer(t, "plain", mesh.HTTP, port(web), ""), offer(t, "sealed", mesh.HTTP, port(web), "default"), offer(t, "raw", mesh.TCP, port(raw), "")}
			services := []*mesh.Service{}
			for _, p := range ports {
				services = append(services, offered(p.Protocol, freeAlias(t, p.PortName), p))
			}
			c.store.SetServices("prod", services)
			c.task(t, "prod/backend/1", "", ports...)
			c.task(t, "prod/web/1", "")
			for _, s := range services[:2] {
				if got, err := get(oneCall, s.Aliases[0]); err != nil || got != "hello" {
					t.Errorf("%s: %q, %v", s.Name, got, err)
				}
			}
			if err := callTCP(services[2].Aliases[0]); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestIPv6Endpoints(t *testing.T) {
	c := startControl(t, 0)
	c.ipv6 = true
	var services []*mesh.Service
	var ports []bootstrap.Port
	for _, p := range []mesh.Protocol{mesh.HTTP, mesh.TCP} {
		app := backend(t, "six").Port()
		if p == mesh.TCP {
			app = tcpApp(t)
		}
		port := offer(t, string(p), p, app, "")
		s := offered(p, freeAlias(t, string(p)), port)
		s.Endpoints[0].Addr = netip.AddrPortFrom(netip.IPv6Loopback(), port.ListenerPort)
		services, ports = append(services, s), append(ports, port)
	}
	c.store.SetServices("prod", services)
	c.task(t, "prod/backend/1", "", ports...)
	caller := c.task(t, "prod/web/1", "")
	if got, err := get(oneCall, services[0].Aliases[0]); err != nil || got != "six" {
		t.Errorf("%q, %v", got, err)
	}
	if err := callTCP(services[1].Aliases[0]); err != nil {
		t.Error(err)
	}
	if hosts := caller.Clusters(t)["http.prod"]; len(hosts) != 1 || !strings.HasPrefix(hosts[0], "[::1]:") {
		t.Errorf("the endpoints are %v", hosts)
	}
	// One socket takes both families.
	if resp, err := oneCall.Get(fmt.Sprintf("http://127.0.0.1:%d", ports[0].ListenerPort)); err != nil {
		t.Error(err)
	} else {
		resp.Body.Close()
	}
}
