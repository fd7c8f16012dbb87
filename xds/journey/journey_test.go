package journey

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"patchbay/mesh"
	"patchbay/xds/delta"
)

// snapshots are two, between which n services have got one endpoint more.
func snapshots(n int) (before, now *mesh.Snapshot) {
	store := mesh.NewStore()
	for round := range 2 {
		var all []*mesh.Service
		for i := range n {
			s := &mesh.Service{Name: mesh.ServiceName{Namespace: "prod", DiscoveryName: fmt.Sprintf("s%03d", i)}, Protocol: mesh.HTTP,
				Detected: mesh.Detection{At: time.Unix(int64(100*round+i+1), 0), By: "poll"}}
			for e := range round + 1 {
				s.Endpoints = append(s.Endpoints, mesh.Endpoint{InstanceID: fmt.Sprint(e), Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(e + 1)}), 80), Weight: 1})
			}
			all = append(all, s)
		}
		before = store.Snapshot()
		store.SetServices("prod", all)
	}
	return before, store.Snapshot()
}

func recorded(t *testing.T) (*Tracer, *tracetest.SpanRecorder) {
	t.Helper()
	spans := tracetest.NewSpanRecorder()
	return New(t.Context(), trace.NewTracerProvider(trace.WithSpanProcessor(spans))), spans
}

// TestOffCostsNothing: who follows nothing allocates nothing.
func TestOffCostsNothing(t *testing.T) {
	before, now := snapshots(3)
	var off *Tracer
	var told delta.Follower
	if n := testing.AllocsPerRun(100, func() {
		c := off.Begin(before, now)
		told = c.Translated("view", time.Time{})
		c.Shown()
	}); n != 0 || told != nil {
		t.Errorf("%v allocations, %v", n, told)
	}
}

// TestNothingChanged: a snapshot that differs in certificates only has no trace.
func TestNothingChanged(t *testing.T) {
	tracer, spans := recorded(t)
	_, now := snapshots(1)
	other := *now
	other.Generation++
	if c := tracer.Begin(now, &other); c != nil || tracer.Begin(now, now) != nil || len(spans.Started()) != 0 {
		t.Errorf("%v, %d spans", c, len(spans.Started()))
	}
}

// TestBounds: neither the changes that are open at one time nor the spans of one
// grow without end, and what is beyond the spans is in the figures.
func TestBounds(t *testing.T) {
	tracer, spans := recorded(t)
	before, now := snapshots(3 * servicesMost)
	c := tracer.Begin(before, now)
	var views []delta.Follower
	for i := range 3 * viewsMost {
		views = append(views, c.Translated(fmt.Sprint("view ", i), time.Now()))
	}
	c.Shown()
	for i, v := range views {
		v.Sent(time.Now())
		v.Answered(time.Now(), i == 0)
		v.Over(time.Now(), 2)
	}
	ended := spans.Ended()
	if want := servicesMost + 1 + 3*viewsMost + 1; len(ended) != want {
		t.Errorf("%d spans, want %d", len(ended), want)
	}
	got := map[string]string{}
	root := ended[slices.IndexFunc(ended, func(s trace.ReadOnlySpan) bool { return s.Name() == "change" })]
	for _, a := range root.Attributes() {
		got[string(a.Key)] = a.Value.String()
	}
	for key, want := range map[string]int{"patchbay.services.changed": 48, "patchbay.endpoints.added": 48, "patchbay.endpoints.removed": 0, "patchbay.sidecars": 96, "patchbay.nacks": 1, "patchbay.generation": 2} {
		if got[key] != fmt.Sprint(want) {
			t.Errorf("%s is %s, want %d", key, got[key], want)
		}
	}
	if !root.StartTime().Equal(time.Unix(101, 0)) {
		t.Errorf("the change begins at %v, not when the first was noticed", root.StartTime())
	}

	var open []*Change
	for range openMost {
		open = append(open, tracer.Begin(before, now))
	}
	if slices.Contains(open, nil) || tracer.Begin(before, now) != nil {
		t.Errorf("not exactly %d changes are open", openMost)
	}
	open[0].Shown()
	if tracer.Begin(before, now) == nil {
		t.Error("one is over, and no other may begin")
	}
}

// TestUnsampled: what is not sampled is not followed, and leaves no exemplar.
func TestUnsampled(t *testing.T) {
	tracer := New(t.Context(), trace.NewTracerProvider(trace.WithSampler(trace.NeverSample())))
	before, now := snapshots(1)
	for range openMost + 1 {
		if c := tracer.Begin(before, now); c != nil {
			t.Fatal("it is followed")
		}
	}
	if n := tracer.open.Load(); n != 0 {
		t.Errorf("%d are open", n)
	}
}

// TestGone: a service that has left is told by its endpoints; one that was
// changed here, by nobody's notice, begins when it was stored.
func TestGone(t *testing.T) {
	_, now := snapshots(2)
	gone := *now
	gone.Services = now.Services[:1]
	gone.At = time.Unix(5000, 0)
	if d := differences(now, &gone); len(d) != 1 || d[0].name != "s001.prod" || d[0].removed != 2 || d[0].added != 0 {
		t.Errorf("%+v", d)
	}
	broken := *now.Services[0]
	broken.Endpoints = broken.Endpoints[:1]
	shown := *now
	shown.Services, shown.At = []*mesh.Service{&broken, now.Services[1]}, time.Unix(6000, 0)
	if d := differences(now, &shown); len(d) != 1 || !d[0].at.Equal(shown.At) || d[0].by != "configuration" || d[0].removed != 1 {
		t.Errorf("%+v", d)
	}
}
