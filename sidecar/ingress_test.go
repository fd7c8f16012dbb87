package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"patchbay/declare"
	"patchbay/internal/envoytest"
	"patchbay/sidecar/ingress"
)

// TestAPortOfAnotherSidecarIsWaitedFor before anything is done that the other
// may rely on, and its health check says so.
func TestAPortOfAnotherSidecarIsWaitedFor(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	ports := []declare.Port{{PortName: "web", DiscoveryName: "stock", IngressPort: uint16(l.Addr().(*net.TCPAddr).Port)}}
	a, _ := newQuietAgent(t, func(c *Config) {
		c.Envoy = envoytest.Binary(t)
		c.Declaration.Ports = ports
	})
	other, err := ingress.Take(t.Context(), ports, "task cart", func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Release()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	want := fmt.Sprintf("ingress port %d of web: another sidecar of this network namespace has it (task cart)", ports[0].IngressPort)
	envoytest.Eventually(t, 25*time.Second, func() error {
		if s := strings.Join(a.Status().Reasons, "\n"); !strings.Contains(s, want) {
			return errors.New(s)
		}
		return nil
	})
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
