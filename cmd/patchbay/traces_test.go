package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"

	"patchbay/internal/envoytest"
	"patchbay/xds/delta/wire"
)

// collector is the port of an OpenTelemetry collector.
type collector struct {
	collectorv1.UnimplementedTraceServiceServer
	mu     sync.Mutex
	spans  []*tracev1.Span
	origin map[string]string // attributes of the resource
}

func (c *collector) Export(_ context.Context, r *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range r.GetResourceSpans() {
		for _, a := range resource.GetResource().GetAttributes() {
			c.origin[a.GetKey()] = a.GetValue().GetStringValue()
		}
		for _, scope := range resource.GetScopeSpans() {
			c.spans = append(c.spans, scope.GetSpans()...)
		}
	}
	return &collectorv1.ExportTraceServiceResponse{}, nil
}

// startCollector has the control planes of this test send their traces to it.
func startCollector(t *testing.T) *collector {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, s := &collector{origin: map[string]string{}}, grpc.NewServer()
	collectorv1.RegisterTraceServiceServer(s, c)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+l.Addr().String())
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "50") // ms
	return c
}

// trace is a change as it was exported: its root, and its parts by name.
type changeTrace struct {
	root  *tracev1.Span
	parts map[string]*tracev1.Span
}

// change waits for the trace of a change whose root has the attributes.
func (c *collector) change(t *testing.T, want ...string) (out changeTrace) {
	t.Helper()
	envoytest.Eventually(t, 30*time.Second, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		var roots []string
		for _, s := range c.spans {
			if s.GetName() != "change" {
				continue
			}
			has := attributes(s)
			roots = append(roots, fmt.Sprint(has))
			if slices.ContainsFunc(want, func(w string) bool { return !slices.Contains(has, w) }) {
				continue
			}
			out = changeTrace{s, map[string]*tracev1.Span{}}
			for _, p := range c.spans {
				if string(p.GetParentSpanId()) == string(s.GetSpanId()) {
					out.parts[p.GetName()] = p
				}
			}
			return nil
		}
		return fmt.Errorf("no change with %v; there are:\n%s", want, strings.Join(roots, "\n"))
	})
	return out
}

func attributes(s *tracev1.Span) (all []string) {
	for _, a := range s.GetAttributes() {
		v := a.GetValue()
		switch {
		case v.GetArrayValue() != nil:
			for _, e := range v.GetArrayValue().GetValues() {
				all = append(all, a.GetKey()+"="+e.GetStringValue())
			}
		case v.GetStringValue() != "":
			all = append(all, a.GetKey()+"="+v.GetStringValue())
		default:
			all = append(all, fmt.Sprintf("%s=%d", a.GetKey(), v.GetIntValue()))
		}
	}
	return all
}

// answered receives the next endpoints and says text of them; "" is an ACK.
func (a ads) answered(text string) {
	a.t.Helper()
	r, err := a.Recv()
	if err != nil {
		a.t.Fatal(err)
	}
	answer := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}
	if text != "" {
		answer.ErrorDetail = &status.Status{Code: 3, Message: text}
	}
	if err := a.Send(answer); err != nil {
		a.t.Fatal(err)
	}
}

// TestTracesOfChanges: a change of the registry is one trace from its event to
// the answer of the last sidecar, at a real OTLP endpoint, and the exemplars of
// the histograms lead to it.
func TestTracesOfChanges(t *testing.T) {
	c := startCollector(t)
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
	p := startPlane(t)
	at := func(ip string) map[string]string {
		return map[string]string{"AWS_INSTANCE_IPV4": ip, "AWS_INSTANCE_PORT": "8080"}
	}
	registry := p.cfg.Registry.Listen
	register(t, registry, "legacy", map[string]map[string]string{"one": at("10.0.0.1")})
	c.change(t, "patchbay.services=legacy.demo", "patchbay.sidecars=0") // nobody asks for it yet
	var callers []ads
	for _, name := range []string{"a", "b"} {
		y := p.party(name, "t1")
		s := y.ads()
		if err := s.Send(&discoveryv3.DeltaDiscoveryRequest{Node: y.node(), TypeUrl: wire.EndpointType, ResourceNamesSubscribe: []string{"legacy.demo"}}); err != nil {
			t.Fatal(err)
		}
		s.answered("")
		callers = append(callers, s)
	}

	register(t, registry, "legacy", map[string]map[string]string{"two": at("10.0.0.2")})
	callers[0].answered("")
	callers[1].answered("")
	good := c.change(t, "patchbay.services=legacy.demo", "patchbay.sidecars=2")
	good.holds(t, "change", "patchbay.endpoints.added=1", "patchbay.endpoints.removed=0", "patchbay.nacks=0")
	good.holds(t, "detect", "patchbay.service=legacy.demo", "patchbay.endpoints.added=1")
	if by := attributes(good.parts["detect"]); !slices.Contains(by, "patchbay.detected_by=watch") && !slices.Contains(by, "patchbay.detected_by=poll") {
		t.Errorf("detected by %v", by)
	}
	good.holds(t, "send", "patchbay.sidecars=2")
	good.holds(t, "acknowledge", "patchbay.acks=2", "patchbay.nacks=0")
	good.inOrder(t)
	if c.origin["service.name"] != "patchbay" || c.origin["service.instance.id"] == "" || c.origin["deployment.environment.name"] != "test" {
		t.Errorf("the resource is %v", c.origin)
	}
	p.exemplar(t, "patchbay_xds_change_last_ack_seconds", good)
	p.exemplar(t, "patchbay_xds_change_ack_seconds", good)

	register(t, registry, "legacy", map[string]map[string]string{"three": at("10.0.0.3")})
	callers[0].answered("")
	callers[1].answered("no")
	bad := c.change(t, "patchbay.services=legacy.demo", "patchbay.nacks=1")
	bad.holds(t, "acknowledge", "patchbay.acks=1", "patchbay.nacks=1")
	if bad.root.GetStatus().GetCode() != tracev1.Status_STATUS_CODE_ERROR {
		t.Errorf("a rejected change is %v", bad.root.GetStatus())
	}
	if log, err := os.ReadFile(p.log); err != nil || strings.Contains(string(log), "the collector does not take traces") {
		t.Errorf("%v\n%s", err, log)
	}
}

func (c changeTrace) holds(t *testing.T, name string, want ...string) {
	t.Helper()
	s := c.parts[name]
	if name == "change" {
		s = c.root
	}
	for _, w := range want {
		if !slices.Contains(attributes(s), w) {
			t.Errorf("%s lacks %s: %v", name, w, attributes(s))
		}
	}
}

// inOrder holds the times of the parts against one another.
func (c changeTrace) inOrder(t *testing.T) {
	t.Helper()
	d, s, tr, send, ack := c.parts["detect"], c.parts["store"], c.parts["translate"], c.parts["send"], c.parts["acknowledge"]
	times := []uint64{
		c.root.GetStartTimeUnixNano(), d.GetStartTimeUnixNano(), d.GetEndTimeUnixNano(), s.GetStartTimeUnixNano(), s.GetEndTimeUnixNano(),
		tr.GetStartTimeUnixNano(), tr.GetEndTimeUnixNano(), send.GetStartTimeUnixNano(), ack.GetStartTimeUnixNano(), ack.GetEndTimeUnixNano(), c.root.GetEndTimeUnixNano(),
	}
	if !slices.IsSorted(times) || times[0] == 0 || send.GetEndTimeUnixNano() > ack.GetEndTimeUnixNano() {
		t.Errorf("the parts are not in order: %d", times)
	}
	if times[0] != times[1] || times[2] != times[3] || times[9] != times[10] {
		t.Errorf("there are gaps: %d", times)
	}
}

// exemplar waits until a histogram's exemplar names the trace, in the
// OpenMetrics form.
func (p *plane) exemplar(t *testing.T, histogram string, c changeTrace) {
	t.Helper()
	line := regexp.MustCompile(histogram + `_bucket\{le="[^"]+"\} \d+ # \{trace_id="` + fmt.Sprintf("%x", c.root.GetTraceId()) + `"\} [0-9.e-]+ [0-9.e+]+\n`)
	envoytest.Eventually(t, 30*time.Second, func() error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.cfg.Admin.Listen+"/metrics", nil)
		if err != nil {
			return err
		}
		req.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || !line.Match(text) || !strings.HasSuffix(string(text), "# EOF\n") {
			return fmt.Errorf("no exemplar of %s (%v) in %s:\n%s", histogram, err, resp.Header.Get("Content-Type"), regexp.MustCompile(`(?m)^`+histogram+`.*$`).FindAllString(string(text), -1))
		}
		return nil
	})
}
