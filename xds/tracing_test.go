package xds

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"patchbay/mesh"
	"patchbay/xds/views"
)

// Spans of real Envoys, at a collector that takes OTLP by gRPC and by HTTP.

// span is what the tests look at.
type span struct {
	service, trace, id, parent, name string
	kind                             uint64 // 2: server, 3: client
}

// collector is one of OpenTelemetry.
type collector struct {
	at mesh.HostPort

	mu    sync.Mutex
	spans []span
	paths map[string]bool
}

func startCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{paths: map[string]bool{}}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			if len(body) < 5 || int(binary.BigEndian.Uint32(body[1:5])) != len(body)-5 {
				t.Errorf("%d bytes are no gRPC message", len(body))
				return
			}
			body = body[5:]
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Trailer", "Grpc-Status")
			defer w.Header().Set("Grpc-Status", "0")
			defer w.Write(make([]byte, 5))
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.paths[r.URL.Path] = true
		for _, resource := range fields(body, 1) {
			service := ""
			for _, attribute := range fields(one(resource, 1), 1) {
				if string(one(attribute, 1)) == "service.name" {
					service = string(one(one(attribute, 2), 1))
				}
			}
			for _, scope := range fields(resource, 2) {
				for _, s := range fields(scope, 2) {
					c.spans = append(c.spans, span{service, fmt.Sprintf("%x", one(s, 1)), fmt.Sprintf("%x", one(s, 2)), fmt.Sprintf("%x", one(s, 4)), string(one(s, 5)), number(s, 6)})
				}
			}
		}
	}))
	s.Config.Protocols = &http.Protocols{}
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	c.at = mesh.HostPort{Host: "localhost", Port: netip.MustParseAddrPort(s.Listener.Addr().String()).Port()}
	return c
}

// fields are the messages or texts of a protobuf message that have a number.
func fields(b []byte, want protowire.Number) (out [][]byte) {
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return out
		}
		m := protowire.ConsumeFieldValue(num, kind, b[n:])
		if m < 0 {
			return out
		}
		if v, k := protowire.ConsumeBytes(b[n:]); num == want && kind == protowire.BytesType && k > 0 {
			out = append(out, v)
		}
		b = b[n+m:]
	}
	return out
}

func one(b []byte, want protowire.Number) []byte {
	if all := fields(b, want); len(all) > 0 {
		return all[0]
	}
	return nil
}

func number(b []byte, want protowire.Number) uint64 {
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		m := 0
		if n > 0 {
			m = protowire.ConsumeFieldValue(num, kind, b[n:])
		}
		if n <= 0 || m < 0 {
			return 0
		}
		if v, k := protowire.ConsumeVarint(b[n:]); num == want && kind == protowire.VarintType && k > 0 {
			return v
		}
		b = b[n+m:]
	}
	return 0
}

func (c *collector) of(trace string) []span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.spans), func(s span) bool { return s.trace != trace })
}

// echo answers with the headers of tracing that it is given.
func echo(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s|%s|%s|%s", r.Header.Get("traceparent"), r.Header.Get("tracestate"), r.Header.Get("X-Request-Id"), r.Header.Get("baggage"))
}

const (
	aTrace    = "0af7651916cd43dd8448eb211c80319c"
	aSpan     = "b7ad6b7169203331"
	requestID = "11111111-2222-4333-9444-555555555555"
)

func traced(t *testing.T, alias mesh.Alias, flags string) []string {
	t.Helper()
	_, body := send(t, http.MethodGet, alias, "/", "traceparent", "00-"+aTrace+"-"+aSpan+"-"+flags, "tracestate", "x=1", "X-Request-Id", requestID, "baggage", "k=v")
	return strings.Split(body, "|")
}

func TestSpansOfTwoEnvoys(t *testing.T) {
	t.Parallel() // Envoy sends spans every five seconds
	for _, byHTTP := range []bool{false, true} {
		t.Run(fmt.Sprintf("http=%t", byHTTP), func(t *testing.T) {
			t.Parallel()
			to := startCollector(t)
			c := startControl(t, 0, Tracing(views.Tracing{Collector: to.at, HTTP: byHTTP, Percent: 100}))
			app, _ := counting(t, echo)
			port := offer(t, "api", mesh.HTTP, app, "")
			s := offered(mesh.HTTP, freeAlias(t, "api"), port)
			c.store.SetServices("prod", []*mesh.Service{s})
			c.task(t, "prod/backend/1", "", port)
			c.task(t, "prod/web/1", "")
			// A decision that came along holds, and the trace goes on.
			got := traced(t, s.Aliases[0], "01")
			if !strings.HasPrefix(got[0], "00-"+aTrace+"-") || strings.Contains(got[0], aSpan) || !strings.HasSuffix(got[0], "-01") || got[1] != "x=1" || got[2] != requestID || got[3] != "k=v" {
				t.Errorf("the application sees %q", got)
			}
			eventually(t, func() error {
				var client, server span
				for _, s := range to.of(aTrace) {
					switch s.kind {
					case 2:
						server = s
					case 3:
						client = s
					}
				}
				if client.parent != aSpan || server.parent != client.id || client.service != "web.prod" || server.service != "backend.prod" {
					return fmt.Errorf("the caller's span %+v, the service's %+v", client, server)
				}
				return nil
			})
			to.mu.Lock()
			defer to.mu.Unlock()
			if want := map[bool]string{false: "/opentelemetry.proto.collector.trace.v1.TraceService/Export", true: "/v1/traces"}[byHTTP]; !to.paths[want] {
				t.Errorf("the collector was asked for %v", to.paths)
			}
		})
	}
}

// TestNoTracing: without a collector nothing is touched.
func TestNoTracing(t *testing.T) {
	c := startControl(t, 0)
	app, _ := counting(t, echo)
	port := offer(t, "api", mesh.HTTP, app, "")
	s := offered(mesh.HTTP, freeAlias(t, "api"), port)
	c.store.SetServices("prod", []*mesh.Service{s})
	c.task(t, "prod/backend/1", "", port)
	envoy := c.task(t, "prod/web/1", "")
	if got := traced(t, s.Aliases[0], "00"); got[0] != "00-"+aTrace+"-"+aSpan+"-00" || got[1] != "x=1" || got[2] != requestID || got[3] != "k=v" {
		t.Errorf("the application sees %q", got)
	}
	if n, there := envoy.Stats(t)["cluster.tracing.membership_total"]; there {
		t.Errorf("there is a collector: %v", n)
	}
}
