package xds

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"

	"patchbay/mesh"
	"patchbay/xds/bootstrap"
	"patchbay/xds/delta"
)

// world is a store, its pusher and its server on an in-process listener.
type world struct {
	store  *mesh.Store
	cache  *delta.Cache
	pusher *Pusher
	lis    *bufconn.Listener
	logged *logBook
}

type logBook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logBook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// bubble runs f with a running world whose identities come from [as].
func bubble(t *testing.T, f func(t *testing.T, w *world), opts ...Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{store: mesh.NewStore(), cache: delta.NewCache(nil), lis: bufconn.Listen(1 << 18), logged: &logBook{}}
		log := slog.New(slog.NewTextHandler(w.logged, nil))
		w.pusher = NewPusher(w.store, w.cache, fromMetadata, log, opts...)
		server := NewServer(w.pusher, ServerConfig{Log: log})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { w.pusher.Run(ctx) })
		running.Go(func() { server.Run(ctx, w.lis) })
		defer running.Wait()
		defer cancel()
		f(t, w)
	})
}

// fromMetadata stands for the certificate of a connection: the test's client
// says in a header who it is, with what its workload offers.
func fromMetadata(ctx context.Context) (mesh.Node, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	who := md.Get("who")
	if len(who) == 0 {
		return mesh.Node{}, io.ErrUnexpectedEOF
	}
	parts := strings.Split(who[0], "/")
	return mesh.Node{Workload: mesh.Workload{Namespace: parts[0], Name: parts[1], DiscoveryNames: md.Get("offers")}, Task: parts[2]}, nil
}

// sidecar is a client that subscribes as an Envoy does and accepts everything,
// unless it is told to be silent.
type sidecar struct {
	t      *testing.T
	cancel context.CancelFunc
	stream grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]

	mu     sync.Mutex
	silent bool
	have   map[delta.Ref]*discoveryv3.Resource
	order  []string // "type name" as they came
	err    error
}

type caller struct {
	id     string   // what the connection proves
	offers []string // its workload's services
	node   string   // what the node claims; "" is id
	ports  []bootstrap.Port
	wiring mesh.Wiring
	zone   string
}

func envoyNode(t *testing.T, id string, meta bootstrap.NodeMeta) *corev3.Node {
	t.Helper()
	md, err := meta.Struct()
	if err != nil {
		t.Fatal(err)
	}
	return &corev3.Node{Id: id, Cluster: id[:strings.LastIndex(id, "/")], Metadata: md, UserAgentName: "envoy",
		UserAgentVersionType: &corev3.Node_UserAgentBuildVersion{UserAgentBuildVersion: &corev3.BuildVersion{Version: &typev3.SemanticVersion{MajorNumber: 1, MinorNumber: 40}}}}
}

func (w *world) dial(t *testing.T) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///control", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return w.lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func (w *world) connect(t *testing.T, c caller) *sidecar {
	t.Helper()
	conn := w.dial(t)
	ctx, cancel := context.WithCancel(t.Context())
	for _, o := range c.offers {
		ctx = metadata.AppendToOutgoingContext(ctx, "offers", o) //nolint:fatcontext // a handful
	}
	if c.id != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "who", c.id)
	}
	s := &sidecar{t: t, cancel: cancel, have: map[delta.Ref]*discoveryv3.Resource{}}
	var err error
	if s.stream, err = discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx); err != nil {
		t.Fatal(err)
	}
	if c.node == "" {
		c.node = c.id
	}
	if c.wiring == "" {
		c.wiring = mesh.Redirect
	}
	node := envoyNode(t, c.node, bootstrap.NodeMeta{Version: "test", Wiring: c.wiring, Ports: c.ports})
	node.Locality = &corev3.Locality{Zone: c.zone}
	s.send(&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: delta.ClusterType})
	s.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: delta.ListenerType})
	go s.run()
	synctest.Wait()
	return s
}

func (s *sidecar) send(r *discoveryv3.DeltaDiscoveryRequest) {
	if err := s.stream.Send(r); err != nil && !errors.Is(err, io.EOF) {
		s.t.Logf("send: %v", err)
	}
}

func (s *sidecar) subscribe(typeURL string, names ...string) {
	s.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesSubscribe: names})
	synctest.Wait()
}

func (s *sidecar) run() {
	for {
		r, err := s.stream.Recv()
		s.mu.Lock()
		if err != nil {
			s.err = err
			s.mu.Unlock()
			return
		}
		var fresh []string
		for _, x := range r.GetResources() {
			ref := delta.Ref{TypeURL: r.GetTypeUrl(), Name: x.GetName()}
			if s.have[ref] == nil && ref.TypeURL == delta.ClusterType && !strings.HasPrefix(ref.Name, "app-") {
				fresh = append(fresh, ref.Name)
			}
			s.have[ref] = x
			s.order = append(s.order, ref.String())
		}
		for _, name := range r.GetRemovedResources() {
			ref := delta.Ref{TypeURL: r.GetTypeUrl(), Name: name}
			delete(s.have, ref)
			s.order = append(s.order, "-"+ref.String())
		}
		silent := s.silent
		s.mu.Unlock()
		if !silent {
			s.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()})
		}
		if len(fresh) > 0 {
			s.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: delta.EndpointType, ResourceNamesSubscribe: fresh})
		}
	}
}

// came returns what came since it was last called.
func (s *sidecar) came() []string {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.order
	s.order = nil
	return out
}

func (s *sidecar) ended() error {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *sidecar) resource(typeURL, name string) *discoveryv3.Resource {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.have[delta.Ref{TypeURL: typeURL, Name: name}]
}

func name(s string) mesh.ServiceName { return mesh.ServiceName{Namespace: "prod", DiscoveryName: s} }

func addr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// service is an http service whose VIP is 127.128.9.vip.
func service(n string, vip byte, addrs ...string) *mesh.Service {
	s := &mesh.Service{Name: name(n), Protocol: mesh.HTTP,
		Aliases: []mesh.Alias{{DNSName: n, Port: 8080, VIP: netip.AddrFrom4([4]byte{127, 128, 9, vip})}}}
	for _, a := range addrs {
		s.Endpoints = append(s.Endpoints, mesh.Endpoint{InstanceID: a, Addr: addr(a), Weight: 1})
	}
	slices.SortFunc(s.Endpoints, mesh.Endpoint.Compare)
	return s
}

func (w *world) set(services ...*mesh.Service) { w.store.SetServices("prod", services) }
