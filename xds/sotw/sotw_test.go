package sotw

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/pkg/server/stream/v3"
	"github.com/google/go-cmp/cmp"
	statusv3 "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"patchbay/xds/delta"
)

type opener struct{ peer delta.Peer }

func (o opener) Identify(context.Context) (delta.Peer, error) { return o.peer, nil }

func (opener) Open(context.Context, *corev3.Node, *delta.Stream) (delta.Opened, error) {
	return delta.Opened{View: "v", Closed: func() {}}, nil
}

type service struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	*Server
}

func (s service) StreamAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return s.Serve(stream)
}

type client struct {
	t      *testing.T
	stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	cancel context.CancelFunc

	mu  sync.Mutex
	in  []*discoveryv3.DiscoveryResponse
	err error
}

func bubble(t *testing.T, o opener, f func(t *testing.T, cache *delta.Cache, connect func() *client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cache, lis := delta.NewCache(nil), bufconn.Listen(1<<16)
		g := grpc.NewServer()
		discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, service{Server: New(cache, o, slog.New(slog.DiscardHandler))})
		go g.Serve(lis) //nolint:errcheck // it ends with Stop
		defer g.Stop()
		conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		f(t, cache, func() *client {
			ctx, cancel := context.WithCancel(t.Context())
			s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
			if err != nil {
				t.Fatal(err)
			}
			c := &client{t: t, stream: s, cancel: cancel}
			go c.read()
			return c
		})
	})
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
		c.in = append(c.in, r)
		c.mu.Unlock()
	}
}

var node = &corev3.Node{Id: "prod/web/1", Cluster: "prod/web"}

func (c *client) send(r *discoveryv3.DiscoveryRequest) {
	c.t.Helper()
	if err := c.stream.Send(r); err != nil && !errors.Is(err, io.EOF) {
		c.t.Error(err)
	}
}

func (c *client) ask(typeURL string, names ...string) {
	c.send(&discoveryv3.DiscoveryRequest{Node: node, TypeUrl: typeURL, ResourceNames: names})
}

// ack answers a response, asking for these names from now on.
func (c *client) ack(r *discoveryv3.DiscoveryResponse, names ...string) {
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: r.TypeUrl, VersionInfo: r.VersionInfo, ResponseNonce: r.Nonce, ResourceNames: names})
}

func (c *client) nack(r *discoveryv3.DiscoveryResponse, names ...string) {
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: r.TypeUrl, ResponseNonce: r.Nonce, ResourceNames: names, ErrorDetail: &statusv3.Status{Message: "no"}})
}

// expect compares what came with lines like "Cluster a b".
func (c *client) expect(want ...string) []*discoveryv3.DiscoveryResponse {
	c.t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	in := c.in
	c.in = nil
	var have []string
	for _, r := range in {
		words := []string{r.TypeUrl[strings.LastIndex(r.TypeUrl, ".")+1:]}
		for _, x := range r.Resources {
			m, err := x.UnmarshalNew()
			if err != nil {
				c.t.Fatal(err)
			}
			switch m := m.(type) {
			case *clusterv3.Cluster:
				words = append(words, m.Name)
			case *endpointv3.ClusterLoadAssignment:
				words = append(words, m.ClusterName)
			}
		}
		have = append(have, strings.Join(words, " "))
	}
	if d := cmp.Diff(want, have); d != "" {
		c.t.Fatalf("responses (-want +have):\n%s", d)
	}
	return in
}

func entry(t *testing.T, typeURL, name, v string) *delta.Entry {
	t.Helper()
	var m proto.Message = &clusterv3.Cluster{Name: name, AltStatName: v}
	if typeURL == delta.EndpointType {
		m = &endpointv3.ClusterLoadAssignment{ClusterName: name, NamedEndpoints: map[string]*endpointv3.Endpoint{v: {}}}
	}
	e, err := delta.NewEntry(typeURL, name, "test", m)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// The state of the world: clusters in full, endpoints in part, and endpoints
// again after an update of their cluster.
func TestStateOfTheWorld(t *testing.T) {
	bubble(t, opener{}, func(t *testing.T, cache *delta.Cache, connect func() *client) {
		set := func(all ...*delta.Entry) { cache.Apply("v", all, nil, nil) }
		set(entry(t, delta.ClusterType, "a", "1"), entry(t, delta.ClusterType, "b", "1"), entry(t, delta.EndpointType, "a", "1"), entry(t, delta.EndpointType, "b", "1"))
		c := connect()
		c.ask("type.googleapis.com/something.else")
		c.ask(delta.ClusterType)
		c.ack(c.expect("Cluster a b")[0])
		c.ask(delta.EndpointType, "a", "b")
		c.ack(c.expect("ClusterLoadAssignment a b")[0], "a", "b")
		c.expect()
		set(entry(t, delta.EndpointType, "a", "2"))
		c.ack(c.expect("ClusterLoadAssignment a")[0], "a", "b")
		c.expect()
		set(entry(t, delta.ClusterType, "b", "2"))
		in := c.expect("Cluster a b", "ClusterLoadAssignment b")
		c.ack(in[0])
		c.ack(in[1], "a", "b")
		c.expect()
		cache.Apply("v", nil, []delta.Ref{{TypeURL: delta.ClusterType, Name: "b"}}, nil)
		c.ack(c.expect("Cluster a")[0]) // what a response lacks is gone
		c.expect()
		if n := len(cache.Status()); n != 1 {
			t.Errorf("%d streams in the status", n)
		}
		c.cancel()
		synctest.Wait()
		if n := len(cache.Status()); n != 0 {
			t.Errorf("%d streams in the status", n)
		}
	})
}

func TestARejectedVersionIsHeldBack(t *testing.T) {
	bubble(t, opener{}, func(t *testing.T, cache *delta.Cache, connect func() *client) {
		cache.Apply("v", []*delta.Entry{entry(t, delta.ClusterType, "a", "1")}, nil, nil)
		c := connect()
		c.ask(delta.ClusterType)
		c.nack(c.expect("Cluster a")[0])
		c.expect() // no loop
		time.Sleep(time.Minute)
		c.expect()
		cache.Apply("v", []*delta.Entry{entry(t, delta.ClusterType, "a", "2")}, nil, nil)
		c.ack(c.expect("Cluster a")[0])
		c.ask(delta.EndpointType, "a")
		c.ack(c.expect("ClusterLoadAssignment a")[0], "a") // unknown: empty, not silence
		cache.Apply("v", []*delta.Entry{entry(t, delta.EndpointType, "a", "1")}, nil, nil)
		c.nack(c.expect("ClusterLoadAssignment a")[0], "a")
		c.ack(c.expect("ClusterLoadAssignment a")[0], "a") // the last good one: the client may have lost it
		time.Sleep(time.Minute)
		c.expect()
		cache.Apply("v", []*delta.Entry{entry(t, delta.EndpointType, "a", "2")}, nil, nil)
		c.expect("ClusterLoadAssignment a")
	})
}

// bad reports whether a response has this version of a cluster.
func bad(t *testing.T, r *discoveryv3.DiscoveryResponse, name, version string) bool {
	t.Helper()
	for _, x := range r.Resources {
		m := &clusterv3.Cluster{}
		if err := x.UnmarshalTo(m); err != nil {
			t.Fatal(err)
		}
		if m.Name == name && m.AltStatName == version {
			return true
		}
	}
	return false
}

// A response holds every cluster, and one of them is bad: it must not come
// again with the others' changes, nor keep the others away.
func TestARejectedClusterDoesNotComeBackWithOthers(t *testing.T) {
	bubble(t, opener{}, func(t *testing.T, cache *delta.Cache, connect func() *client) {
		set := func(all ...*delta.Entry) { cache.Apply("v", all, nil, nil) }
		set(entry(t, delta.ClusterType, "a", "1"), entry(t, delta.ClusterType, "b", "1"), entry(t, delta.ClusterType, "c", "1"))
		c := connect()
		c.ask(delta.ClusterType)
		c.ack(c.expect("Cluster a b c")[0])
		set(entry(t, delta.ClusterType, "a", "2"), entry(t, delta.ClusterType, "b", "2"), entry(t, delta.ClusterType, "c", "2"))
		in := c.expect("Cluster a b c")
		// The client rejects whatever has b at version 2.
		tried := 0
		for in != nil {
			r := in[0]
			if bad(t, r, "b", "2") {
				tried++
				c.nack(r)
			} else {
				c.ack(r)
			}
			synctest.Wait()
			c.mu.Lock()
			in, c.in = c.in, nil
			c.mu.Unlock()
		}
		if tried != 2 {
			t.Errorf("the bad version came %d times, not once with the others and once alone", tried)
		}
		time.Sleep(time.Minute)
		c.expect()
		set(entry(t, delta.ClusterType, "c", "3"))
		r := c.expect("Cluster a b c")[0]
		if !bad(t, r, "a", "2") || !bad(t, r, "b", "1") || !bad(t, r, "c", "3") {
			t.Errorf("it is not the newest with the last good b: %v", r)
		}
		c.ack(r)
		c.expect()
		var refused []delta.Rejection
		for _, ts := range cache.Status()[0].Types {
			refused = append(refused, ts.Rejected...)
		}
		if len(refused) != 1 || refused[0].Name != "b" || refused[0].Error != "no" {
			t.Errorf("the books say %+v", refused)
		}
		set(entry(t, delta.ClusterType, "b", "3"))
		r = c.expect("Cluster a b c")[0]
		if !bad(t, r, "b", "3") {
			t.Errorf("a new version does not come: %v", r)
		}
		c.ack(r)
		c.expect()
	})
}

func TestTheBarrierCountsTheseClients(t *testing.T) {
	bubble(t, opener{}, func(t *testing.T, cache *delta.Cache, connect func() *client) {
		cache.Apply("v", []*delta.Entry{entry(t, delta.EndpointType, "a", "1")}, nil, nil)
		c := connect()
		c.ask(delta.EndpointType, "a")
		c.ack(c.expect("ClusterLoadAssignment a")[0], "a")
		c.expect()
		cache.Apply("v", []*delta.Entry{entry(t, delta.EndpointType, "a", "2")}, nil, nil)
		in := c.expect("ClusterLoadAssignment a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if missing := cache.WaitAcked(ctx, delta.EndpointType, "a"); !slices.Equal(missing, []string{"prod/web/1"}) {
			t.Errorf("missing %q", missing)
		}
		c.ack(in[0], "a")
		synctest.Wait()
		if missing := cache.WaitAcked(t.Context(), delta.EndpointType, "a"); missing != nil {
			t.Errorf("missing %q", missing)
		}
	})
}

func TestAnotherNodeIsRefused(t *testing.T) {
	bubble(t, opener{delta.Peer{ID: "prod/web/1", Cluster: "prod/web"}}, func(t *testing.T, cache *delta.Cache, connect func() *client) {
		for _, first := range []*corev3.Node{{Id: "prod/db/1", Cluster: "prod/db"}, nil} {
			c := connect()
			c.send(&discoveryv3.DiscoveryRequest{Node: first, TypeUrl: delta.ClusterType})
			c.expect()
			want := codes.PermissionDenied
			if first == nil {
				want = codes.InvalidArgument
			}
			if status.Code(c.err) != want {
				t.Errorf("%v: %v", first, c.err)
			}
		}
		c := connect()
		c.ask(delta.ClusterType)
		c.expect("Cluster")
		c.send(&discoveryv3.DiscoveryRequest{Node: &corev3.Node{Id: "prod/db/1"}, TypeUrl: delta.SecretType, ResourceNames: []string{"leaf/db.prod"}})
		c.expect()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.err == nil {
			t.Error("the stream goes on")
		}
	})
}

// A request that changes the subscription comes before the response to the one
// before has gone out: go-control-plane's server drops that response, and all
// is told again.
func TestAResponseThatNeverWentOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache := delta.NewCache(nil)
		cache.Apply("v", []*delta.Entry{entry(t, delta.EndpointType, "a", "1"), entry(t, delta.EndpointType, "b", "1")}, nil, nil)
		local := cache.NewLocal(delta.Peer{ID: node.GetId(), Cluster: node.GetCluster()}, slog.New(slog.DiscardHandler))
		local.Attach(delta.Opened{View: "v", Closed: func() {}})
		defer local.Detach()
		w, to := newWatcher(local), make(chan cachev3.Response, 8)
		ask := func(names ...string) string {
			t.Helper()
			r := &discoveryv3.DiscoveryRequest{Node: node, TypeUrl: delta.EndpointType, ResourceNames: names}
			if _, err := w.CreateWatch(r, streamv3.NewSotwSubscription(names, false), to); err != nil {
				t.Fatal(err)
			}
			return strings.Join(slices.Sorted(maps.Keys((<-to).GetReturnedResources())), " ")
		}
		if got := ask("a"); got != "a" {
			t.Errorf("the first response has %q", got)
		}
		if got := ask("a", "b"); got != "a b" {
			t.Errorf("the second has %q; the first never went out", got)
		}
	})
}
