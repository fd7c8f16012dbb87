package xds

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	xdscreds "google.golang.org/grpc/credentials/xds"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	grpcxds "google.golang.org/grpc/xds"

	"patchbay/internal/testca"
	"patchbay/mesh"
)

// proxyless is gRPC's own xDS client, which calls without a proxy.
func (c *control) proxyless(t *testing.T, target string, roots []byte) healthv1.HealthClient {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, roots, 0o600); err != nil {
		t.Fatal(err)
	}
	boot, err := json.Marshal(map[string]any{
		"xds_servers": []any{map[string]any{"server_uri": fmt.Sprintf("127.0.0.1:%d", c.port),
			"channel_creds": []any{map[string]any{"type": "insecure"}}, "server_features": []string{"xds_v3"}}},
		"node": map[string]any{"id": "prod/web/1", "cluster": "prod/web"},
		"certificate_providers": map[string]any{"default": map[string]any{"plugin_name": "file_watcher",
			"config": map[string]any{"ca_certificate_file": ca}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	resolver, err := grpcxds.NewXDSResolverWithConfigForTesting(boot)
	if err != nil {
		t.Fatal(err)
	}
	creds, err := xdscreds.NewClientCredentials(xdscreds.ClientOptions{FallbackCreds: insecure.NewCredentials()})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("xds:///"+target, grpc.WithResolvers(resolver), grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return healthv1.NewHealthClient(conn)
}

// healthy is a gRPC server that answers only for its own name.
func healthy(t *testing.T, says string, cert *tls.Certificate) uint16 {
	t.Helper()
	lis, port := listen(t)
	var opts []grpc.ServerOption
	if cert != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS13})))
	}
	s, h := grpc.NewServer(opts...), health.NewServer()
	h.SetServingStatus(says, healthv1.HealthCheckResponse_SERVING)
	healthv1.RegisterHealthServer(s, h)
	go s.Serve(lis) //nolint:errcheck // it ends with Stop
	t.Cleanup(s.Stop)
	return port
}

func TestGRPCWithoutAProxy(t *testing.T) {
	c, ca := startControl(t, 0), testca.New(t)
	cert, stranger := ca.Certificate(t, "secret.prod"), ca.Certificate(t, "other.prod")
	service := func(n, dns string, port uint16, encrypted bool) *mesh.Service {
		s := offered(mesh.GRPC, mesh.Alias{DNSName: dns, Port: 8080}, offer(t, n, mesh.GRPC, port, ""))
		s.Endpoints[0].Addr = addr(fmt.Sprintf("127.0.0.1:%d", port))
		if encrypted {
			s.TLS, s.Endpoints[0].TLS = &mesh.ServiceTLS{Issuer: "default"}, true
		}
		return s
	}
	set := func(all ...*mesh.Service) { c.store.SetServices("prod", all) }
	plain, secret := service("plain", "plain", healthy(t, "one", nil), false), service("secret", "secret", healthy(t, "secret", &cert), true)
	wrong := service("wrong", "wrong", healthy(t, "wrong", &stranger), true)
	set(plain, secret, wrong)
	defer func() {
		if t.Failed() {
			t.Logf("%s\n%+v", c.logged, c.cache.Status())
		}
	}()
	check := func(h healthv1.HealthClient, says string) func() error {
		return func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := h.Check(ctx, &healthv1.HealthCheckRequest{Service: says})
			return err
		}
	}
	a := c.proxyless(t, "plain:8080", ca.RootPEM)
	eventually(t, check(a, "one"))
	eventually(t, check(c.proxyless(t, "secret:8080", ca.RootPEM), "secret"))
	if err := check(c.proxyless(t, "wrong:8080", ca.RootPEM), "wrong")(); err == nil {
		t.Error("a certificate of another name was accepted")
	}
	// An endpoint is replaced while the client is connected.
	set(service("plain", "plain", healthy(t, "two", nil), false), secret, wrong)
	eventually(t, check(a, "two"))
	for _, s := range c.cache.Status() {
		for _, k := range s.Types {
			if len(k.Rejected) > 0 {
				t.Errorf("rejected: %+v", k.Rejected)
			}
		}
	}
}
