package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func with(env map[string]string) func(string) string {
	return func(name string) string { return env[name] }
}

// TestOff: without a word there are no traces, nor where the standard turns them
// off.
func TestOff(t *testing.T) {
	at := "http://127.0.0.1:4317"
	for _, env := range []map[string]string{
		{},
		{"OTEL_SERVICE_NAME": "x"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": at, "OTEL_TRACES_EXPORTER": "none"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": at, "OTEL_SDK_DISABLED": "TRUE"},
	} {
		if p, err := Open(t.Context(), Service{}, with(env), slog.New(slog.DiscardHandler)); p != nil || err != nil {
			t.Errorf("%v: %v, %v", env, p, err)
		}
	}
	for _, env := range []map[string]string{{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": at}, {"OTEL_TRACES_EXPORTER": "otlp"}, {"OTEL_EXPORTER_OTLP_ENDPOINT": at, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}} {
		p, err := Open(t.Context(), Service{}, with(env), slog.New(slog.DiscardHandler))
		if p == nil || err != nil {
			t.Errorf("%v: %v, %v", env, p, err)
			continue
		}
		p.Close(t.Context())
	}
}

// TestRefused: what the SDK would ignore is said, all of it.
func TestRefused(t *testing.T) {
	_, err := Open(t.Context(), Service{}, with(map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": "otel.internal:4317", "OTEL_TRACES_EXPORTER": "zipkin", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
	}), slog.New(slog.DiscardHandler))
	for _, want := range []string{
		`OTEL_TRACES_EXPORTER is "zipkin"; allowed: otlp or none`, `OTEL_EXPORTER_OTLP_PROTOCOL is "http/protobuf"; allowed: grpc`,
		`OTEL_EXPORTER_OTLP_ENDPOINT is "otel.internal:4317"; allowed: http://HOST:PORT`,
	} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%v lacks %s", err, want)
		}
	}
}

// TestNobodyListens: a collector that is away is named once, and delays nobody.
func TestNobodyListens(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "100") // ms
	var log strings.Builder
	p, err := Open(t.Context(), Service{Name: "patchbay"}, with(map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, span := p.Tracer("test").Start(context.Background(), "change")
		span.End()
		if err := p.ForceFlush(t.Context()); err != nil {
			t.Error(err)
		}
	}
	p.Close(t.Context())
	if n := strings.Count(log.String(), "the collector does not take traces"); n != 1 {
		t.Errorf("%d times:\n%s", n, &log)
	}
}
