package ecs

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"patchbay/declare"
	"patchbay/internal/awsfake/metadata"
)

// TestOneSidecarOfAMachineHasTheVirtualIPs: with network mode host the second
// only serves and says why, until the first is gone.
func TestOneSidecarOfAMachineHasTheVirtualIPs(t *testing.T) {
	result := make(chan error, 1)
	go func() { // the thread ends with its network namespace
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- err
			return
		}
		c := Locator{Mode: Host}
		first, err := c.Place(t.Context())
		if err != nil || first.NoEgress != "" {
			t.Errorf("the first: %+v, %v", first, err)
		}
		second, err := c.Place(t.Context())
		if err != nil || !strings.Contains(second.NoEgress, "another sidecar of this machine has the virtual IPs") {
			t.Errorf("the second: %+v, %v", second, err)
		}
		second.Leave()
		first.Leave()
		third, err := c.Place(t.Context())
		if err != nil || third.NoEgress != "" {
			t.Errorf("the third: %+v, %v", third, err)
		}
		third.Leave()
		result <- err
	}()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

// TestBridge waits for the application's address and says what is missing.
func TestBridge(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef"
	bridge := func(addr string) []metadata.Network {
		return []metadata.Network{{NetworkMode: "bridge", IPv4Addresses: []string{addr}}}
	}
	fake := metadata.New()
	fake.Put(metadata.Task{
		Cluster: "prod", TaskARN: "arn:aws:ecs:us-east-1:111122223333:task/prod/" + id, DesiredStatus: "RUNNING",
		Containers: []metadata.Container{
			{Name: "app", Ports: []metadata.Port{{ContainerPort: 8080}}},
			{Name: "patchbay", Networks: bridge("172.17.0.2")},
		},
	})
	h := httptest.NewServer(fake)
	t.Cleanup(h.Close)
	endpoint, err := New(metadata.URI(h.URL, id, "patchbay"))
	if err != nil {
		t.Fatal(err)
	}
	task, err := endpoint.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := Locator{
		Mode: Bridge, Task: task, Endpoint: endpoint, Log: slog.New(slog.DiscardHandler),
		Ports: []declare.Port{{PortName: "web", ContainerPort: 8080, IngressPort: 15000}},
	}
	missing := strings.Join((&Place{apps: map[string]netip.Addr{}, ports: map[string]uint16{}}).find(c, task), "; ")
	for _, want := range []string{"the container app has no address yet: it must not depend on the sidecar", `port 15000 of the container patchbay has no host port: add {"containerPort": 15000, "hostPort": 0}`} {
		if !strings.Contains(missing, want) {
			t.Errorf("missing: %s; want %s", missing, want)
		}
	}
	other := c
	other.Ports = []declare.Port{{PortName: "web", ContainerPort: 9090, IngressPort: 15000}}
	if got := strings.Join((&Place{}).find(other, task), "; "); !strings.Contains(got, "no container maps port 9090 of web") {
		t.Errorf("missing: %s", got)
	}
	ctx, stop := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, errors.New("stopped"))
	defer stop()
	if _, err := c.Place(ctx); err == nil || err.Error() != "stopped" {
		t.Errorf("a stop: %v", err)
	}
	fake.Change(id, func(m *metadata.Task) {
		m.Containers[0].Networks, m.Containers[1].Ports = bridge("172.17.0.3"), []metadata.Port{{ContainerPort: 15000, HostPort: 32768}}
	})
	p, err := c.Place(t.Context())
	if err != nil || !slices.Equal(p.App("web"), []netip.Addr{netip.MustParseAddr("172.17.0.3")}) || p.Registered(c.Ports[0]) != 32768 || !strings.Contains(p.NoEgress, "network mode bridge") {
		t.Errorf("%+v, %v", p, err)
	}
}
