package xds

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"patchbay/agentapi"
	"patchbay/internal/envoytest"
	"patchbay/mesh"
	"patchbay/sidecar/envoy"
	"patchbay/sidecar/tap"
	"patchbay/xds/bootstrap"
)

// tapped starts the Envoy of a task with what a tap of it shows.
func (c *control) tapped(t *testing.T, id string, ports ...bootstrap.Port) (shown func() []agentapi.Request) {
	t.Helper()
	dir := t.TempDir()
	admin, socket := filepath.Join(dir, "admin.sock"), filepath.Join(dir, "tap.sock")
	meta := bootstrap.NodeMeta{Version: "test", Wiring: mesh.Bind, Tap: true, Ports: ports}
	if len(ports) > 0 {
		meta.Wiring = mesh.NoEgress // two Envoys of one user would share the ports of aliases
	}
	b, err := bootstrap.Config{NodeID: id, NodeCluster: filepath.Dir(id), AdminSocket: admin, TapSocket: socket, Meta: meta,
		XDS: []bootstrap.HostPort{{Host: "127.0.0.1", Port: c.port}}}.JSON()
	if err != nil {
		t.Fatal(err)
	}
	look := tap.New(tap.Config{Runtime: envoy.NewAdmin(admin), Socket: socket, Service: func(port string) string { return port + ".prod" }, Log: slog.New(slog.DiscardHandler)})
	go look.Run(t.Context())
	envoytest.Start(t, b, admin, "").Ready(t)
	var mu sync.Mutex
	var all []agentapi.Request
	on, failed := make(chan struct{}), make(chan error, 1)
	begun := sync.OnceFunc(func() { close(on) })
	go func() {
		failed <- look.Show(t.Context(), &agentapi.Tap{Lasts: durationpb.New(time.Hour), Sample: bootstrap.TapMillion, Most: tap.MaxRate}, func(p agentapi.Tapped) {
			begun()
			mu.Lock()
			defer mu.Unlock()
			all = append(all, p.Requests...)
		})
	}()
	select {
	case <-on:
	case err := <-failed:
		t.Fatal(err)
	}
	return func() []agentapi.Request {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

// TestTapOfEveryProtocol: what both sidecars of a call show of it.
func TestTapOfEveryProtocol(t *testing.T) {
	c := startControl(t, 0)
	web, rpc, raw := offer(t, "web", mesh.HTTP, backend(t, "ok").Port(), ""), offer(t, "rpc", mesh.GRPC, grpcApp(t), ""), offer(t, "raw", mesh.TCP, tcpApp(t), "")
	at := map[string]mesh.Alias{"web": freeAlias(t, "web"), "rpc": freeAlias(t, "rpc"), "raw": freeAlias(t, "raw")}
	c.store.SetServices("prod", []*mesh.Service{offered(mesh.TCP, at["raw"], raw), offered(mesh.GRPC, at["rpc"], rpc), offered(mesh.HTTP, at["web"], web)})
	shown := map[string]func() []agentapi.Request{"ingress": c.tapped(t, "prod/backend/1", web, rpc, raw), "egress": c.tapped(t, "prod/web/1")}
	want := map[string]string{"web.prod": "GET 200 ", "rpc.prod": "POST 200 OK", "raw.prod": " 0 "}
	eventually(t, func() error {
		if err := errors.Join(says(at["web"], "ok")(), callGRPC(t.Context(), at["rpc"]), callTCP(at["raw"])); err != nil {
			return err
		}
		for direction, requests := range shown {
			for service, words := range want {
				if !slices.ContainsFunc(requests(), func(r agentapi.Request) bool {
					return r.Service == service && r.Direction == direction && r.Upstream != "" && r.Sent > 0 && r.TLS == "" &&
						fmt.Sprintf("%s %d %s", r.Method, r.Status, r.GRPCStatus) == words && (r.Protocol == "tcp") == (service == "raw.prod")
				}) {
					return fmt.Errorf("%s of %s is not among %+v", direction, service, requests())
				}
			}
		}
		return nil
	})
	// What a caller says of itself is not what is shown.
	send(t, "GET", at["web"], "/real", "x-envoy-original-path", "/claimed", "x-forwarded-for", "192.0.2.6")
	eventually(t, func() error {
		for direction, requests := range shown {
			if !slices.ContainsFunc(requests(), func(r agentapi.Request) bool {
				return r.Path == "/real" && strings.HasPrefix(r.From, "127.")
			}) {
				return fmt.Errorf("%s: no request for /real from 127.… is among %+v", direction, requests())
			}
		}
		return nil
	})
}

// TestATapThatIsNotReadHoldsNothingUp: the worst agent takes Envoy's connection
// and reads nothing. Requests go on, and what Envoy keeps for it is bounded.
func TestATapThatIsNotReadHoldsNothingUp(t *testing.T) {
	c := startControl(t, 0)
	web, at := offer(t, "web", mesh.HTTP, backend(t, "ok").Port(), ""), freeAlias(t, "web")
	c.store.SetServices("prod", []*mesh.Service{offered(mesh.HTTP, at, web)})
	c.task(t, "prod/backend/1", "", web)
	dir := t.TempDir()
	deaf, err := net.Listen("unix", filepath.Join(dir, "tap.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	taken := make(chan net.Conn, 100)
	go func() {
		for {
			conn, err := deaf.Accept()
			if err != nil {
				return
			}
			taken <- conn
		}
	}()
	admin := filepath.Join(dir, "admin.sock")
	b, err := bootstrap.Config{NodeID: "prod/web/1", NodeCluster: "prod/web", AdminSocket: admin, TapSocket: deaf.Addr().String(),
		Meta: bootstrap.NodeMeta{Version: "test", Wiring: mesh.Bind, Tap: true}, XDS: []bootstrap.HostPort{{Host: "127.0.0.1", Port: c.port}}}.JSON()
	if err != nil {
		t.Fatal(err)
	}
	envoytest.Start(t, b, admin, "").Ready(t)
	eventually(t, says(at, "ok"))
	ask := envoy.NewAdmin(admin)
	allocated := func() int {
		t.Helper()
		page, err := ask.Page(t.Context(), "memory", "")
		var m struct{ Allocated string }
		if err == nil {
			err = json.Unmarshal(page, &m)
		}
		n, e2 := strconv.Atoi(m.Allocated)
		if err != nil || e2 != nil {
			t.Fatal(err, e2)
		}
		return n
	}
	call := func(n int) {
		t.Helper()
		long := strings.Repeat("x", 30_000)
		for range n {
			resp, err := http.Get("http://" + vip(at) + "/" + long)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Fatal(resp.Status)
			}
		}
	}
	if err := ask.SetRuntime(t.Context(), map[string]string{bootstrap.TapFraction: fmt.Sprint(bootstrap.TapMillion)}); err != nil {
		t.Fatal(err)
	}
	call(100)
	before := allocated()
	call(1000) // 30 MB of paths
	if grown := allocated() - before; grown > 10<<20 {
		t.Errorf("Envoy has grown by %d bytes", grown)
	}
	if len(taken) == 0 {
		t.Error("Envoy has not even tried: nothing was proved")
	}
}
