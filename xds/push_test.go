package xds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"patchbay/internal/testca"
	"patchbay/mesh"
	"patchbay/xds/bootstrap"
	"patchbay/xds/delta"
	"patchbay/xds/leds"
	"patchbay/xds/translate"
	"patchbay/xds/views"
)

func expect(t *testing.T, have []string, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, have); d != "" {
		t.Fatalf("what came (-want +have):\n%s", d)
	}
}

// expectAll is expect where the requests of several types race.
func expectAll(t *testing.T, have []string, want ...string) {
	t.Helper()
	slices.Sort(have)
	slices.Sort(want)
	expect(t, have, want...)
}

func TestAChangeReachesThoseItConcerns(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.set(service("api", 1, "10.0.0.1:80"), service("db", 2, "10.0.0.2:80"))
		web := w.connect(t, caller{id: "prod/web/1"})
		expectAll(t, web.came(), "cds api.prod", "cds db.prod", "lds egress", "lds egress-127.128.9.1-8080", "lds egress-127.128.9.2-8080",
			"eds api.prod", "eds db.prod")
		time.Sleep(time.Second)
		began := time.Now()
		w.set(service("api", 1, "10.0.0.1:80", "10.0.0.3:80"), service("db", 2, "10.0.0.2:80"))
		expect(t, web.came(), "eds api.prod")
		if d := time.Since(began); d != 0 {
			t.Errorf("the first change after a quiet time waited %v", d)
		}
		// Those that follow closely are merged.
		for _, a := range []string{"10.0.0.4:80", "10.0.0.5:80", "10.0.0.6:80"} {
			w.set(service("api", 1, a), service("db", 2, "10.0.0.2:80"))
			synctest.Wait()
		}
		expect(t, web.came())
		time.Sleep(gapMin)
		expect(t, web.came(), "eds api.prod")
		time.Sleep(time.Second)
		w.set(service("db", 2, "10.0.0.2:80"))
		expect(t, web.came(), "-lds egress-127.128.9.1-8080", "-cds api.prod", "-eds api.prod")
	})
}

func TestNothingIsTakenFromASidecarByAColdStart(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		web := w.connect(t, caller{id: "prod/web/1"})
		time.Sleep(time.Minute)
		expect(t, web.came())
		w.store.SetServices("other", nil)
		expect(t, web.came())
		w.set(service("api", 1, "10.0.0.1:80"))
		expectAll(t, web.came(), "cds api.prod", "lds egress", "lds egress-127.128.9.1-8080", "eds api.prod")
		if !strings.Contains(w.logged.String(), "a stream waits for its namespace") {
			t.Error("nobody was told what it waits for")
		}
	})
}

const keyMark = "LEAF-KEY"

// leaf is a real one whose key is marked in a PEM header.
func leaf(t *testing.T, n, serial string) *mesh.Leaf {
	t.Helper()
	chain, key := testca.New(t).Issue(t, n+".prod")
	key = bytes.Replace(key, []byte("KEY-----\n"), []byte("KEY-----\nMark: "+keyMark+"-"+n+serial+"\n\n"), 1)
	return &mesh.Leaf{Service: name(n), Issuer: "default", Serial: serial, ChainPEM: chain, KeyPEM: key}
}

func tlsPort(n string) bootstrap.Port {
	return bootstrap.Port{PortName: n, DiscoveryName: n, Protocol: mesh.HTTP, AppPort: 8080, ListenerPort: 15010, TLS: &bootstrap.PortTLS{Issuer: "default"}}
}

func TestANodeGetsTheLeavesOfItsServicesOnly(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.set(service("api", 1), service("db", 2))
		w.store.SetBundle(&mesh.Bundle{Issuer: "default", RootsPEM: testca.New(t).RootPEM})
		w.store.SetLeaf(leaf(t, "api", "1"))
		w.store.SetLeaf(leaf(t, "db", "1"))
		api := w.connect(t, caller{id: "prod/api/1", offers: []string{"api"}, ports: []bootstrap.Port{tlsPort("api")}})
		web := w.connect(t, caller{id: "prod/web/1"})
		for _, s := range []*sidecar{api, web} {
			s.came()
			s.subscribe(delta.SecretType, "leaf/api.prod", "leaf/db.prod", "bundle/default", "*")
		}
		expect(t, api.came(), "sds bundle/default", "sds leaf/api.prod", "-sds leaf/db.prod")
		expect(t, web.came(), "sds bundle/default", "-sds leaf/api.prod", "-sds leaf/db.prod")
		time.Sleep(time.Second)
		// Trust goes out before the leaf that needs it, and nobody else hears.
		w.store.SetBundle(&mesh.Bundle{Issuer: "default", RootsPEM: testca.New(t).RootPEM})
		w.store.SetLeaf(leaf(t, "api", "2"))
		w.store.SetLeaf(leaf(t, "db", "2"))
		time.Sleep(time.Second)
		expect(t, api.came(), "sds bundle/default", "sds leaf/api.prod")
		if got := api.resource(delta.SecretType, "leaf/api.prod").String(); !strings.Contains(got, keyMark+"-api2") {
			t.Error("the new leaf did not arrive")
		}
		// A caller that has not taken the trust holds the leaf up, for a while.
		web.mu.Lock()
		web.silent = true
		web.mu.Unlock()
		w.store.SetBundle(&mesh.Bundle{Issuer: "default", RootsPEM: testca.New(t).RootPEM})
		w.store.SetLeaf(leaf(t, "api", "3"))
		time.Sleep(holdMax - time.Second)
		expect(t, api.came(), "sds bundle/default")
		time.Sleep(2 * time.Second)
		expect(t, api.came(), "sds leaf/api.prod")
		w.store.SetLeaf(leaf(t, "api", "4")) // the next renewal does not wait again
		time.Sleep(time.Second)
		expect(t, api.came(), "sds leaf/api.prod")
		expect(t, web.came(), "sds bundle/default", "sds bundle/default")
		for _, s := range []*sidecar{api, web} {
			for ref, r := range s.have {
				if ref.Name != "leaf/api.prod" && strings.Contains(string(r.GetResource().GetValue()), keyMark) {
					t.Errorf("%s holds a key", ref)
				}
			}
		}
		if strings.Contains(w.logged.String(), keyMark) {
			t.Error("a key in the log")
		}
	})
}

func TestWhoMayOpenAStream(t *testing.T) {
	for _, c := range []struct {
		what string
		caller
		want codes.Code
	}{
		{"its own", caller{id: "prod/api/1", offers: []string{"api"}, ports: []bootstrap.Port{tlsPort("api")}}, codes.OK},
		{"nobody", caller{node: "prod/api/1"}, codes.Unauthenticated},
		{"another task", caller{id: "prod/web/1", node: "prod/web/2"}, codes.PermissionDenied},
		{"another workload", caller{id: "prod/web/1", node: "prod/api/1"}, codes.PermissionDenied},
		{"another namespace", caller{id: "prod/web/1", node: "test/web/1"}, codes.PermissionDenied},
		{"a foreign port", caller{id: "prod/web/1", offers: []string{"web"}, ports: []bootstrap.Port{tlsPort("api")}}, codes.PermissionDenied},
		{"bad metadata", caller{id: "prod/web/1", wiring: "magic"}, codes.InvalidArgument},
	} {
		t.Run(c.what, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.set(service("api", 1, "10.0.0.1:80"))
				w.store.SetLeaf(leaf(t, "api", "1"))
				s := w.connect(t, c.caller)
				s.subscribe(delta.SecretType, "leaf/api.prod")
				if got := status.Code(s.ended()); got != c.want {
					t.Fatalf("ended with %v", s.ended())
				}
				if got := s.resource(delta.SecretType, "leaf/api.prod") != nil; got != (c.want == codes.OK) {
					t.Errorf("the key was sent: %v", got)
				}
				if c.want != codes.OK && len(s.came()) > 0 {
					t.Error("it was told something")
				}
			})
		})
	}
}

func TestRemovedWaitsForEverySubscriber(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.set(service("api", 1, "10.0.0.1:80", "10.0.0.2:80"))
		one := w.connect(t, caller{id: "prod/web/1"})
		two := w.connect(t, caller{id: "prod/web/2", wiring: mesh.Bind})
		removed := func() (missing []string, err error) {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			return w.pusher.Removed(ctx, name("api"), addr("10.0.0.2:80"))
		}
		if missing, err := removed(); !errors.Is(err, context.DeadlineExceeded) || missing != nil {
			t.Errorf("still registered: %v, %v", missing, err)
		}
		began := time.Now()
		go func() { time.Sleep(3 * time.Second); w.set(service("api", 1, "10.0.0.1:80")) }()
		if missing, err := removed(); err != nil || missing != nil || time.Since(began) != 3*time.Second {
			t.Errorf("%v, %v after %v", missing, err, time.Since(began))
		}
		one.came()
		w.set(service("api", 1, "10.0.0.1:80", "10.0.0.2:80"))
		time.Sleep(time.Second)
		two.mu.Lock()
		two.silent = true
		two.mu.Unlock()
		w.set(service("api", 1, "10.0.0.1:80"))
		began = time.Now()
		if missing, err := removed(); err != nil || cmp.Diff(missing, []string{"prod/web/2"}) != "" || time.Since(began) != 10*time.Second {
			t.Errorf("%v, %v after %v", missing, err, time.Since(began))
		}
		two.cancel()
		if missing, err := removed(); err != nil || missing != nil {
			t.Errorf("%v, %v", missing, err)
		}
		w.set() // the whole service goes
		if missing, err := removed(); err != nil || missing != nil {
			t.Errorf("%v, %v", missing, err)
		}
	})
}

func TestTLSEndpointsWaitForAClusterThatKnowsTLS(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		encrypted := service("api", 1, "10.0.0.1:80", "10.0.0.9:80")
		encrypted.TLS = &mesh.ServiceTLS{Issuer: "default"}
		encrypted.Endpoints[1].TLS = true
		w.set(service("api", 1, "10.0.0.1:80"))
		web := w.connect(t, caller{id: "prod/web/1"})
		slow := w.connect(t, caller{id: "prod/web/2"})
		time.Sleep(time.Second)
		web.came()
		slow.mu.Lock()
		slow.silent = true
		slow.mu.Unlock()
		w.set(encrypted)
		time.Sleep(time.Second)
		expect(t, web.came(), "cds api.prod", "eds api.prod") // the old endpoints, as they must follow a cluster
		slow.mu.Lock()
		slow.silent = false
		slow.mu.Unlock()
		time.Sleep(holdMax - 1500*time.Millisecond)
		expect(t, web.came())
		time.Sleep(time.Second)
		expect(t, web.came(), "eds api.prod") // it was held long enough

		w.set(service("api", 1, "10.0.0.1:80"))
		time.Sleep(time.Second)
		slow.cancel()
		web.came()
		w.set(encrypted)
		synctest.Wait()
		time.Sleep(2 * gapMin)
		expect(t, web.came(), "cds api.prod", "eds api.prod", "eds api.prod") // all have acknowledged
		if got := web.resource(delta.EndpointType, "api.prod").String(); !strings.Contains(got, "10.0.0.9") {
			t.Errorf("endpoints: %s", got)
		}
	})
}

func TestViewsAreSharedAndDropped(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.set(service("api", 1, "10.0.0.1:80"))
		var all []*sidecar
		for _, id := range []string{"prod/web/1", "prod/web/2", "prod/api/1"} {
			all = append(all, w.connect(t, caller{id: id}))
		}
		bind := w.connect(t, caller{id: "prod/web/3", wiring: mesh.Bind})
		views := func() int { w.pusher.mu.Lock(); defer w.pusher.mu.Unlock(); return len(w.pusher.views) }
		if n := views(); n != 2 {
			t.Errorf("%d views for two wirings", n)
		}
		bind.cancel()
		time.Sleep(viewLife + viewLife/2)
		if n := views(); n != 1 {
			t.Errorf("%d views after one was left", n)
		}
		w.set(service("api", 1, "10.0.0.2:80"))
		for _, s := range all {
			s.came()
			if s.ended() != nil {
				t.Error(s.ended())
			}
		}
	})
}

// TestBusy: a push that does not end is seen without waiting for it.
func TestBusy(t *testing.T) {
	p, begun := NewPusher(mesh.NewStore(), delta.NewCache(nil), nil, slog.New(slog.DiscardHandler)), time.Now()
	becomes := func(want bool) {
		t.Helper()
		eventually(t, func() error {
			if since, yes := p.Busy(); yes != want || yes && (since.Before(begun) || since.After(time.Now())) {
				return fmt.Errorf("%v, since %v", yes, since)
			}
			return nil
		})
	}
	becomes(false)
	p.mu.Lock()
	ended := make(chan struct{})
	go func() { p.push(); close(ended) }()
	becomes(true)
	p.mu.Unlock()
	<-ended
	becomes(false)
}

func TestInvalidResourcesAreWithheld(t *testing.T) {
	good := &clusterv3.Cluster{Name: "ok"}
	packed, err := anypb.New(&routerv3.TcpProxy{}) // lacks its stat prefix and cluster
	if err != nil {
		t.Fatal(err)
	}
	deep := &listenerv3.Listener{Name: "l", Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 80}}}}, TrafficDirection: corev3.TrafficDirection_OUTBOUND, FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
		Name: "tcp", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: packed}}}}}}
	log := &logBook{}
	v := newView(views.View{Namespace: "prod"}, leds.Off)
	ref := delta.Ref{TypeURL: delta.ClusterType, Name: "c"}
	gone := map[delta.Ref]bool{ref: true} // it was shown before
	all := []translate.Resource{
		{TypeURL: delta.ClusterType, Name: "c", Message: &clusterv3.Cluster{}},
		{TypeURL: delta.ListenerType, Name: "l", Message: deep},
		{TypeURL: delta.ClusterType, Name: "ok", Message: good},
	}
	out := v.encode("api.prod", all, gone, slog.New(slog.NewTextHandler(log, nil)))
	if len(out) != 1 || out[0].Ref().Name != "ok" {
		t.Errorf("encoded: %v", out)
	}
	if len(gone) != 0 {
		t.Error("the last good version would be removed")
	}
	for _, part := range []string{"api.prod", "cds c", "Cluster.Name", "lds l", "TcpProxy.StatPrefix"} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("the log does not name %s:\n%s", part, log)
		}
	}
	if w := v.withheld[ref]; len(v.withheld) != 2 || w.Source != "api.prod" || !strings.Contains(w.Problem, "Cluster.Name") {
		t.Errorf("withheld: %+v", v.withheld)
	}
	// It is said once, and forgotten when it is well or gone.
	said := log.String()
	v.disown(map[string]bool{"api.prod": true})
	all[0].Message = &clusterv3.Cluster{Name: "c"}
	v.encode("api.prod", all[:2], map[delta.Ref]bool{}, slog.New(slog.NewTextHandler(log, nil)))
	if len(v.withheld) != 1 || log.String() != said {
		t.Errorf("withheld: %+v\n%s", v.withheld, strings.TrimPrefix(log.String(), said))
	}
}

func TestWithoutTLSOnlyThisMachineIsServed(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	p := NewPusher(mesh.NewStore(), delta.NewCache(nil), nil, log)
	lis, err := net.Listen("tcp", "0.0.0.0:0") //nolint:gosec // this is what must be refused
	if err != nil {
		t.Fatal(err)
	}
	if err := NewServer(p, ServerConfig{Log: log}).Run(t.Context(), lis); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("it served %v: %v", lis.Addr(), err)
	}
}
