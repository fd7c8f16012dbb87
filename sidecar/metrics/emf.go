package metrics

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"sync"
	"time"
)

const (
	// emfNamespace is the CloudWatch namespace: names that begin with AWS/ are
	// reserved.
	emfNamespace = "Patchbay/ServiceConnect"
	// every is how often Service Connect's metrics come.
	every = time.Minute
)

// Reporter writes metrics in CloudWatch's embedded metric format: a line of
// JSON for each service of the task, and for each that it called, with what
// was counted since the line before. Zeros are left out, as in AWS's own; what
// has nothing else has no line.
type Reporter struct {
	Task   Task
	Source Source
	To     io.Writer // gets whole lines
	Log    *slog.Logger

	mu   sync.Mutex
	last Sample
}

// Run reports every minute until ctx ends.
func (r *Reporter) Run(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case now := <-tick.C:
			r.Report(ctx, now)
		}
	}
}

// Report writes what was counted since the last report, such as before the
// task ends. While Envoy does not answer there is nothing to write; what it
// has counted comes later.
func (r *Reporter) Report(ctx context.Context, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, err := r.Source(ctx)
	if err == nil {
		err = r.write(s.Since(r.last), now)
	}
	if err != nil {
		r.Log.DebugContext(ctx, "no metrics are written", "error", err)
		return
	}
	r.last = s
}

func (r *Reporter) write(s Sample, now time.Time) error {
	for _, i := range s.In {
		l := line{}
		l.count("ActiveConnectionCount", "Count", i.Active)
		l.count("NewConnectionCount", "Count", i.Connections)
		l.count("ProcessedBytes", "Bytes", i.Bytes)
		l.count("RequestCount", "Count", i.Requests)
		l.count("GrpcRequestCount", "Count", i.GRPC)
		l.count("ClientTLSNegotiationErrorCount", "Count", i.TLSErrors)
		if err := r.end(l, "DiscoveryName", i.DiscoveryName, now); err != nil {
			return err
		}
	}
	for _, o := range s.Out {
		l := line{}
		for class := 2; class <= 5; class++ {
			l.count(fmt.Sprintf("HTTPCode_Target_%dXX_Count", class), "Count", o.Class[class])
		}
		if o.Requests > 0 {
			l.add("RequestCountPerTarget", "Count", float64(o.Requests)/float64(max(o.Targets, 1)))
		}
		l.count("TargetProcessedBytes", "Bytes", o.Bytes)
		if v := values(o.Time); v.Count > 0 {
			l.add("TargetResponseTime", "Milliseconds", v)
		}
		l.count("TargetTLSNegotiationErrorCount", "Count", o.TLSErrors)
		if err := r.end(l, "TargetDiscoveryName", o.TargetDiscoveryName, now); err != nil {
			return err
		}
	}
	return nil
}

// line is one document under way.
type line struct {
	directives []directive
	values     []any
}

type directive struct {
	Name string
	Unit string
}

func (l *line) add(name, unit string, v any) {
	l.directives, l.values = append(l.directives, directive{name, unit}), append(l.values, v)
}

func (l *line) count(name, unit string, n uint64) {
	if n > 0 {
		l.add(name, unit, n)
	}
}

// end writes a line that has anything.
func (r *Reporter) end(l line, dimension, name string, now time.Time) error {
	if len(l.values) == 0 {
		return nil
	}
	doc := map[string]any{
		"_aws": map[string]any{
			"Timestamp": now.UnixMilli(),
			"CloudWatchMetrics": []any{map[string]any{
				"Namespace":  emfNamespace,
				"Dimensions": [][]string{{dimension}, {dimension, "ServiceName", "ClusterName"}},
				"Metrics":    l.directives,
			}},
		},
		dimension: name, "ServiceName": r.Task.Service, "ClusterName": r.Task.Cluster,
	}
	for i, d := range l.directives {
		doc[d.Name] = l.values[i]
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("metrics of %s: %w", name, err)
	}
	if _, err := r.To.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("metrics of %s: %w", name, err)
	}
	return nil
}

// distribution is a metric of many values, in the form that AWS's exporters
// write: each value with how often it came.
type distribution struct {
	Values, Counts []float64
	Max, Min       float64
	Count          uint64
	Sum            float64
}

// values stands for each interval by its middle; the sum is exact. What is
// beyond the last bound counts as that.
func values(h Histogram) distribution {
	d := distribution{Values: []float64{}, Counts: []float64{}, Sum: h.Sum, Min: math.Inf(1)}
	from := 0.0
	for _, b := range h.Buckets {
		to := b.UpTo
		if math.IsInf(to, 1) {
			to = from
		}
		if b.Count > 0 {
			v := (from + to) / 2
			d.Values, d.Counts = append(d.Values, v), append(d.Counts, float64(b.Count))
			d.Count += b.Count
			d.Min, d.Max = min(d.Min, v), max(d.Max, v)
		}
		from = to
	}
	return d
}
