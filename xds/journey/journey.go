// Package journey follows changes of the mesh as OpenTelemetry traces: noticed,
// stored, translated, sent, and answered by the last sidecar that it concerns.
//
// It owns the names of the spans and their attributes, docs/guides/observe.md
// has them, and how many are open at most. It must not know the protocol, nor
// where spans go. One trace is one round of the push loop: changes that were
// merged share it.
//
// Start reading at [Tracer.Begin]; a nil *Tracer follows nothing and costs
// nothing.
package journey

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"patchbay/mesh"
	"patchbay/xds/delta"
)

const (
	// openMost bounds the changes that are followed at one time: a sidecar that
	// never answers keeps its changes open until its stream ends.
	openMost = 256
	// servicesMost and viewsMost bound the spans of one trace. What is beyond
	// them is in the figures of the whole.
	servicesMost = 16
	viewsMost    = 16
)

// Tracer follows changes. It is safe for concurrent use.
type Tracer struct {
	start func(parent trace.SpanContext, name string, at time.Time, attributes ...attribute.KeyValue) trace.Span
	open  atomic.Int64
}

// New returns a tracer whose spans go to p. ctx lends its values only.
func New(ctx context.Context, p trace.TracerProvider) *Tracer {
	t, ctx := p.Tracer("patchbay/xds/journey"), context.WithoutCancel(ctx)
	return &Tracer{start: func(parent trace.SpanContext, name string, at time.Time, attributes ...attribute.KeyValue) trace.Span {
		_, span := t.Start(trace.ContextWithSpanContext(ctx, parent), name, trace.WithTimestamp(at), trace.WithAttributes(attributes...))
		return span
	}}
}

// Change is one that is followed. Its methods are safe for concurrent use, and
// do nothing if it is nil.
type Change struct {
	tracer   *Tracer
	root     trace.Span
	exemplar map[string]string

	mu              sync.Mutex
	waits           int // for views that are not over, and for Shown
	views           int
	end             time.Time
	sidecars, nacks int
}

// Begin follows what differs between the services of two snapshots. It is nil
// if that is nothing, if it is not sampled, or if too many changes are open.
func (t *Tracer) Begin(before, now *mesh.Snapshot) *Change {
	if t == nil || before == now {
		return nil
	}
	all := differences(before, now)
	if len(all) == 0 {
		return nil
	}
	if t.open.Add(1) > openMost {
		t.open.Add(-1)
		return nil
	}
	first := slices.MinFunc(all, func(a, b difference) int { return a.at.Compare(b.at) })
	root := t.start(trace.SpanContext{}, "change", first.at, attribute.Int64("patchbay.generation", int64(now.Generation)))
	c := &Change{tracer: t, root: root, waits: 1, exemplar: map[string]string{"trace_id": root.SpanContext().TraceID().String()}}
	if !root.IsRecording() {
		t.open.Add(-1)
		return nil
	}
	c.describe(all, now.At)
	return c
}

// describe says what was noticed, and how long it lay in the store.
func (c *Change) describe(all []difference, stored time.Time) {
	names, added, removed := []string{}, 0, 0
	for i, d := range all {
		added, removed = added+d.added, removed+d.removed
		if i >= servicesMost {
			continue
		}
		names = append(names, d.name)
		c.span("detect", d.at, stored, attribute.String("patchbay.service", d.name), attribute.String("patchbay.detected_by", d.by),
			attribute.Int("patchbay.endpoints.added", d.added), attribute.Int("patchbay.endpoints.removed", d.removed))
	}
	c.root.SetAttributes(attribute.StringSlice("patchbay.services", names), attribute.Int("patchbay.services.changed", len(all)),
		attribute.Int("patchbay.endpoints.added", added), attribute.Int("patchbay.endpoints.removed", removed))
	c.span("store", stored, time.Now())
}

// span is a part of the change that is over.
func (c *Change) span(name string, from, to time.Time, attributes ...attribute.KeyValue) {
	c.tracer.start(c.root.SpanContext(), name, from, attributes...).End(trace.WithTimestamp(to))
}

// Translated says that a view has been translated, since begun. What it returns
// is to be told of the rest; it is nil if the change is.
func (c *Change) Translated(view string, begun time.Time) delta.Follower {
	if c == nil {
		return nil
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waits++
	c.views++
	v := &push{change: c, view: view, begun: now, spans: c.views <= viewsMost}
	if v.spans {
		c.span("translate", begun, now, attribute.String("patchbay.view", view))
	}
	return v
}

// Shown says that every view has been brought to the change.
func (c *Change) Shown() {
	if c != nil {
		c.over(time.Time{}, 0, 0)
	}
}

// over ends the trace with the last that it waits for. at is when a view was
// over.
func (c *Change) over(at time.Time, sidecars, nacks int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waits--
	c.sidecars, c.nacks = c.sidecars+sidecars, c.nacks+nacks
	if at.After(c.end) {
		c.end = at
	}
	if c.waits > 0 {
		return
	}
	if c.views == 0 {
		c.end = time.Now() // nobody sees it
	}
	c.root.SetAttributes(attribute.Int("patchbay.sidecars", c.sidecars), attribute.Int("patchbay.nacks", c.nacks))
	if c.nacks > 0 {
		c.root.SetStatus(codes.Error, "an Envoy rejected a resource")
	}
	c.root.End(trace.WithTimestamp(c.end))
	c.tracer.open.Add(-1)
}

// push is a change on its way to the sidecars of one view: a [delta.Follower].
type push struct {
	change *Change
	view   string
	begun  time.Time
	spans  bool

	mu          sync.Mutex
	first, last time.Time // sent
	acks, nacks int
}

// Sent is [delta.Follower]'s.
func (p *push) Sent(at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first.IsZero() {
		p.first = at
	}
	if at.After(p.last) {
		p.last = at
	}
}

// Answered is [delta.Follower]'s.
func (p *push) Answered(_ time.Time, rejected bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if rejected {
		p.nacks++
	} else {
		p.acks++
	}
}

// Over is [delta.Follower]'s.
func (p *push) Over(at time.Time, streams int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spans && !p.first.IsZero() {
		view := attribute.String("patchbay.view", p.view)
		p.change.span("send", p.begun, p.last, view, attribute.Int("patchbay.sidecars", streams))
		p.change.span("acknowledge", p.first, at, view, attribute.Int("patchbay.acks", p.acks), attribute.Int("patchbay.nacks", p.nacks))
	}
	p.change.over(at, streams, p.nacks)
}

// Exemplar is [delta.Follower]'s.
func (p *push) Exemplar() map[string]string { return p.change.exemplar }

// difference is what became of one service.
type difference struct {
	name           string
	at             time.Time
	by             string
	added, removed int // endpoints
}

// differences compares the services of two snapshots, by pointer.
func differences(before, now *mesh.Snapshot) (all []difference) {
	for _, s := range now.Services {
		old := before.Service(s.Name)
		if old == s {
			continue
		}
		d := difference{name: s.Name.String(), at: s.Detected.At, by: s.Detected.By}
		if d.at.IsZero() || old != nil && !d.at.After(old.Detected.At) {
			d.at, d.by = now.At, "configuration" // of the file, or a fault: nobody had to notice it
		}
		if old != nil {
			d.removed = missing(old.Endpoints, s.Endpoints)
			d.added = missing(s.Endpoints, old.Endpoints)
		} else {
			d.added = len(s.Endpoints)
		}
		all = append(all, d)
	}
	for _, old := range before.Services {
		if now.Service(old.Name) == nil {
			all = append(all, difference{name: old.Name.String(), at: now.At, by: "departure", removed: len(old.Endpoints)})
		}
	}
	return all
}

// missing counts the addresses of list that others do not have. Both are sorted.
func missing(list, others []mesh.Endpoint) (n int) {
	for _, e := range list {
		_, found := slices.BinarySearchFunc(others, e, func(a, b mesh.Endpoint) int { return a.Addr.Compare(b.Addr) })
		if !found {
			n++
		}
	}
	return n
}
