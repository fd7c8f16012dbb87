package xds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"patchbay/internal/envoytest"
	"patchbay/mesh"
)

// What a deployment means to calls, on real Envoys.

// revised is a service with endpoints of blue and green, of which green gets a
// weight in tenths of a percent; none below zero.
func revised(t *testing.T, s *mesh.Service, weight int, endpoints map[string]string) *mesh.Service {
	t.Helper()
	out := *s
	out.Endpoints = nil
	for addrPort, revision := range endpoints {
		a := addr(addrPort)
		out.Endpoints = append(out.Endpoints, mesh.Endpoint{InstanceID: addrPort, Addr: a, Weight: 1, Revision: revision})
	}
	slices.SortFunc(out.Endpoints, mesh.Endpoint.Compare)
	if weight >= 0 {
		out.Deployment = mesh.Deploy(mesh.Shift{ID: "x", From: "blue", To: "green", Weights: []uint32{uint32(weight)}},
			[]mesh.Birth{{Revision: "blue"}, {Revision: "green"}})
	}
	return &out
}

// inForce waits until the Envoy has taken everything, the newest snapshot
// included.
func (c *control) inForce(t *testing.T) {
	t.Helper()
	want := c.store.Snapshot().Generation
	eventually(t, func() error {
		c.pusher.mu.Lock()
		defer c.pusher.mu.Unlock()
		if c.pusher.pushed.Generation < want {
			return errors.New("not pushed")
		}
		for _, v := range c.pusher.views {
			if len(v.held) > 0 {
				return errors.New("an interim is shown")
			}
		}
		return nil
	})
	c.settled(t)
}

func TestEnvoyDividesCallsByRevision(t *testing.T) {
	c := startControl(t, 0)
	api := freeAlias(t, "api")
	endpoints := map[string]string{backend(t, "blue").String(): "blue", backend(t, "green").String(): "green"}
	s := aliased("api", api, time.Minute)
	s.Policy = wants(t, `{"routes": [{"match": {"path": "/own"}, "retries": {"max": 0}}]}`)
	set := func(weight int) {
		c.store.SetServices("prod", []*mesh.Service{revised(t, s, weight, endpoints)})
		c.inForce(t)
	}
	c.store.SetServices("prod", []*mesh.Service{revised(t, s, -1, endpoints)})
	c.task(t, "prod/web/1", "")
	c.settled(t)
	const n = 1000
	for _, weight := range []int{-1, 0, 100, 500, 1000} {
		set(weight)
		share := float64(weight) / 1000
		if weight < 0 {
			share = 0.5 // all alike
		}
		if got := shares(t, api, n); !near(got["green"], n, share) || got["green"]+got["blue"] != n {
			t.Errorf("weight %d: %v", weight, got)
		}
		for path, header := range map[string]string{"/": "x-amzn-ecs-blue-green-test", "/own": "X-Amzn-ECS-Blue-Green-Test"} {
			_, got := send(t, "GET", api, path, header, "any")
			if tested := weight >= 0 && weight < 1000; tested && got != "green" {
				t.Errorf("weight %d: test traffic to %s reaches %s", weight, path, got)
			}
		}
	}
	s.Policy = wants(t, `{"testTraffic": {"header": "x-canary", "value": "yes"}}`)
	set(0)
	for value, want := range map[string]string{"yes": "green", "no": "blue", "": "blue"} {
		if _, got := send(t, "GET", api, "/", "x-canary", value); got != want {
			t.Errorf("x-canary %q reaches %s; want %s", value, got, want)
		}
	}
	if _, got := send(t, "GET", api, "/", "x-amzn-ecs-blue-green-test", "any"); got != "blue" {
		t.Errorf("the default header reaches %s although another is declared", got)
	}
}

// A tcp service is divided by connections.
func TestEnvoyDividesConnectionsByRevision(t *testing.T) {
	c := startControl(t, 0)
	api := freeAlias(t, "api")
	green := &atomic.Int64{}
	endpoints := map[string]string{}
	for _, r := range []string{"blue", "blue", "blue", "green"} {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { lis.Close() })
		endpoints[lis.Addr().String()] = r
		go func() {
			for {
				conn, err := lis.Accept()
				if err != nil {
					return
				}
				if r == "green" {
					green.Add(1)
				}
				fmt.Fprintln(conn, r)
				conn.Close()
			}
		}()
	}
	s := aliased("api", api, time.Minute)
	s.Protocol = mesh.TCP
	c.store.SetServices("prod", []*mesh.Service{revised(t, s, 100, endpoints)})
	c.task(t, "prod/web/1", "")
	const n = 400
	connect := func() {
		for range n {
			conn, err := net.DialTimeout("tcp", vip(api), 5*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(conn); err != nil {
				t.Error(err)
			}
			conn.Close()
		}
	}
	connect()
	if got := int(green.Load()); !near(got, n, 0.1) {
		t.Errorf("%d of %d connections reached green; want a tenth", got, n)
	}
	c.store.SetServices("prod", []*mesh.Service{revised(t, s, 0, endpoints)})
	c.inForce(t)
	green.Store(0)
	if connect(); green.Load() != 0 {
		t.Errorf("%d connections reached green with weight 0", green.Load())
	}
}

// steady calls an alias 500 times a second over eight connections until stop is
// called; it counts who answered.
type steady struct {
	mu     sync.Mutex
	by     map[string]int
	failed []string
	dialed atomic.Int64
	stop   func()
}

func startSteady(a mesh.Alias) *steady {
	const workers, rate = 8, 500
	s := &steady{by: map[string]int{}}
	done := make(chan struct{})
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxConnsPerHost: 1,
				DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
					s.dialed.Add(1)
					return new(net.Dialer).DialContext(ctx, network, addr)
				}}}
			tick := time.NewTicker(workers * time.Second / rate)
			defer tick.Stop()
			for {
				select {
				case <-done:
					client.CloseIdleConnections()
					return
				case <-tick.C:
				}
				who, err := get(client, a)
				s.mu.Lock()
				if s.by[who]++; err != nil {
					s.failed = append(s.failed, err.Error())
				}
				s.mu.Unlock()
			}
		})
	}
	s.stop = func() { close(done); running.Wait() }
	return s
}

// reached waits until n further calls were answered by one.
func (s *steady) reached(t *testing.T, who string, n int) {
	t.Helper()
	s.mu.Lock()
	before := s.by[who]
	s.mu.Unlock()
	envoytest.Eventually(t, 20*time.Second, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if got := s.by[who] - before; got < n {
			return fmt.Errorf("%s has answered %d calls of %d", who, got, n)
		}
		return nil
	})
}

// Weights change at 500 requests a second: none fails, and no connection ends,
// neither the applications' nor those between sidecars.
func TestEnvoyChangesWeightsUnderLoad(t *testing.T) {
	c := startControl(t, 0)
	api := freeAlias(t, "api")
	endpoints := map[string]string{backend(t, "blue").String(): "blue", backend(t, "green").String(): "green"}
	s := aliased("api", api, time.Minute)
	set := func(weight int) {
		c.store.SetServices("prod", []*mesh.Service{revised(t, s, weight, endpoints)})
		c.inForce(t)
	}
	c.store.SetServices("prod", []*mesh.Service{revised(t, s, 0, endpoints)})
	e := c.task(t, "prod/web/1", "")
	c.settled(t)
	load := startSteady(api)
	load.reached(t, "blue", 100)
	for _, weight := range []int{50, 100, 500, 1000, 0, 1000} {
		set(weight)
		if weight == 0 {
			load.reached(t, "blue", 20)
		} else {
			load.reached(t, "green", 20)
		}
	}
	stats := e.Stats(t)
	load.stop()
	if len(load.failed) > 0 {
		t.Errorf("%d requests failed, the first: %s", len(load.failed), load.failed[0])
	}
	if n := load.dialed.Load(); n != 8 {
		t.Errorf("the applications dialled %d times; 8 connections were enough", n)
	}
	for name, n := range stats {
		if cluster, ok := strings.CutSuffix(name, ".upstream_cx_total"); ok && n != stats[cluster+".upstream_cx_active"] {
			t.Errorf("%s: %v connections were made, %v are left", cluster, n, stats[cluster+".upstream_cx_active"])
		}
	}
	t.Logf("%v", load.by)
}

// A deployment begins, and ends, while a service is called: the clusters of its
// revisions are in use before a route names them.
func TestEnvoyBeginsAndEndsADeployment(t *testing.T) {
	c := startControl(t, 0)
	api := freeAlias(t, "api")
	endpoints := map[string]string{backend(t, "blue").String(): "blue", backend(t, "green").String(): "green"}
	s := aliased("api", api, time.Minute)
	c.store.SetServices("prod", []*mesh.Service{revised(t, s, -1, endpoints)})
	c.task(t, "prod/web/1", "")
	c.settled(t)
	load := startSteady(api)
	for range 5 {
		for _, weight := range []int{500, -1, 1000, -1} {
			c.store.SetServices("prod", []*mesh.Service{revised(t, s, weight, endpoints)})
			c.inForce(t)
			load.reached(t, "green", 5)
		}
	}
	// Its last green endpoint leaves in the middle of it.
	c.store.SetServices("prod", []*mesh.Service{revised(t, s, 500, endpoints)})
	c.inForce(t)
	gone := revised(t, s, 500, endpoints)
	only := gone.Endpoints[:0:0]
	for _, e := range gone.Endpoints {
		if e.Revision == "blue" {
			only = append(only, e)
		}
	}
	gone.Endpoints, gone.Deployment = only, mesh.Deploy(gone.Deployment.Shift, []mesh.Birth{{Revision: "blue"}})
	c.store.SetServices("prod", []*mesh.Service{gone})
	c.inForce(t)
	load.reached(t, "blue", 50)
	load.stop()
	if len(load.failed) > 0 {
		t.Errorf("%d requests failed, the first: %s", len(load.failed), load.failed[0])
	}
	if got := shares(t, api, 20); got["blue"] != 20 {
		t.Errorf("after green has left: %v", got)
	}
}
