package agents

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	"patchbay/agentapi"
	"patchbay/mesh"
)

// book is a registry in memory that writes down what it was asked to do.
type book struct {
	mu        sync.Mutex
	log       []string
	instances map[string]netip.AddrPort
	fail      map[string]error // by operation
}

func (b *book) note(op string, p Port) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.log = append(b.log, op+" "+p.PortName)
	return b.fail[op]
}

func (b *book) Declare(_ context.Context, _ mesh.Node, p Port) error { return b.note("declare", p) }

func (b *book) Register(_ context.Context, n mesh.Node, p Port, a netip.AddrPort, _ string) (Instance, error) {
	if err := b.note("register", p); err != nil {
		return Instance{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.instances[p.PortName] = a
	return Instance{ServiceARN: "arn:" + p.Service.String(), InstanceID: n.Task + "." + p.PortName}, nil
}

func (b *book) Deregister(_ context.Context, _ mesh.Node, p Port) error {
	if err := b.note("deregister", p); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.instances, p.PortName)
	return nil
}

func (b *book) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.instances)
}

func (b *book) has(p Port) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.instances[p.PortName]; !ok {
		return ErrNotRegistered
	}
	return nil
}

func (b *book) SetHealth(_ context.Context, _ mesh.Node, p Port, h mesh.Health) error {
	return errors.Join(b.note("health="+h.String(), p), b.has(p))
}

func (b *book) Heartbeat(_ context.Context, _ mesh.Node, p Port) error {
	return errors.Join(b.note("heartbeat", p), b.has(p))
}

// Removed is the book as a barrier: node "slow" never acknowledges.
func (b *book) Removed(ctx context.Context, s mesh.ServiceName, a netip.AddrPort) ([]string, error) {
	b.mu.Lock()
	b.log = append(b.log, "barrier "+s.DiscoveryName+" "+a.String())
	slow := b.fail["barrier"] != nil
	b.mu.Unlock()
	if !slow {
		return nil, nil
	}
	<-ctx.Done()
	return []string{"demo/web/slow"}, ctx.Err()
}

func (b *book) set(op string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail[op] = err
}

func (b *book) lose() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.instances)
}

// take returns what was done since the last call.
func (b *book) take() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.log
	b.log = nil
	return out
}

// fromListener gives bufconn's connections the peer address of a task.
type fromListener struct{ *bufconn.Listener }

type fromConn struct{ net.Conn }

func (l fromListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return fromConn{c}, err
}

func (fromConn) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 40000}
}

var node = mesh.Node{Workload: mesh.Workload{Namespace: "demo", Name: "backend", DiscoveryNames: []string{"api", "web"}}, Task: "b1"}

type rig struct {
	t      *testing.T
	store  *mesh.Store
	book   *book
	srv    *Server
	client agentapi.AgentClient
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, store: mesh.NewStore(), book: &book{instances: map[string]netip.AddrPort{}, fail: map[string]error{}}}
	r.srv = New(Options{
		Store: r.store, Registrar: r.book, Barrier: r.book, Name: "patchbay test", Log: slog.New(slog.DiscardHandler),
		Peer: func(ctx context.Context) (mesh.Node, error) {
			if md, _ := metadata.FromIncomingContext(ctx); len(md.Get("stranger")) > 0 {
				return mesh.Node{}, errors.New("no client certificate")
			}
			return node, nil
		},
	})
	l := bufconn.Listen(1 << 16)
	gs := grpc.NewServer()
	agentapi.RegisterAgentServer(gs, r.srv)
	go gs.Serve(fromListener{l})
	cc, err := grpc.NewClient("passthrough:test", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	r.client = agentapi.NewAgentClient(cc)
	t.Cleanup(func() { cc.Close(); gs.Stop() })
	return r
}

// agent is one stream and what it received.
type agent struct {
	stream agentapi.Agent_ConnectClient
	mu     sync.Mutex
	got    []*agentapi.Down
	err    error
}

func (r *rig) connect(ctx context.Context, h *agentapi.Hello) *agent {
	stream, err := r.client.Connect(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	a := &agent{stream: stream}
	a.send(&agentapi.Up{Message: &agentapi.Up_Hello{Hello: h}})
	go func() {
		for {
			m, err := stream.Recv()
			a.mu.Lock()
			if err != nil {
				a.err = err
				a.mu.Unlock()
				return
			}
			a.got = append(a.got, m)
			a.mu.Unlock()
		}
	}()
	return a
}

func (a *agent) send(m *agentapi.Up) { _ = a.stream.Send(m) }

func (a *agent) health(ready bool, state agentapi.Health_State, ports ...string) {
	h := &agentapi.Health{EnvoyReady: ready, Ports: map[string]agentapi.Health_State{}}
	for _, p := range ports {
		h.Ports[p] = state
	}
	a.send(&agentapi.Up{Message: &agentapi.Up_Health{Health: h}})
}

func (a *agent) take() []*agentapi.Down {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := a.got
	a.got = nil
	return out
}

func (a *agent) failure() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

func registrations(ms []*agentapi.Down) []string {
	var out []string
	for _, m := range ms {
		if g := m.GetRegistration(); g != nil {
			s := []string{g.GetPortName()}
			if g.GetRegistered() {
				s = append(s, g.GetInstanceId())
			}
			if g.GetError() != "" {
				s = append(s, g.GetError())
			}
			out = append(out, strings.Join(s, " "))
		}
	}
	return out
}

func wirePort(name, discovery string, at uint32) *agentapi.Port {
	return &agentapi.Port{PortName: name, DiscoveryName: discovery, AppProtocol: "http", ContainerPort: 8080 + at, IngressPort: 15010 + at,
		ClientAliases: []*agentapi.ClientAlias{{DnsName: discovery + ".demo", Port: 80}}}
}

func hello(ports ...*agentapi.Port) *agentapi.Hello {
	return &agentapi.Hello{AgentVersion: "1", EnvoyVersion: "1.40.0", Wiring: "redirect", Zone: "use1-az1", Ports: ports}
}

func want(t *testing.T, got, wanted []string) {
	t.Helper()
	if d := cmp.Diff(wanted, got); d != "" {
		t.Fatalf("(-want +got)\n%s", d)
	}
}

// settle lets 100 ms pass for streams whose work needs timers.
func settle() {
	time.Sleep(100 * time.Millisecond) // of the bubble's clock
	synctest.Wait()
}

func TestRegistersWhenAppAndEnvoyAreReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		a := r.connect(t.Context(), hello(wirePort("web", "web", 0)))
		a.health(false, agentapi.Health_HEALTHY, "web")
		settle()
		want(t, r.book.take(), []string{"declare web", "health=UNHEALTHY web"})
		a.health(true, agentapi.Health_UNKNOWN, "web")
		settle()
		want(t, r.book.take(), nil)
		a.health(true, agentapi.Health_HEALTHY, "web")
		settle()
		want(t, r.book.take(), []string{"register web"})
		if got := r.book.instances["web"].String(); got != "10.0.0.7:15010" {
			t.Errorf("registered %s; want the peer's address and the ingress port", got)
		}
		want(t, registrations(a.take()), []string{"web b1.web"})
		a.health(true, agentapi.Health_UNHEALTHY, "web")
		settle()
		a.health(true, agentapi.Health_HEALTHY, "web")
		settle()
		want(t, r.book.take(), []string{"health=UNHEALTHY web", "health=HEALTHY web"})
		for range 4 {
			time.Sleep(5 * time.Second)
			a.health(true, agentapi.Health_HEALTHY, "web")
		}
		settle()
		want(t, r.book.take(), []string{"heartbeat web", "heartbeat web", "heartbeat web", "heartbeat web"})
	})
}

func TestHelloListsEveryProblem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		bad := wirePort("Web", "-x", 0)
		bad.AppProtocol, bad.ContainerPort, bad.Tls = "udp", 0, &agentapi.Tls{KmsKey: "my key"}
		bad.Timeout = &agentapi.Timeout{Idle: durationpb.New(-time.Second)}
		long := wirePort("long", "long", 15020)
		long.Timeout = &agentapi.Timeout{PerRequest: &durationpb.Duration{Seconds: 1 << 50}} // more than a time.Duration holds
		long.ClientAliases = []*agentapi.ClientAlias{{DnsName: "localhost", Port: 80}}
		bad.ClientAliases = []*agentapi.ClientAlias{{DnsName: "10.0.0.1", Port: 0}}
		h := hello(bad, wirePort("a", "api", 0), long)
		h.Wiring, h.Zone, h.ContainerPorts = "magic", "Zone One", []uint32{0, 15010}
		a := r.connect(t.Context(), h)
		synctest.Wait()
		err := a.failure()
		if status.Code(err) != codes.InvalidArgument {
			t.Fatal(err)
		}
		for _, part := range []string{"wiring", "zone", "container_ports[0]", "ports[0].port_name", "discovery_name", "app_protocol", "container_port 0", "tls.issuer", "tls.kms_key", "timeout", "client_aliases[0]", "used twice", "ports[1].ingress_port", "ports[2].timeout", "ports[2].client_aliases[0]"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("the error does not name %s:\n%v", part, err)
			}
		}
		want(t, r.book.take(), nil)
	})
}

func TestStrangerIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		a := r.connect(metadata.AppendToOutgoingContext(t.Context(), "stranger", "yes"), hello())
		synctest.Wait()
		if status.Code(a.failure()) != codes.Unauthenticated {
			t.Fatal(a.failure())
		}
	})
}

func TestForeignServiceIsRefusedAndTheOthersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		a := r.connect(t.Context(), hello(wirePort("pay", "payments", 0), wirePort("web", "web", 1)))
		a.health(true, agentapi.Health_HEALTHY, "pay", "web")
		settle()
		want(t, r.book.take(), []string{"declare web", "register web"})
		got := registrations(a.take())
		slices.Sort(got)
		if len(got) != 2 || !strings.Contains(got[0], `pay workload demo/backend may not offer "payments"; it may offer ["api" "web"]`) {
			t.Fatal(got)
		}
		a.send(&agentapi.Up{Message: &agentapi.Up_Drain{}})
		settle()
		want(t, r.book.take(), []string{"deregister web", "barrier web 10.0.0.7:15011"})
	})
}

func TestTransientErrorIsToldOnceAndRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.book.set("register", errors.New("the registry does not answer"))
		a := r.connect(t.Context(), hello(wirePort("web", "web", 0)))
		a.health(true, agentapi.Health_HEALTHY, "web")
		time.Sleep(30 * time.Second)
		want(t, registrations(a.take()), []string{"web the registry does not answer; it will be tried again"})
		if n := len(r.book.take()); n < 5 || n > 20 {
			t.Errorf("%d calls in 30 s", n)
		}
		if s := r.srv.Status(); s[0].Ports[0].Error == "" || s[0].Ports[0].Registered {
			t.Errorf("status: %+v", s)
		}
		r.book.set("register", nil)
		time.Sleep(2 * retryMost)
		want(t, registrations(a.take()), []string{"web b1.web"})
		if s := r.srv.Status(); s[0].Ports[0].Error != "" || !s[0].Ports[0].Registered {
			t.Errorf("status: %+v", s)
		}
	})
}

func TestBrokenStreamChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ctx, cut := context.WithCancel(t.Context())
		a := r.connect(ctx, hello(wirePort("web", "web", 0)))
		a.health(true, agentapi.Health_HEALTHY, "web")
		settle()
		want(t, r.book.take(), []string{"declare web", "register web"})
		cut()
		time.Sleep(time.Minute)
		want(t, r.book.take(), nil)
		if len(r.srv.Status()) != 0 {
			t.Errorf("still connected: %+v", r.srv.Status())
		}
		a = r.connect(t.Context(), hello(wirePort("web", "web", 0)))
		settle()
		want(t, registrations(a.take()), []string{"web b1.web"})
		a.health(true, agentapi.Health_HEALTHY, "web")
		settle()
		want(t, r.book.take(), []string{"heartbeat web"})

		r.book.lose()
		time.Sleep(5 * time.Second)
		a.health(true, agentapi.Health_HEALTHY, "web")
		settle()
		want(t, r.book.take(), []string{"heartbeat web", "declare web", "register web"})
	})
}

func TestChangedPortIsRegisteredAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ctx, cut := context.WithCancel(t.Context())
		r.connect(ctx, hello(wirePort("web", "web", 0))).health(true, agentapi.Health_HEALTHY, "web")
		settle()
		cut()
		settle()
		r.book.take()
		r.connect(t.Context(), hello(wirePort("web", "web", 3))).health(true, agentapi.Health_HEALTHY, "web")
		settle()
		want(t, r.book.take(), []string{"declare web", "register web"})
		if got := r.book.instances["web"].Port(); got != 15013 {
			t.Errorf("registered port %d", got)
		}
	})
}

func TestSecondStreamReplacesTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		first := r.connect(t.Context(), hello(wirePort("web", "web", 0)))
		first.health(true, agentapi.Health_HEALTHY, "web")
		settle()
		second := r.connect(t.Context(), hello(wirePort("web", "web", 0)))
		settle()
		if status.Code(first.failure()) != codes.Aborted {
			t.Fatalf("the first stream: %v", first.failure())
		}
		if second.failure() != nil || len(r.srv.Status()) != 1 {
			t.Fatalf("the second stream: %v, %+v", second.failure(), r.srv.Status())
		}
		want(t, r.book.take(), []string{"declare web", "register web"})

		// A node without rivals has one such replacement; two tasks of one name,
		// many. What is long ago is forgotten.
		x := r.srv.Status()[0].Rivalry
		if x == nil || x.Count != 1 || len(x.Addresses) != 1 || x.Addresses[0] != r.srv.Status()[0].Address {
			t.Errorf("%+v", x)
		}
		for range mostRivals {
			r.connect(t.Context(), hello(wirePort("web", "web", 0)))
			settle()
		}
		if x = r.srv.Status()[0].Rivalry; x == nil || x.Count < 3 || x.Count > mostRivals {
			t.Errorf("%+v", x)
		}
		time.Sleep(lately + time.Second)
		if all := r.srv.rivalry(); len(all) != 0 || len(r.srv.rivals) != 0 {
			t.Errorf("%v, %v", all, r.srv.rivals)
		}
	})
}

func services(namespace string, names ...string) []*mesh.Service {
	var out []*mesh.Service
	for _, n := range names {
		out = append(out, &mesh.Service{Name: mesh.ServiceName{Namespace: namespace, DiscoveryName: n}, Protocol: mesh.HTTP,
			Aliases: []mesh.Alias{{DNSName: n + "." + namespace, Port: 80}, {DNSName: n + "." + namespace, Port: 8080}}})
	}
	out, _ = mesh.Resolve(out)
	return out
}

func names(ms []*agentapi.Down) (out []string) {
	for _, m := range ms {
		if n := m.GetNames(); n != nil {
			var list []string
			for _, v := range n.GetNames() {
				list = append(list, v.GetDnsName())
				if a := netip.MustParseAddr(v.GetVip()); !mesh.LiveVIPs.Contains(a) || len(v.GetPorts()) != 2 {
					list = append(list, "BAD")
				}
			}
			out = append(out, strings.Join(list, ","))
		}
	}
	return out
}

func TestNamesFollowTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		a := r.connect(t.Context(), hello())
		settle()
		want(t, names(a.take()), nil) // the namespace is not known yet: silence, not an empty list
		r.store.SetServices("demo", services("demo", "api"))
		synctest.Wait()
		want(t, names(a.take()), []string{"api.demo"}) // at once
		for _, list := range [][]string{{"api", "b"}, {"api", "b", "c"}, {"api", "b", "c", "d"}} {
			r.store.SetServices("demo", services("demo", list...))
			synctest.Wait()
		}
		settle()
		want(t, names(a.take()), []string{"api.demo,b.demo,c.demo,d.demo"}) // together
		r.store.SetServices("other", services("other", "x"))
		r.store.SetLeaf(&mesh.Leaf{Service: mesh.ServiceName{Namespace: "demo", DiscoveryName: "api"}, Serial: "1", ChainPEM: []byte("x")})
		settle()
		want(t, names(a.take()), nil)
		b := r.connect(t.Context(), hello())
		settle()
		want(t, names(b.take()), []string{"api.demo,b.demo,c.demo,d.demo"})
	})
}

func TestNamesAreThoseOfTheDependencies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		h := hello()
		h.Dependencies = []string{"db", "api"}
		a := r.connect(t.Context(), h)
		r.store.SetServices("demo", services("demo", "a", "api", "b"))
		settle()
		want(t, names(a.take()), []string{"api.demo"})
		r.store.SetServices("demo", services("demo", "api", "b", "c"))
		settle()
		want(t, names(a.take()), nil) // what it does not call is no news
		r.store.SetServices("demo", services("demo", "api", "b", "c", "db"))
		settle()
		want(t, names(a.take()), []string{"api.demo,db.demo"}) // created later
	})
}

func TestDrainDeregistersThenWaitsForSubscribers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		a := r.connect(t.Context(), hello(wirePort("web", "web", 0)))
		a.health(true, agentapi.Health_HEALTHY, "web")
		settle()
		r.book.take()
		a.take()
		r.book.set("barrier", errors.New("slow"))
		a.send(&agentapi.Up{Message: &agentapi.Up_Drain{}})
		a.health(true, agentapi.Health_HEALTHY, "web")
		time.Sleep(removedTime - time.Second)
		synctest.Wait()
		if ms := a.take(); len(ms) != 0 {
			t.Fatalf("too early: %v", ms)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		ms := a.take()
		if len(ms) != 1 || !slices.Equal(ms[0].GetDrainComplete().GetMissing(), []string{"demo/web/slow"}) {
			t.Fatalf("got %v", ms)
		}
		a.health(true, agentapi.Health_HEALTHY, "web")
		time.Sleep(time.Minute)
		want(t, r.book.take(), []string{"deregister web", "barrier web 10.0.0.7:15010"})
	})
}

func TestDrainGoesOnWithoutItsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ctx, cut := context.WithCancel(t.Context())
		a := r.connect(ctx, hello(wirePort("web", "web", 0)))
		a.health(true, agentapi.Health_HEALTHY, "web")
		settle()
		r.book.set("deregister", errors.New("throttled"))
		a.send(&agentapi.Up{Message: &agentapi.Up_Drain{}})
		synctest.Wait()
		cut()
		settle()
		r.book.set("deregister", nil)
		time.Sleep(deregisterTime)
		synctest.Wait()
		if n := r.book.count(); n != 0 {
			t.Fatalf("%d instances are still registered", n)
		}
	})
}

func TestFailedDeregistrationIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		a := r.connect(t.Context(), hello(wirePort("web", "web", 0)))
		a.health(true, agentapi.Health_HEALTHY, "web")
		settle()
		a.take()
		r.book.set("deregister", errors.New("the registry does not answer"))
		a.send(&agentapi.Up{Message: &agentapi.Up_Drain{}})
		time.Sleep(deregisterTime + time.Second)
		synctest.Wait()
		ms := a.take()
		want(t, registrations(ms), []string{"web b1.web the registry does not answer"})
		if len(ms) != 2 || ms[1].GetDrainComplete() == nil {
			t.Fatalf("got %v", ms)
		}
	})
}
