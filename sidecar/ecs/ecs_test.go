package ecs_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"patchbay/internal/awsfake/metadata"
	"patchbay/sidecar/ecs"
)

const id = "0123456789abcdef0123456789abcdef"

func fargate() metadata.Task {
	net := []metadata.Network{{NetworkMode: "awsvpc", IPv4Addresses: []string{"10.0.1.17"}, IPv6Addresses: []string{"2001:db8::17"}}}
	return metadata.Task{
		Cluster: "arn:aws:ecs:eu-west-1:111122223333:cluster/prod", TaskARN: "arn:aws:ecs:eu-west-1:111122223333:task/prod/" + id,
		Family: "backend", Revision: "7", ServiceName: "backend", DesiredStatus: "RUNNING", KnownStatus: "RUNNING",
		AvailabilityZone: "eu-west-1a", AvailabilityZoneID: "euw1-az2", LaunchType: "FARGATE",
		Containers: []metadata.Container{
			{Name: "app", KnownStatus: "RUNNING", Type: "NORMAL", Networks: net, Ports: []metadata.Port{{ContainerPort: 8080, Protocol: "tcp"}}, Health: &metadata.Health{Status: "HEALTHY"}},
			{Name: "patchbay", KnownStatus: "RUNNING", Type: "NORMAL", Networks: net, Ports: []metadata.Port{{ContainerPort: 15000, HostPort: 32768}, {ContainerPort: 53, Protocol: "udp"}}},
			{Name: "~internal~ecs~pause", Type: "CNI_PAUSE", Networks: net, Ports: []metadata.Port{{ContainerPort: 8080}}},
		},
	}
}

// serve is an endpoint with one task, as its container patchbay sees it.
func serve(t *testing.T, task metadata.Task) (*metadata.Endpoint, *ecs.Endpoint) {
	t.Helper()
	fake := metadata.New()
	fake.Put(task)
	h := httptest.NewServer(fake)
	t.Cleanup(h.Close)
	e, err := ecs.New(metadata.URI(h.URL, task.ID(), "patchbay"))
	if err != nil {
		t.Fatal(err)
	}
	return fake, e
}

func TestTask(t *testing.T) {
	_, e := serve(t, fargate())
	got, err := e.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{id, "prod", "backend", "7", "backend", "FARGATE", "eu-west-1", "eu-west-1a", "euw1-az2", "awsvpc", "patchbay"}
	has := []string{got.ID, got.Cluster, got.Family, got.Revision, got.Service, got.LaunchType, got.Region, got.Zone, got.ZoneID, string(got.Mode), got.Own}
	for i := range want {
		if has[i] != want[i] {
			t.Errorf("%q; want %q", has[i], want[i])
		}
	}
	if a := got.Addresses(); len(a) != 2 || a[0] != netip.MustParseAddr("10.0.1.17") || a[1] != netip.MustParseAddr("2001:db8::17") {
		t.Errorf("addresses %v", a)
	}
	if p, ok := got.HostPort(15000); !ok || p != 32768 {
		t.Errorf("host port %d, %v", p, ok)
	}
	if p, ok := got.HostPort(53); ok {
		t.Errorf("host port of UDP: %d", p)
	}
	if got.Stopping {
		t.Error("it is said to stop")
	}
}

// TestUnhealthy: which container counts, and when it may be called.
func TestUnhealthy(t *testing.T) {
	fake, e := serve(t, fargate())
	why := func(name string, port uint16) string {
		t.Helper()
		task, err := e.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return task.Unhealthy(name, port)
	}
	if w := why("", 8080); w != "" {
		t.Errorf("healthy: %q", w)
	}
	for _, status := range []string{"UNHEALTHY", "UNKNOWN", ""} {
		fake.SetHealth(id, "app", status)
		if w := why("", 8080); !strings.Contains(w, "container app says") {
			t.Errorf("%s: %q", status, w)
		}
		if w := why("", 9090); w != "" { // another port, which no container maps
			t.Errorf("%s, port 9090: %q", status, w)
		}
		if w := why("app", 9090); w == "" {
			t.Errorf("%s, container app: may be called", status)
		}
		if w := why("web", 8080); !strings.Contains(w, `no container "web"; it has app`) {
			t.Errorf("no such container: %q", w)
		}
	}
	fake.Change(id, func(m *metadata.Task) { m.Containers[0].Health, m.Containers[0].KnownStatus = nil, "STOPPED" })
	if w := why("", 8080); w != "the container app has stopped" {
		t.Errorf("stopped: %q", w)
	}
}

func TestModes(t *testing.T) {
	for _, mode := range []string{"bridge", "host"} {
		task := fargate()
		for i := range task.Containers {
			task.Containers[i].Networks = []metadata.Network{{NetworkMode: mode, IPv4Addresses: []string{""}}}
		}
		_, e := serve(t, task)
		got, err := e.Read(t.Context())
		if err != nil || string(got.Mode) != mode || len(got.Addresses()) != 0 {
			t.Errorf("%s: %+v, %v", mode, got, err)
		}
	}
}

// TestRefused: an answer that is not as documented is told with everything
// that is wrong.
func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*metadata.Task)
		want []string
	}{
		"arn": {func(m *metadata.Task) { m.TaskARN = "arn:aws:ecs:task/" + id }, []string{"TaskARN: ", "expected: arn:aws:ecs:REGION"}},
		"zone, address": {func(m *metadata.Task) {
			m.AvailabilityZoneID, m.Containers[0].Networks = "EUW1 AZ2", []metadata.Network{{NetworkMode: "awsvpc", IPv4Addresses: []string{"10.0.1"}}}
		}, []string{"AvailabilityZoneID: ", `Containers[0].Networks[0]: address "10.0.1"`}},
		"mode":  {func(m *metadata.Task) { m.Containers[1].Networks[0].NetworkMode = "none" }, []string{`NetworkMode of container patchbay: "none"; a sidecar can run in: awsvpc, host, bridge`}},
		"names": {func(m *metadata.Task) { m.Containers[0].Name = "" }, []string{"Containers[0].Name: is missing"}},
	} {
		task := fargate()
		task.Containers[1].Networks = []metadata.Network{{NetworkMode: "awsvpc", IPv4Addresses: []string{"10.0.1.17"}}}
		c.edit(&task)
		_, e := serve(t, task)
		_, err := e.Read(t.Context())
		for _, w := range c.want {
			if err == nil || !strings.Contains(err.Error(), w) || !errors.Is(err, ecs.ErrMetadata) {
				t.Errorf("%s: %v; want %q", name, err, w)
			}
		}
	}
}

// TestFaults: what goes by is waited for, and not understood is said.
func TestFaults(t *testing.T) {
	fake, e := serve(t, fargate())
	for body, want := range map[string]string{"": "500 Internal Server Error", `{"Cluster":`: "not the JSON that ECS documents", `[]`: "cannot unmarshal array"} {
		status := http.StatusOK
		if body == "" {
			status = http.StatusInternalServerError
		}
		clear := fake.Inject(metadata.Fault{Status: status, Body: body})
		if _, err := e.Read(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", body, err, want)
		}
		clear()
	}
	fake.Inject(metadata.Fault{Times: 3, Status: http.StatusInternalServerError})
	if got, err := e.Wait(t.Context(), slog.New(slog.DiscardHandler)); err != nil || got.ID != id {
		t.Errorf("after three faults: %v, %v", got, err)
	}
}

// TestAbsent: nobody answers; a stop is obeyed, and the reason is told.
func TestAbsent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	e, err := ecs.New("http://" + addr + "/v4/x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Read(t.Context()); err == nil || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), ecs.Variable) {
		t.Errorf("%v", err)
	}
	ctx, stop := context.WithCancelCause(t.Context())
	why := errors.New("asked to")
	time.AfterFunc(50*time.Millisecond, func() { stop(why) })
	if _, err := e.Wait(ctx, slog.New(slog.DiscardHandler)); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
	for _, uri := range []string{"169.254.170.2/v4/x", "https://169.254.170.2/", "http:///v4"} {
		if _, err := ecs.New(uri); err == nil || !strings.Contains(err.Error(), "allowed: the address that ECS sets") {
			t.Errorf("%s: %v", uri, err)
		}
	}
}

// TestWatch follows changes, and keeps silent while nobody answers.
func TestWatch(t *testing.T) {
	fake, e := serve(t, fargate())
	ctx, stop := context.WithCancel(t.Context())
	seen := make(chan *ecs.Task)
	done := make(chan error, 1)
	go func() {
		done <- e.Watch(ctx, slog.New(slog.DiscardHandler), func(t *ecs.Task) {
			select {
			case seen <- t:
			case <-ctx.Done():
			}
		})
	}()
	if task := <-seen; task.Stopping {
		t.Error("it is said to stop")
	}
	fake.Inject(metadata.Fault{Times: 1, Status: http.StatusServiceUnavailable})
	fake.Change(id, func(m *metadata.Task) { m.DesiredStatus = "STOPPED" })
	for task := range seen {
		if task.Stopping {
			break
		}
	}
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
