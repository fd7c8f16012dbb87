package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"patchbay/config"
	"patchbay/internal/poll"
)

// start runs a control plane with the registry in it and without issuers, until
// the test ends, and waits until it is ready.
func start(t *testing.T, tweak func(*config.Config)) {
	t.Helper()
	const free = "127.0.0.1:0"
	cfg := config.Default()
	cfg.TrustDomain, cfg.Namespaces, cfg.CreateNamespaces, cfg.Data = "test.patchbay", []string{"demo"}, true, t.TempDir()
	cfg.Registry = &config.Registry{Listen: free}
	cfg.XDS.Listen, cfg.Agent.Listen, cfg.Admin.Listen = free, free, free
	tweak(&cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{Config: cfg, Version: "test", Replica: "test", Log: slog.New(slog.DiscardHandler)})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	operator := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", AdminSocket(cfg.Data))
	}}}
	defer operator.CloseIdleConnections()
	if err := poll.Until(t.Context(), time.Minute, func() error {
		resp, err := operator.Get("http://localhost/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
			return fmt.Errorf("not ready: %s", text)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
