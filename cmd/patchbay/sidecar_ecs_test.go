package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"patchbay/internal/awsfake/metadata"
	"patchbay/internal/envoytest"
	"patchbay/sidecar/status"
)

// ecsTaskOf is a Fargate task of the service backend whose container app maps a
// port and has not been found healthy yet.
func ecsTaskOf(id string, port uint16) metadata.Task {
	net := []metadata.Network{{NetworkMode: "awsvpc", IPv4Addresses: []string{"127.0.0.1"}}}
	return metadata.Task{
		Cluster: "prod", TaskARN: "arn:aws:ecs:us-east-1:111122223333:task/prod/" + id, Family: "backend", Revision: "3", ServiceName: "backend",
		DesiredStatus: "RUNNING", KnownStatus: "RUNNING", AvailabilityZone: "us-east-1a", AvailabilityZoneID: "use1-az4", LaunchType: "FARGATE",
		Containers: []metadata.Container{
			{Name: "app", KnownStatus: "RUNNING", Networks: net, Ports: []metadata.Port{{ContainerPort: port, Protocol: "tcp"}}, Health: &metadata.Health{Status: "UNKNOWN"}},
			{Name: "patchbay", KnownStatus: "RUNNING", Networks: net},
		},
	}
}

// onECSTask makes what is started from now on a container of a task.
func onECSTask(t *testing.T, task metadata.Task) *metadata.Endpoint {
	t.Helper()
	fake := metadata.New()
	fake.Put(task)
	h := httptest.NewServer(fake)
	t.Cleanup(h.Close)
	for _, v := range fake.Environ(h.URL, task.ID(), "patchbay") {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	return fake
}

// TestSidecarOnECS: the task's name and zone are those that ECS says, it is
// registered when the health check of its container says so, and leaves when
// ECS wants it to stop, before any signal.
func TestSidecarOnECS(t *testing.T) {
	p := startPlane(t)
	_, app := listen(t, "hello")
	fake := onECSTask(t, ecsTaskOf(ecsTask, app))
	back := p.sidecar(p.joinDir("backend", "backend"), "", declares("backend", app, uint16(freePort(t)), uint16(freePort(t))))
	back.until(func(s status.Report) error {
		if !s.Ready || len(s.Ports) != 1 || s.Ports[0].Health != "UNHEALTHY" {
			return fmt.Errorf("%+v", s)
		}
		if s.Ports[0].Registered {
			t.Fatal("registered before its container is healthy")
		}
		return nil
	})
	fake.SetHealth(ecsTask, "app", "HEALTHY")
	s := back.until(serving)
	if s.Node != "demo/backend/"+ecsTask || !strings.HasPrefix(s.Ports[0].InstanceID, ecsTask+".") {
		t.Errorf("%+v", s)
	}
	p.adminSays("/api/v1/status", "use1-az4")
	fake.SetHealth(ecsTask, "app", "UNHEALTHY")
	back.until(func(s status.Report) error {
		if s.Ports[0].Health != "UNHEALTHY" {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	fake.Change(ecsTask, func(m *metadata.Task) { m.DesiredStatus = "STOPPED" })
	back.until(func(s status.Report) error {
		if !s.Draining || !strings.Contains(back.log.String(), "drain complete") {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

// adminSays waits until a page of the admin interface holds words.
func (p *plane) adminSays(page, words string) {
	p.t.Helper()
	envoytest.Eventually(p.t, 10*time.Second, func() error {
		resp, err := http.Get("http://" + p.cfg.Admin.Listen + page)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if b, _ := io.ReadAll(resp.Body); !strings.Contains(string(b), words) {
			return fmt.Errorf("%s does not say %s:\n%s", page, words, b)
		}
		return nil
	})
}

// TestSidecarInBridgeMode: the application is at an address of its own, what is
// registered is the host's port, and calls are refused with the reason.
func TestSidecarInBridgeMode(t *testing.T) {
	p := startPlane(t)
	l, err := net.Listen("tcp", "127.0.0.2:0") // another container's address
	if err != nil {
		t.Fatal(err)
	}
	app := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "bridged") })}
	go app.Serve(l)
	t.Cleanup(func() { app.Close() })
	port, ingress, alias := uint16(l.Addr().(*net.TCPAddr).Port), uint16(freePort(t)), uint16(freePort(t))
	front := p.sidecar(p.joinDir("frontend"), "f1", clientOnly)
	front.until(serving) // it has read the environment
	task := ecsTaskOf(ecsTask, port)
	task.Containers[0].Networks = []metadata.Network{{NetworkMode: "bridge", IPv4Addresses: []string{"127.0.0.2"}}}
	task.Containers[0].Health = nil
	task.Containers[1].Networks = []metadata.Network{{NetworkMode: "bridge", IPv4Addresses: []string{"127.0.0.1"}}}
	// No address is translated here, so that the host's port is Envoy's own.
	task.Containers[1].Ports = []metadata.Port{{ContainerPort: ingress, HostPort: ingress}}
	onECSTask(t, task)
	back := p.sidecar(p.joinDir("backend", "backend"), "", declares("backend", port, ingress, alias))
	s := back.until(serving)
	if s.Network != "bridge" || s.Wiring != "none" || s.Names != 0 || len(s.Refused) != 1 || !strings.Contains(s.Refused[0], "use network mode awsvpc") {
		t.Errorf("%+v", s)
	}
	front.answers("backend.demo", alias, "bridged")
	if vip := back.lookup("backend.demo"); vip != "" {
		t.Errorf("the bridged task's hosts file says %s", vip)
	}
}
