package xds

import (
	"fmt"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"patchbay/internal/envoytest"
	"patchbay/mesh"
	"patchbay/xds/bootstrap"
)

// A node in our own form is served over a workload's socket as over a port.
func TestEnvoyOverASocket(t *testing.T) {
	c := startControl(t, 0)
	api := freeAlias(t, "api")
	c.store.SetServices("prod", []*mesh.Service{aliased("api", api, time.Minute, backend(t, "api"))})
	admin := filepath.Join(t.TempDir(), "admin.sock")
	b, err := bootstrap.Config{NodeID: "prod/web/1", NodeCluster: "prod/web", AdminSocket: admin, Meta: bootstrap.NodeMeta{Version: "test", Wiring: mesh.Bind},
		XDS: []bootstrap.HostPort{{Host: "127.0.0.1", Port: 1}}}.JSON()
	if err != nil {
		t.Fatal(err)
	}
	pipe := fmt.Appendf(nil, `"pipe":{"path":%q}`, c.socketOf(t))
	at := regexp.MustCompile(`"socket_?[aA]ddress":\s*\{[^{}]*\}`)
	if n := len(at.FindAll(b, -1)); n != 1 {
		t.Fatalf("%d addresses in %s", n, b)
	}
	envoytest.Start(t, at.ReplaceAll(b, pipe), admin, "").Ready(t)
	eventually(t, says(api, "api"))
}
