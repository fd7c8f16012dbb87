// Package telemetry sends the control plane's own traces to an OpenTelemetry
// collector, as the standard's environment variables say.
//
// It owns when that is on, and what is refused. It must not know what is
// traced. Start reading at [Open].
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
)

// stopTime is how long a stopping process waits for the collector to take the
// last spans.
const stopTime = 3 * time.Second

// Service says whose traces they are.
type Service struct {
	Name, Version, Instance string // of OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES the latter win
}

// Provider makes spans and sends them in the background. It never blocks who
// makes them: when the collector does not keep up, spans are dropped.
type Provider struct{ *trace.TracerProvider }

// Open reads the environment, by getenv for what is decided here and by the SDK
// for the rest, which is the process's. It returns nil, and no error, if no
// traces are wanted: that is so unless OTEL_TRACES_EXPORTER is otlp, or an
// endpoint is named. It does not connect.
func Open(ctx context.Context, s Service, getenv func(string) string, log *slog.Logger) (*Provider, error) {
	endpoint := firstOf(getenv, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
	exporter := getenv("OTEL_TRACES_EXPORTER")
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") || exporter == "none" || exporter == "" && endpoint == "" {
		return nil, nil
	}
	if err := check(exporter, endpoint, firstOf(getenv, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")); err != nil {
		return nil, err
	}
	client, err := otlptracegrpc.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", s.Name), attribute.String("service.version", s.Version), attribute.String("service.instance.id", s.Instance),
	), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("traces: OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return &Provider{trace.NewTracerProvider(trace.WithBatcher(&spoken{SpanExporter: client, log: log}), trace.WithResource(about))}, nil
}

// Close sends what is left, for a few seconds at most.
func (p *Provider) Close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	_ = p.Shutdown(ctx) // what could not be sent has been logged
}

func firstOf(getenv func(string) string, names ...string) string {
	for _, n := range names {
		if v := getenv(n); v != "" {
			return v
		}
	}
	return ""
}

// check refuses what the SDK would pass over in silence.
func check(exporter, endpoint, protocol string) error {
	var errs []error
	if exporter != "" && exporter != "otlp" {
		errs = append(errs, fmt.Errorf("OTEL_TRACES_EXPORTER is %q; allowed: otlp or none", exporter))
	}
	if protocol != "" && protocol != "grpc" {
		errs = append(errs, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q; allowed: grpc (port 4317 of a collector)", protocol))
	}
	if u, err := url.Parse(endpoint); endpoint != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		errs = append(errs, fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT is %q; allowed: http://HOST:PORT, or https://HOST:PORT with TLS", endpoint))
	}
	return errors.Join(errs...)
}

// spoken says once when spans can't be sent, and once when they can again.
type spoken struct {
	trace.SpanExporter
	log    *slog.Logger
	failed atomic.Bool
}

// ExportSpans is [trace.SpanExporter]'s.
func (s *spoken) ExportSpans(ctx context.Context, spans []trace.ReadOnlySpan) error {
	err := s.SpanExporter.ExportSpans(ctx, spans)
	switch failed := s.failed.Swap(err != nil); {
	case err != nil && !failed:
		s.log.Warn("the collector does not take traces; they are lost until it does", "error", err)
	case err == nil && failed:
		s.log.Info("the collector takes traces again")
	}
	return nil // it has been said
}
