package xds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"patchbay/internal/envoytest"
	"patchbay/mesh"
	"patchbay/mesh/policy"
	"patchbay/xds/bootstrap"
	"patchbay/xds/delta"
	"patchbay/xds/translate"
	"patchbay/xds/valid"
	"patchbay/xds/views"
)

// control is a control plane on a real port, which can be killed and started
// again.
type control struct {
	store  *mesh.Store
	cache  *delta.Cache
	pusher *Pusher
	port   uint16
	logged *logBook
	stop   func()
	// accessLog, dependencies and policies are what tasks that start from now on ask for.
	accessLog    bootstrap.AccessLog
	dependencies []string
	policies     map[string]*policy.Policy
	ipv6         bool                  // tasks listen on [::]
	names        map[string]netip.Addr // strict tasks know these; nil: tasks are live
}

func startControl(t *testing.T, port uint16, opts ...Option) *control {
	t.Helper()
	lis, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	return startControlOn(t, lis, opts...)
}

func startControlOn(t *testing.T, lis net.Listener, opts ...Option) *control {
	t.Helper()
	c := &control{store: mesh.NewStore(), cache: delta.NewCache(nil), port: uint16(lis.Addr().(*net.TCPAddr).Port), logged: &logBook{}}
	log := slog.New(slog.NewTextHandler(c.logged, nil))
	c.pusher = NewPusher(c.store, c.cache, nil, log, opts...)
	server := NewServer(c.pusher, ServerConfig{Log: log, StateOfTheWorld: true})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { c.pusher.Run(ctx) })
	running.Go(func() {
		if err := server.Run(ctx, lis); !errors.Is(err, context.Canceled) {
			t.Errorf("server: %v", err)
		}
	})
	c.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(c.stop)
	return c
}

// backend answers every request with its name, and speaks HTTP/2 without TLS
// as a sidecar's ingress does.
func backend(t *testing.T, says string) netip.AddrPort {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return backendOn(t, lis, says)
}

func backendOn(t *testing.T, lis net.Listener, says string) netip.AddrPort {
	t.Helper()
	return answering(t, lis, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, says) })
}

// answering is a backend that does something else.
func answering(t *testing.T, lis net.Listener, answer http.HandlerFunc) netip.AddrPort {
	t.Helper()
	srv := &http.Server{Protocols: &http.Protocols{}, ReadHeaderTimeout: time.Second, Handler: answer}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	go srv.Serve(lis)
	t.Cleanup(func() { srv.Close() })
	return netip.MustParseAddrPort(lis.Addr().String())
}

// freeAlias is an alias on a VIP and a port that nobody uses.
func freeAlias(t *testing.T, dns string) mesh.Alias {
	t.Helper()
	vip := netip.MustParseAddr("127.128.77.7")
	return mesh.Alias{DNSName: dns, VIP: vip, Port: unused(t, vip)}
}

func aliased(n string, a mesh.Alias, idle time.Duration, addrs ...netip.AddrPort) *mesh.Service {
	s := &mesh.Service{Name: name(n), Protocol: mesh.HTTP, Aliases: []mesh.Alias{a}, Timeouts: mesh.Timeouts{Idle: &idle}}
	for _, a := range addrs {
		s.Endpoints = append(s.Endpoints, mesh.Endpoint{InstanceID: a.String(), Addr: a, Weight: 1})
	}
	return s
}

func get(client *http.Client, a mesh.Alias) (string, error) {
	resp, err := client.Get("http://" + netip.AddrPortFrom(a.VIP, a.Port).String()) //nolint:noctx // the client has a limit
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, b)
	}
	return string(b), err
}

// load calls an alias without pause until stop is called, which returns how
// many requests there were and the first that failed.
func load(a mesh.Alias) (stop func() (int64, error)) {
	var n atomic.Int64
	var failed atomic.Pointer[error]
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		for {
			select {
			case <-done:
				return
			default:
			}
			n.Add(1)
			if _, err := get(client, a); err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		}
	}()
	return func() (int64, error) {
		close(done)
		<-ended
		if p := failed.Load(); p != nil {
			return n.Load(), *p
		}
		return n.Load(), nil
	}
}

var oneCall = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func (c *control) types(kind string) delta.TypeStatus {
	for _, s := range c.cache.Status() {
		for _, t := range s.Types {
			if t.Type == kind {
				return t
			}
		}
	}
	return delta.TypeStatus{}
}

// settled waits until the Envoy has answered everything. It withholds the
// answer for a cluster that waits for its endpoints (5 s, then without): that
// must never be.
func (c *control) settled(t *testing.T) {
	t.Helper()
	envoytest.Eventually(t, 4*time.Second, func() error {
		for _, s := range c.cache.Status() {
			for _, k := range s.Types {
				for _, r := range k.Resources {
					if r.Waiting || r.Pending {
						return fmt.Errorf("%s %s is not answered", k.Type, r.Name)
					}
				}
			}
		}
		return nil
	})
}

func TestEnvoyServesThroughClusterUpdates(t *testing.T) {
	c := startControl(t, 0)
	api, addr := freeAlias(t, "api"), backend(t, "api")
	c.store.SetServices("prod", []*mesh.Service{aliased("api", api, time.Minute, addr)})
	e := c.task(t, "prod/web/1", "")
	stop := load(api)
	for i := range 20 {
		c.store.SetServices("prod", []*mesh.Service{aliased("api", api, time.Minute+time.Duration(i+1)*time.Second, addr)})
		want := c.store.Snapshot().Generation
		envoytest.Eventually(t, 10*time.Second, func() error {
			c.pusher.mu.Lock()
			defer c.pusher.mu.Unlock()
			if c.pusher.pushed.Generation < want {
				return errors.New("not pushed")
			}
			return nil
		})
		c.settled(t)
	}
	if n, err := stop(); err != nil || n < 1 {
		t.Errorf("%d requests, the first failure: %v", n, err)
	}
	stats := e.Stats(t)
	if got := stats["cluster_manager.cluster_modified"]; got < 20 {
		t.Errorf("Envoy updated its clusters %v times", got)
	}
}

func TestEnvoyRejectsOneResourceAndServesTheOthers(t *testing.T) {
	c := startControl(t, 0)
	addr := backend(t, "old")
	api, late, more := freeAlias(t, "api"), freeAlias(t, "late"), freeAlias(t, "more")
	services := []*mesh.Service{aliased("api", api, time.Minute, addr), aliased("late", late, time.Minute, addr), aliased("more", more, time.Minute, addr)}
	c.store.SetServices("prod", services)
	c.task(t, "prod/web/1", "")
	c.settled(t)
	stop := load(api)
	// One step changes the endpoints of all, and those of one are poisoned
	// behind the validation's back; api's cluster is updated as well.
	view := c.cache.Status()[0].View
	fresh := backend(t, "new")
	apply := []*delta.Entry{poisoned(t, "late.prod")}
	for _, s := range []*mesh.Service{aliased("api", api, 2*time.Minute, fresh), aliased("more", more, time.Minute, fresh)} {
		for _, r := range translate.Service(views.View{Namespace: "prod", Wiring: mesh.Bind}, s) {
			apply = append(apply, encoded(t, r))
		}
	}
	c.cache.Apply(view, apply, nil, nil)
	envoytest.Eventually(t, 10*time.Second, func() error {
		r := c.types("eds").Rejected
		if len(r) != 1 || r[0].Name != "late.prod" || !strings.Contains(r[0].Error, "notanip") {
			return fmt.Errorf("rejected: %+v", r)
		}
		return nil
	})
	c.settled(t)
	for _, r := range c.types("eds").Resources {
		if r.Sent != r.Accepted { // of late the last good one was sent again
			t.Errorf("%+v", r)
		}
	}
	for a, want := range map[mesh.Alias]string{api: "new", more: "new", late: "old"} {
		if got, err := get(oneCall, a); got != want || err != nil {
			t.Errorf("%s answered %q, %v; want %q", a.DNSName, got, err, want)
		}
	}
	if n, err := stop(); err != nil || n < 1 {
		t.Errorf("%d requests to the service whose cluster changed, the first failure: %v", n, err)
	}
	// Its content changes: it is sent again, and serves.
	services[1] = aliased("late", late, time.Minute, fresh)
	c.store.SetServices("prod", services)
	envoytest.Eventually(t, 10*time.Second, func() error {
		got, err := get(oneCall, late)
		if err == nil && got != "new" {
			err = errors.New(got)
		}
		return err
	})
	c.settled(t)
	if r := c.types("eds").Rejected; len(r) != 0 {
		t.Errorf("still rejected: %+v", r)
	}
}

func encoded(t *testing.T, r translate.Resource) *delta.Entry {
	t.Helper()
	e, err := valid.Entry(r, "test")
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// poisoned is an assignment that our validation would never let out.
func poisoned(t *testing.T, cluster string) *delta.Entry {
	t.Helper()
	e, err := delta.NewEntry(delta.EndpointType, cluster, "test", &endpointv3.ClusterLoadAssignment{ClusterName: cluster,
		Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
			Endpoint: &endpointv3.Endpoint{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
				Address: "notanip", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 80}}}}}}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEnvoyKeepsEverythingWhenAColdControlPlaneComesBack(t *testing.T) {
	c := startControl(t, 0)
	api, addr := freeAlias(t, "api"), backend(t, "api")
	services := []*mesh.Service{aliased("api", api, time.Minute, addr), aliased("db", freeAlias(t, "db"), time.Minute, addr)}
	c.store.SetServices("prod", services)
	e := c.task(t, "prod/web/1", "")
	c.settled(t)
	stop := load(api)
	c.stop()
	before := e.Stats(t)
	cold := startControl(t, c.port)
	envoytest.Eventually(t, 30*time.Second, func() error {
		if !strings.Contains(cold.logged.String(), "a stream waits for its namespace") {
			return errors.New("not connected again")
		}
		return nil
	})
	if n := len(cold.cache.Status()); n != 0 {
		t.Errorf("%d streams were opened before the namespace was read", n)
	}
	cold.store.SetServices("prod", services)
	envoytest.Eventually(t, 10*time.Second, func() error {
		if len(cold.types("lds").Resources) == 0 || len(cold.types("eds").Resources) < 2 {
			return errors.New("not subscribed again")
		}
		return nil
	})
	cold.settled(t)
	// The version of everything is what Envoy has: nothing is sent, and a
	// change after that arrives.
	after := e.Stats(t)
	for _, k := range []string{"cluster_manager.cluster_removed", "cluster_manager.cluster_modified", "listener_manager.listener_removed", "listener_manager.listener_modified", "cluster.api.prod.update_empty"} {
		if before[k] != after[k] {
			t.Errorf("%s went from %v to %v", k, before[k], after[k])
		}
	}
	cold.store.SetServices("prod", []*mesh.Service{aliased("api", api, time.Minute, backend(t, "new")), services[1]})
	envoytest.Eventually(t, 10*time.Second, func() error {
		got, err := get(oneCall, api)
		if err == nil && got != "new" {
			err = errors.New(got)
		}
		return err
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if missing, err := cold.pusher.Removed(ctx, name("api"), addr); err != nil || missing != nil {
		t.Errorf("removed: %v, %v", missing, err)
	}
	if n, err := stop(); err != nil {
		t.Errorf("%d requests, the first failure: %v", n, err)
	}
}

// A real Envoy that speaks the state of the world alone, as AWS's agent starts
// it, is served from the same entries.
func TestEnvoyByTheStateOfTheWorld(t *testing.T) {
	c := startControl(t, 0)
	api, old := freeAlias(t, "api"), backend(t, "old")
	c.store.SetServices("prod", []*mesh.Service{aliased("api", api, time.Minute, old)})
	admin := filepath.Join(t.TempDir(), "admin.sock")
	b, err := bootstrap.Config{NodeID: "prod/web/1", NodeCluster: "prod/web", AdminSocket: admin, Meta: bootstrap.NodeMeta{Version: "test", Wiring: mesh.Bind},
		XDS: []bootstrap.HostPort{{Host: "127.0.0.1", Port: c.port}}}.JSON()
	if err != nil {
		t.Fatal(err)
	}
	envoytest.Start(t, bytes.Replace(b, []byte(`"DELTA_GRPC"`), []byte(`"GRPC"`), 1), admin, "").Ready(t)
	stop := load(api)
	eventually(t, says(api, "old"))
	for i := range 5 { // its cluster and then its endpoints
		c.store.SetServices("prod", []*mesh.Service{aliased("api", api, time.Duration(i+2)*time.Minute, old)})
		c.settled(t)
	}
	c.store.SetServices("prod", []*mesh.Service{aliased("api", api, time.Hour, backend(t, "new"))})
	eventually(t, says(api, "new"))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if missing, err := c.pusher.Removed(ctx, name("api"), old); err != nil || missing != nil {
		t.Errorf("removed: %v, %v", missing, err)
	}
	if n, err := stop(); err != nil {
		t.Errorf("%d requests, the first failure: %v", n, err)
	}
}
