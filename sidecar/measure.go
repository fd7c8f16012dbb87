package sidecar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"patchbay/internal/health"
	"patchbay/sidecar/metrics"
)

// measure offers the task's metrics where the configuration wants them, until
// ctx ends. The function that it returns reports what is left at the end.
func (a *Agent) measure(ctx context.Context, g *errgroup.Group) (report func(context.Context)) {
	task := a.measured()
	source := func(ctx context.Context) (metrics.Sample, error) { return a.sample(ctx, task) }
	if a.cfg.Metrics != "" {
		g.Go(func() error { return a.serveMetrics(ctx, metrics.Handler(task, source)) })
	}
	if a.cfg.EMF == nil {
		return func(context.Context) {}
	}
	r := &metrics.Reporter{Task: task, Source: source, To: a.cfg.EMF, Log: a.log}
	g.Go(func() error { return r.Run(ctx) })
	return func(ctx context.Context) { r.Report(ctx, time.Now()) }
}

// measured is the task in the words of CloudWatch's dimensions.
func (a *Agent) measured() metrics.Task {
	w := a.member.Node().Workload
	t := metrics.Task{Namespace: w.Namespace, Service: w.Name, Cluster: w.Namespace}
	if e := a.task(); e != nil {
		t.Service, t.Cluster = cmp.Or(e.Service, t.Service), cmp.Or(e.Cluster, t.Cluster)
	}
	for _, p := range a.cfg.Declaration.Ports {
		t.Ports = append(t.Ports, metrics.Port{Name: p.PortName, DiscoveryName: p.DiscoveryName, Protocol: p.Protocol})
	}
	return t
}

func (a *Agent) sample(ctx context.Context, t metrics.Task) (metrics.Sample, error) {
	page, err := a.admin.Detailed(ctx, metrics.Counted)
	if err != nil {
		return metrics.Sample{}, err
	}
	return metrics.Read(t, page, time.Now())
}

// serveMetrics answers /metrics, /healthz and /readyz until ctx ends.
func (a *Agent) serveMetrics(ctx context.Context, h http.Handler) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", a.cfg.Metrics)
	if err != nil {
		return fmt.Errorf("metrics: %w; choose another address with --metrics, or none", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", h)
	mux.Handle("GET /healthz", health.Handler("ok", a.dead))
	mux.Handle("GET /readyz", health.Handler("ready", func() []health.Problem { return a.Status().Problems }))
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute}
	defer context.AfterFunc(ctx, func() { s.Close() })()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("metrics: %w", err)
	}
	return context.Cause(ctx)
}
