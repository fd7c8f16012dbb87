package delta

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	statusv3 "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"patchbay/xds/delta/wire"
)

// world is a server and its cache, all inside one bubble.
type world struct {
	t      *testing.T
	cache  *Cache
	server *Server
	opener *opener
	lis    *bufconn.Listener
	logged *logBook
	reg    *prometheus.Registry
}

// opener lets everybody see the view "v".
type opener struct {
	mu      sync.Mutex
	peer    Peer
	gate    chan struct{} // Open waits for it
	private []*Entry
	streams []*Stream
	closed  int
}

func (o *opener) Identify(context.Context) (Peer, error) { return o.peer, nil }

func (o *opener) Open(ctx context.Context, _ *corev3.Node, s *Stream) (Opened, error) {
	if o.gate != nil {
		select {
		case <-o.gate:
		case <-ctx.Done():
			return Opened{}, ctx.Err()
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.streams = append(o.streams, s)
	s.SetPrivate(o.private)
	return Opened{View: "v", Closed: func() { o.mu.Lock(); o.closed++; o.mu.Unlock() }}, nil
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

// bubble runs f with a server, and ends everything that it started.
func bubble(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		w := &world{t: t, cache: NewCache(NewMetrics(reg)), opener: &opener{}, lis: bufconn.Listen(1 << 16), logged: &logBook{}, reg: reg}
		log := slog.New(slog.NewTextHandler(w.logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
		w.server = NewServer(w.cache, w.opener, Config{Log: log})
		g := grpc.NewServer(Options(0)...)
		w.server.Register(g)
		go g.Serve(w.lis)
		defer g.Stop()
		f(t, w)
	})
}

// client is a delta ADS client that does only what the test says, and keeps
// what it was told.
type client struct {
	t      testing.TB
	conn   *grpc.ClientConn
	stream grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]
	cancel context.CancelFunc

	mu    sync.Mutex
	inbox []*discoveryv3.DeltaDiscoveryResponse
	err   error
	have  map[Ref]string // versions, as an Envoy that accepts everything
}

func (w *world) dial(t testing.TB, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///control", append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return w.lis.DialContext(ctx) }))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// connect opens a stream. Nothing is read unless reading is set.
func (w *world) connect(t testing.TB, reading bool) *client {
	t.Helper()
	c := &client{t: t, conn: w.dial(t), have: map[Ref]string{}}
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	t.Cleanup(cancel)
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(c.conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c.stream = s
	if reading {
		go c.read()
	}
	return c
}

func (c *client) read() {
	for {
		r, err := c.stream.Recv()
		c.mu.Lock()
		if err != nil {
			c.err = err
			c.mu.Unlock()
			return
		}
		c.inbox = append(c.inbox, r)
		for _, x := range r.GetResources() {
			c.have[ref(r.GetTypeUrl(), x.GetName())] = x.GetVersion()
		}
		for _, name := range r.GetRemovedResources() {
			delete(c.have, ref(r.GetTypeUrl(), name))
		}
		c.mu.Unlock()
	}
}

func (c *client) leave() {
	c.cancel()
	c.conn.Close()
	synctest.Wait()
}

var testNode = &corev3.Node{Id: "prod/web/1", Cluster: "prod/web"}

type req = discoveryv3.DeltaDiscoveryRequest

func (c *client) send(r *req) {
	c.t.Helper()
	if err := c.stream.Send(r); err != nil {
		c.t.Logf("send: %v", err)
	}
}

// ask sends a request of a type: "+name" subscribes, "-name" unsubscribes,
// "name=version" is an initial resource version. The node is always there.
func (c *client) ask(typeURL string, words ...string) {
	c.t.Helper()
	r := &req{Node: testNode, TypeUrl: typeURL, InitialResourceVersions: map[string]string{}}
	for _, w := range words {
		switch name, version, isVersion := strings.Cut(w, "="); {
		case isVersion:
			r.InitialResourceVersions[name] = version
		case w[0] == '+':
			r.ResourceNamesSubscribe = append(r.ResourceNamesSubscribe, w[1:])
		default:
			r.ResourceNamesUnsubscribe = append(r.ResourceNamesUnsubscribe, w[1:])
		}
	}
	c.send(r)
}

func (c *client) ack(all ...*discoveryv3.DeltaDiscoveryResponse) {
	for _, r := range all {
		c.send(&req{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()})
	}
}

func (c *client) nack(r *discoveryv3.DeltaDiscoveryResponse, text string) {
	c.send(&req{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce(), ErrorDetail: &statusv3.Status{Code: 3, Message: text}})
}

// take waits until everything stands still and returns what came since.
func (c *client) take() []*discoveryv3.DeltaDiscoveryResponse {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	in := c.inbox
	c.inbox = nil
	return in
}

// expect compares what came with lines like "cds +a +b" or "eds -a".
func (c *client) expect(want ...string) []*discoveryv3.DeltaDiscoveryResponse {
	c.t.Helper()
	in := c.take()
	var have []string
	for _, r := range in {
		have = append(have, line(r))
	}
	if d := cmp.Diff(want, have); d != "" {
		c.t.Fatalf("responses (-want +have):\n%s", d)
	}
	return in
}

func ref(typeURL, name string) Ref { return Ref{TypeURL: typeURL, Name: name} }

func line(r *discoveryv3.DeltaDiscoveryResponse) string {
	k, _ := wire.KindOf(r.GetTypeUrl())
	words := []string{k.String()}
	for _, x := range r.GetResources() {
		words = append(words, "+"+x.GetName())
	}
	for _, name := range r.GetRemovedResources() {
		words = append(words, "-"+name)
	}
	return strings.Join(words, " ")
}

func (c *client) ended() error {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// entry makes a resource of a type whose content is v.
func entry(k kind, name string, v int) *Entry {
	text := fmt.Sprint("v", v)
	var m proto.Message
	switch k {
	case clusters:
		m = &clusterv3.Cluster{Name: name, AltStatName: text}
	case endpoints:
		m = &endpointv3.ClusterLoadAssignment{ClusterName: name, NamedEndpoints: map[string]*endpointv3.Endpoint{text: {Hostname: text}}}
	case members:
		m = &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_EndpointName{EndpointName: text}}
	case secrets:
		m = &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			PrivateKey: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: "PRIVATE-KEY-" + text}}}}}
	case listeners:
		m = &listenerv3.Listener{Name: name, StatPrefix: text}
	case routes:
		m = &routev3.RouteConfiguration{Name: name, InternalOnlyHeaders: []string{text}}
	}
	e, err := NewEntry(k.TypeURL(), name, "test", m)
	if err != nil {
		panic(err)
	}
	return e
}

func (w *world) set(all ...*Entry) { w.cache.Apply("v", all, nil, nil) }

func (w *world) remove(all ...*Entry) {
	var refs []Ref
	for _, e := range all {
		refs = append(refs, e.Ref())
	}
	w.cache.Apply("v", nil, refs, nil)
}

// ready connects a client that has the clusters a and b with their endpoints.
func (w *world) ready(t *testing.T) *client {
	t.Helper()
	w.set(entry(clusters, "a", 1), entry(clusters, "b", 1), entry(endpoints, "a", 1), entry(endpoints, "b", 1))
	c := w.connect(t, true)
	c.ask(ClusterType)
	c.ack(c.expect("cds +a +b")...)
	c.ask(EndpointType, "+a", "+b")
	c.ack(c.expect("eds +a +b")...)
	c.expect()
	return c
}

func (w *world) types(node string) map[string]TypeStatus {
	synctest.Wait()
	all := w.cache.Status()
	i := slices.IndexFunc(all, func(s StreamStatus) bool { return s.Node == node })
	out := map[string]TypeStatus{}
	if i >= 0 {
		for _, t := range all[i].Types {
			out[t.Type] = t
		}
	}
	return out
}
