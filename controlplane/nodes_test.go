package controlplane

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"patchbay/config"
	"patchbay/internal/poll"
	"patchbay/mesh"
	"patchbay/xds/bootstrap"
	"patchbay/xds/delta"
)

// leaveSocket is what a killed process leaves.
func leaveSocket(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

// TestSocketOfAWorkload serves both variants of ADS on a socket, to nodes of
// its workload alone.
func TestSocketOfAWorkload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.sock")
	leaveSocket(t, path)
	t.Cleanup(func() { // after the control plane
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket is still there: %v", err)
		}
	})
	start(t, func(c *config.Config) {
		c.XDS.Unix = []config.Unix{{Path: path, Mode: "0660", Namespace: "Demo", Workload: "web",
			Ports: []config.UnixPort{{PortName: "http", DiscoveryName: "web", Protocol: "http", AppPort: 8080}}}}
	})
	if err := poll.Until(t.Context(), time.Minute, func() error { // operators are answered before it is open
		info, err := os.Stat(path)
		if err == nil && info.Mode() != fs.ModeSocket|0o660 {
			err = errors.New(info.Mode().String())
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ads := discoveryv3.NewAggregatedDiscoveryServiceClient(conn)
	node := func(id, cluster, offers string) *corev3.Node {
		m := bootstrap.NodeMeta{Version: "test", Wiring: mesh.Bind}
		if offers != "" {
			m.Ports = []bootstrap.Port{{PortName: "p", DiscoveryName: offers, Protocol: mesh.HTTP, AppPort: 1, ListenerPort: 2}}
		}
		meta, err := m.Struct()
		if err != nil {
			t.Fatal(err)
		}
		return &corev3.Node{Id: id, Cluster: cluster, Metadata: meta}
	}
	incremental := func(n *corev3.Node) (int, error) {
		s, err := ads.DeltaAggregatedResources(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.Send(&discoveryv3.DeltaDiscoveryRequest{Node: n, TypeUrl: delta.ListenerType}) //nolint:errcheck // Recv tells
		r, err := s.Recv()
		return len(r.GetResources()), err
	}
	whole := func(n *corev3.Node) (int, error) {
		s, err := ads.StreamAggregatedResources(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.Send(&discoveryv3.DiscoveryRequest{Node: n, TypeUrl: delta.ListenerType}) //nolint:errcheck // Recv tells
		r, err := s.Recv()
		return len(r.GetResources()), err
	}
	for variant, ask := range map[string]func(*corev3.Node) (int, error){"incremental": incremental, "state of the world": whole} {
		if n, err := ask(node("demo/web/1", "demo/web", "web")); n != 1 || err != nil {
			t.Errorf("%s: %d listeners, %v", variant, n, err)
		}
		for _, bad := range []struct {
			node *corev3.Node
			says string
		}{
			{node("demo/db/1", "demo/db", ""), "this socket is that of workload demo/web"},
			{node("prod/web/1", "prod/web", ""), "this socket is that of workload demo/web"},
			{node("demo/web/1", "demo/db", ""), "this socket is that of workload demo/web"},
			{node("demo/web/1", "demo/web", "db"), `may offer ["web"] only: port p is one of db.demo`},
		} {
			if _, err := ask(bad.node); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), bad.says) {
				t.Errorf("%s: %v; want %q", variant, err, bad.says)
			}
		}
	}
}

func TestSocketThatIsNotOursStays(t *testing.T) {
	dir := t.TempDir()
	file, served, stale := filepath.Join(dir, "file"), filepath.Join(dir, "served"), filepath.Join(dir, "stale")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", served)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	leaveSocket(t, stale)
	for path, want := range map[string]string{
		file: "is no socket", served: "another process serves", filepath.Join(dir, "none", "s"): "no such file or directory",
	} {
		if l, err := listenUnix(t.Context(), config.Unix{Path: path}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, %v", path, l, err)
		}
	}
	if text, err := os.ReadFile(file); string(text) != "precious" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	l, err := listenUnix(context.Background(), config.Unix{Path: stale})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Stat(stale); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
