package delta

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	clusterservice "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	endpointservice "github.com/envoyproxy/go-control-plane/envoy/service/endpoint/v3"
	listenerservice "github.com/envoyproxy/go-control-plane/envoy/service/listener/v3"
	routeservice "github.com/envoyproxy/go-control-plane/envoy/service/route/v3"
	secretservice "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"patchbay/xds/delta/wire"
)

func TestRejectedResourceIsIsolated(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.ready(t)
		w.set(entry(endpoints, "a", 2), entry(endpoints, "b", 2))
		c.nack(c.expect("eds +a +b")[0], "b is bad")
		in := c.expect("eds +a", "eds +b")
		c.ack(in[0])
		c.nack(in[1], "b is bad")
		good := func(r *discoveryv3.DeltaDiscoveryResponse) {
			t.Helper()
			if v := r.GetResources()[0].GetVersion(); v != entry(endpoints, "b", 1).Version() {
				t.Errorf("version %s is not the last good one", v)
			}
			c.ack(r)
		}
		good(c.expect("eds +b")[0]) // if b was warming it has lost its hosts
		c.expect()
		// The bad one is held back: neither a new subscription nor its cluster
		// brings it again.
		c.ask(EndpointType, "+b")
		good(c.expect("eds +b")[0])
		w.set(entry(clusters, "b", 2))
		in = c.expect("cds +b", "eds +b")
		c.ack(in[0])
		good(in[1])
		got := w.types("prod/web/1")["eds"]
		if len(got.Rejected) != 1 || got.Rejected[0].Name != "b" || got.Rejected[0].Version != entry(endpoints, "b", 2).Version() {
			t.Errorf("rejected: %+v", got.Rejected)
		}
		if r := got.Resources[1]; r.Accepted != entry(endpoints, "b", 1).Version() || r.Sent != r.Accepted {
			t.Errorf("books of b: %+v", r)
		}
		if n := strings.Count(w.logged.String(), "envoy rejected a resource"); n != 1 {
			t.Errorf("logged %d times:\n%s", n, w.logged)
		}
		w.set(entry(endpoints, "b", 3))
		c.ack(c.expect("eds +b")...)
		if got := w.types("prod/web/1")["eds"].Rejected; len(got) != 0 {
			t.Errorf("still rejected: %+v", got)
		}
	})
}

// The ACK of what came in between must not leave the client without the newest.
func TestContentThatGoesBackToARejectedVersionIsTriedAgain(t *testing.T) {
	for _, between := range []string{"another version", "nothing"} {
		t.Run(between, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				c := w.connect(t, true)
				c.ask(ListenerType)
				w.set(entry(listeners, "a", 1))
				c.ack(c.take()...)
				w.set(entry(listeners, "a", 2))
				c.nack(c.expect("lds +a")[0], "not now")
				c.expect() // held back until its content changes
				if between == "nothing" {
					w.remove(entry(listeners, "a", 2))
				} else {
					w.set(entry(listeners, "a", 3))
				}
				in := c.take()
				w.set(entry(listeners, "a", 2))
				in = append(in, c.take()...)
				for len(in) > 0 {
					c.ack(in...)
					in = c.take()
				}
				if got, want := c.have[ref(ListenerType, "a")], entry(listeners, "a", 2).Version(); got != want {
					t.Errorf("the client was left with version %q, not %s", got, want)
				}
			})
		})
	}
}

func TestRejectionRepairsClustersThatWait(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.ready(t)
		w.set(entry(clusters, "a", 2))
		in := c.expect("cds +a", "eds +a")
		c.ack(in[1])
		w.set(entry(endpoints, "b", 2)) // Envoy has not taken cluster a yet
		c.nack(c.expect("eds +b")[0], "bad")
		c.ack(c.expect("eds +a +b")...)
		c.expect()
	})
}

func TestAClientThatRejectsEverythingMakesNoLoop(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.ready(t)
		var all []*Entry
		for name := range strings.SplitSeq("abcdefghij", "") {
			all = append(all, entry(clusters, name, 5), entry(endpoints, name, 5))
		}
		w.set(all...)
		n := 0
		for in := c.take(); len(in) > 0; in = c.take() {
			if n += len(in); n > 200 {
				t.Fatal("no end of responses")
			}
			for _, r := range in {
				c.nack(r, "never")
			}
		}
		if got := w.types("prod/web/1"); len(got["cds"].Rejected) != 10 || len(got["eds"].Rejected) != 2 {
			t.Errorf("rejected %d clusters, %d endpoints", len(got["cds"].Rejected), len(got["eds"].Rejected))
		}
	})
}

func TestPrivateEntries(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.set(entry(clusters, "a", 1), entry(secrets, "bundle/x", 1))
		w.opener.private = []*Entry{entry(clusters, "a", 7), entry(clusters, "app", 1), entry(secrets, "leaf/mine", 1)}
		c := w.connect(t, true)
		c.ask(ClusterType)
		c.ask(SecretType, "+leaf/mine", "+bundle/x", "+leaf/theirs")
		in := c.expect("cds +a +app", "sds +bundle/x +leaf/mine", "sds -leaf/theirs")
		if v := in[0].GetResources()[0].GetVersion(); v != entry(clusters, "a", 7).Version() {
			t.Errorf("cluster a has version %s: the view's", v)
		}
		c.ack(in...)
		st := w.opener.streams[0]
		st.SetPrivate([]*Entry{entry(clusters, "app", 1), entry(secrets, "leaf/mine", 2)})
		in = c.expect("cds +a", "sds +leaf/mine")
		if v := in[0].GetResources()[0].GetVersion(); v != entry(clusters, "a", 1).Version() {
			t.Errorf("cluster a has version %s: not the view's", v)
		}
		st.SetPrivate(nil)
		c.expect("cds -app", "sds -leaf/mine")
	})
}

const keyMark = "PRIVATE-KEY"

func TestAnotherNodesIdentityIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.set(entry(secrets, "s", 1))
		w.opener.private = []*Entry{entry(secrets, "leaf/mine", 1)}
		w.opener.peer = Peer{ID: "prod/web/1", Cluster: "prod/web"}
		for _, n := range []*corev3.Node{{Id: "prod/db/1", Cluster: "prod/db"}, {Id: "prod/web/1", Cluster: "prod/db"}, {Id: "prod/web/1"}, {Cluster: "prod/web"}} {
			c := w.connect(t, true)
			c.send(&req{Node: n, TypeUrl: SecretType, ResourceNamesSubscribe: []string{"leaf/mine", "s"}})
			if in := c.take(); len(in) > 0 {
				t.Errorf("node %v was answered: %s", n, line(in[0]))
			}
			if got := status.Code(c.ended()); got != codes.PermissionDenied {
				t.Errorf("node %v: %v", n, c.ended())
			}
		}
		c := w.connect(t, true)
		c.send(&req{TypeUrl: SecretType, ResourceNamesSubscribe: []string{"leaf/mine"}})
		if got := status.Code(c.ended()); got != codes.InvalidArgument || len(c.take()) > 0 {
			t.Errorf("without a node: %v", c.ended())
		}
	})
}

func TestChangedNodeEndsTheStream(t *testing.T) {
	for _, proven := range []bool{true, false} {
		bubble(t, func(t *testing.T, w *world) {
			w.opener.private = []*Entry{entry(secrets, "leaf/mine", 1)}
			if proven {
				w.opener.peer = Peer{ID: testNode.Id, Cluster: testNode.Cluster}
			}
			c := w.connect(t, true)
			c.ask(ClusterType)
			c.ask(ClusterType) // the same node again is fine
			c.send(&req{Node: &corev3.Node{Id: testNode.Id, Cluster: testNode.Cluster, UserAgentName: "envoy"}, TypeUrl: ClusterType})
			c.expect("cds")
			c.send(&req{Node: &corev3.Node{Id: "prod/db/1", Cluster: "prod/db"}, TypeUrl: SecretType, ResourceNamesSubscribe: []string{"leaf/mine"}})
			c.expect()
			if got := status.Code(c.ended()); got != codes.PermissionDenied {
				t.Errorf("ended with %v", c.ended())
			}
		})
	}
}

func TestUnaryFetchesAndStateOfTheWorldAreNotThere(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.set(entry(secrets, "s", 1))
		conn, r := w.dial(t), &discoveryv3.DiscoveryRequest{Node: testNode, ResourceNames: []string{"s"}}
		ctx := t.Context()
		fetch := map[string]func() (*discoveryv3.DiscoveryResponse, error){
			"cds": func() (*discoveryv3.DiscoveryResponse, error) {
				return clusterservice.NewClusterDiscoveryServiceClient(conn).FetchClusters(ctx, r)
			},
			"eds": func() (*discoveryv3.DiscoveryResponse, error) {
				return endpointservice.NewEndpointDiscoveryServiceClient(conn).FetchEndpoints(ctx, r)
			},
			"lds": func() (*discoveryv3.DiscoveryResponse, error) {
				return listenerservice.NewListenerDiscoveryServiceClient(conn).FetchListeners(ctx, r)
			},
			"rds": func() (*discoveryv3.DiscoveryResponse, error) {
				return routeservice.NewRouteDiscoveryServiceClient(conn).FetchRoutes(ctx, r)
			},
			"sds": func() (*discoveryv3.DiscoveryResponse, error) {
				return secretservice.NewSecretDiscoveryServiceClient(conn).FetchSecrets(ctx, r)
			},
			"sotw": func() (*discoveryv3.DiscoveryResponse, error) {
				s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
				if err != nil {
					return nil, err
				}
				s.Send(r)
				return s.Recv()
			},
			"delta sds": func() (*discoveryv3.DiscoveryResponse, error) {
				s, err := secretservice.NewSecretDiscoveryServiceClient(conn).DeltaSecrets(ctx)
				if err != nil {
					return nil, err
				}
				s.Send(&req{Node: testNode, ResourceNamesSubscribe: []string{"s"}})
				_, err = s.Recv()
				return nil, err
			},
		}
		for name, f := range fetch {
			if resp, err := f(); status.Code(err) != codes.Unimplemented || strings.Contains(resp.String(), keyMark) {
				t.Errorf("%s: %v, %v", name, resp, err)
			}
		}
	})
}

func TestLimitsOfARequest(t *testing.T) {
	many := make([]string, 20_001)
	for i := range many {
		many[i] = "n"
	}
	for name, r := range map[string]*req{
		"too large":      {Node: testNode, TypeUrl: strings.Repeat("x", 4<<20)},
		"node too large": {Node: &corev3.Node{Id: testNode.Id, UserAgentName: strings.Repeat("x", 256<<10)}, TypeUrl: ClusterType},
		"too many names": {Node: testNode, TypeUrl: EndpointType, ResourceNamesSubscribe: many},
	} {
		bubble(t, func(t *testing.T, w *world) {
			c := w.connect(t, true)
			c.send(r)
			c.take()
			if err := c.ended(); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "allowed") && !strings.Contains(err.Error(), "more than") && !strings.Contains(err.Error(), "at most") {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	bubble(t, func(t *testing.T, w *world) {
		c := w.connect(t, true)
		c.send(&req{Node: testNode, TypeUrl: EndpointType, ResourceNamesSubscribe: names("a", 15_000)})
		c.take()
		c.send(&req{TypeUrl: RouteType, ResourceNamesSubscribe: names("b", 15_000)})
		c.take()
		if err := c.ended(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("30,000 names on a stream: %v", err)
		}
	})
}

func names(prefix string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = prefix + wire.FormatVersion(uint64(i+1))
	}
	return all
}

func TestNothingIsAnsweredBeforeOpenReturns(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.opener.gate = make(chan struct{})
		c := w.connect(t, true)
		c.ask(ClusterType, "a=1")
		c.ask(EndpointType, "+a", "a=1")
		c.expect()
		w.set(entry(clusters, "a", 1), entry(endpoints, "a", 1))
		close(w.opener.gate)
		c.expect("cds +a", "eds +a")
	})
}

func TestASlowReaderIsEndedAndCostsNobody(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.ready(t)
		slow := w.connect(t, false)
		slow.ask(ClusterType)
		big := strings.Repeat("x", 1<<10)
		began := time.Now()
		for v := range 50 {
			var all []*Entry
			for i := range 100 {
				all = append(all, entry(clusters, big+names("n", 100)[i], v))
			}
			w.set(all...)
			w.set(entry(endpoints, "a", 100+v))
			if in := c.take(); len(in) < 2 {
				t.Fatalf("round %d: the healthy client was sent %d responses", v, len(in))
			} else {
				c.ack(in...)
			}
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("the healthy client waited %v", took)
		}
		if behind, streams := w.cache.Behind(); behind != 1 || streams != 2 {
			t.Errorf("%d of %d streams are behind", behind, streams)
		}
		time.Sleep(29 * time.Second)
		synctest.Wait()
		if n := len(w.cache.Status()); n != 2 {
			t.Errorf("%d streams before the deadline", n)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := len(w.cache.Status()); n != 1 {
			t.Errorf("%d streams after the deadline", n)
		}
		if !strings.Contains(w.logged.String(), "the client read nothing for 30s") {
			t.Errorf("no reason in the log:\n%s", w.logged)
		}
	})
}

func TestUnansweredEndpointUpdatesAreMerged(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.ready(t)
		for v := range 20 {
			w.set(entry(endpoints, "a", 10+v))
			synctest.Wait()
		}
		c.ack(c.expect("eds +a")...)
		in := c.expect("eds +a")
		if v := in[0].GetResources()[0].GetVersion(); v != entry(endpoints, "a", 29).Version() {
			t.Errorf("after the ACK: %s, not the newest", v)
		}
		// A client that never answers gets the newest after a while.
		w.set(entry(endpoints, "a", 50))
		c.expect()
		time.Sleep(6 * time.Second)
		c.expect("eds +a")
	})
}

func TestBarrier(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.ready(t)
		wait := func() chan []string {
			done := make(chan []string, 1)
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			go func() { defer cancel(); done <- w.cache.WaitAcked(ctx, EndpointType, "a") }()
			synctest.Wait()
			return done
		}
		ended := func(done chan []string) (missing []string, ok bool) {
			synctest.Wait()
			select {
			case missing = <-done:
				return missing, true
			default:
				return nil, false
			}
		}
		if m, ok := ended(wait()); !ok || m != nil {
			t.Errorf("nothing to wait for: %v %v", m, ok)
		}
		w.set(entry(endpoints, "a", 2))
		done := wait()
		if _, ok := ended(done); ok {
			t.Error("it did not wait for the ACK")
		}
		in := c.expect("eds +a")
		w.set(entry(endpoints, "a", 3)) // other changes go on meanwhile
		c.take()
		c.ack(in...)
		if _, ok := ended(done); !ok {
			t.Error("the ACK of the change did not end it")
		}
		c.ack(c.take()...)

		// A stream that leaves no longer counts; one that is silent is named.
		d := w.connect(t, true)
		d.send(&req{Node: &corev3.Node{Id: "prod/web/2", Cluster: "prod/web"}, TypeUrl: EndpointType, ResourceNamesSubscribe: []string{"a"}})
		d.take()
		w.set(entry(endpoints, "a", 4))
		c.ack(c.take()...)
		done = wait()
		d.leave()
		if m, ok := ended(done); !ok || m != nil {
			t.Errorf("after the stream left: %v %v", m, ok)
		}
		w.set(entry(endpoints, "a", 5))
		in = c.take()
		began := time.Now()
		if m := <-wait(); len(m) != 1 || m[0] != "prod/web/1" || time.Since(began) != 10*time.Second {
			t.Errorf("missing %v after %v", m, time.Since(began))
		}
		c.nack(in[len(in)-1], "no") // a rejection is no acceptance
		if m := <-wait(); len(m) != 1 {
			t.Errorf("missing after a rejection: %v", m)
		}
		c.ask(EndpointType, "-a")
		if m := <-wait(); m != nil {
			t.Errorf("missing after it unsubscribed: %v", m)
		}
	})
}

func TestBooks(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.ready(t)
		w.set(entry(clusters, "a", 2))
		in := c.expect("cds +a", "eds +a")
		c.ack(in[1])
		s := w.types("prod/web/1")
		if cds := s["cds"]; !cds.Wildcard || cds.UnackedSince.IsZero() || !cds.Resources[0].Waiting || cds.Resources[0].Accepted != entry(clusters, "a", 1).Version() || cds.Resources[1].Waiting {
			t.Errorf("cds: %+v", cds)
		}
		if eds := s["eds"]; eds.Subscribed != 2 || !eds.UnackedSince.IsZero() || eds.Resources[0].Waiting {
			t.Errorf("eds: %+v", eds)
		}
		c.leave()
		if n := len(w.cache.Status()); n != 0 || w.opener.closed != 1 {
			t.Errorf("%d streams, closed %d times", n, w.opener.closed)
		}
		for k := range w.cache.view("v").sets {
			if set := &w.cache.view("v").sets[k]; len(set.byName)+set.wild.Size() > 0 {
				t.Errorf("%s: the index still has the stream", kind(k))
			}
		}
		if behind, streams := w.cache.Behind(); behind != 0 || streams != 0 {
			t.Errorf("%d of %d streams behind", behind, streams)
		}
		if !w.cache.Drop("v") {
			t.Error("the view is still used")
		}
	})
}

func TestAChangeIsMeasuredToItsLastACK(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		samples := func() (n uint64, sum float64) {
			all, err := w.reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range all {
				if f.GetName() == "patchbay_xds_change_last_ack_seconds" {
					return f.Metric[0].Histogram.GetSampleCount(), f.Metric[0].Histogram.GetSampleSum()
				}
			}
			t.Fatal("the metric is not there")
			return 0, 0
		}
		one, two, gone := w.ready(t), w.ready2(t, "prod/web/2"), w.ready2(t, "prod/web/3")
		n0, s0 := samples()
		w.set(entry(clusters, "a", 2), entry(endpoints, "b", 2))
		one.ack(one.expect("cds +a", "eds +a", "eds +b")...)
		in := two.expect("cds +a", "eds +a", "eds +b")
		gone.leave()
		time.Sleep(2 * time.Second)
		two.ack(in[:2]...)
		if n, _ := samples(); n != n0 {
			t.Errorf("%d changes are over, want %d", n, n0)
		}
		two.ack(in[2])
		two.expect()
		if n, s := samples(); n != n0+1 || s-s0 < 2 || s-s0 > 2.1 {
			t.Errorf("%d changes took %v s", n-n0, s-s0)
		}
	})
}

// ready2 is another client that has clusters a and b.
func (w *world) ready2(t *testing.T, id string) *client {
	t.Helper()
	c := w.connect(t, true)
	c.send(&req{Node: &corev3.Node{Id: id, Cluster: "prod/web"}, TypeUrl: ClusterType})
	c.ack(c.expect("cds +a +b")...)
	c.ask2(EndpointType, "a", "b")
	c.ack(c.expect("eds +a +b")...)
	c.expect()
	return c
}

func (c *client) ask2(typeURL string, names ...string) {
	c.send(&req{TypeUrl: typeURL, ResourceNamesSubscribe: names})
}

func TestCloseTellsStreamsToComeBack(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.ready(t)
		w.server.Close()
		if err := c.ended(); status.Code(err) != codes.Unavailable {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestAPanicEndsOneStream(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := w.ready(t)
		w.server.opener = panics{w.opener}
		d := w.connect(t, true)
		d.ask(ClusterType)
		if err := d.ended(); status.Code(err) != codes.Internal || strings.Contains(err.Error(), "boom") {
			t.Errorf("ended with %v", err)
		}
		w.set(entry(endpoints, "a", 9))
		c.expect("eds +a")
	})
}

type panics struct{ *opener }

func (panics) Open(context.Context, *corev3.Node, *Stream) (Opened, error) { panic("boom") }

func TestRefusedByTheOpener(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.server.opener = refuses{w.opener}
		c := w.connect(t, true)
		c.ask(ClusterType)
		if err := c.ended(); status.Code(err) == codes.OK || err == nil {
			t.Errorf("ended with %v", err)
		}
	})
}

type refuses struct{ *opener }

func (refuses) Open(context.Context, *corev3.Node, *Stream) (Opened, error) {
	return Opened{}, errors.New("no view")
}
