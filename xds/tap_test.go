package xds

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"patchbay/internal/envoytest"
	"patchbay/mesh"
	"patchbay/sidecar/envoy"
	"patchbay/xds/bootstrap"
)

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
