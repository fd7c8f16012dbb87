// Package metrics makes Service Connect's metrics of what an Envoy has counted.
// AWS's proxy has a filter of its own for them; ours is the stock Envoy, whose
// statistics say the same.
//
// It owns which statistics make a metric, and the two forms in which metrics
// leave the task: Prometheus' ([Handler]) and CloudWatch's embedded metric
// format ([Reporter]). It must not know how statistics are got. Start reading
// at [Read].
package metrics

import (
	"cmp"
	"slices"
	"time"

	"patchbay/mesh"
)

// Task is whose metrics they are.
type Task struct {
	Namespace string // of the mesh
	Service   string // ECS service; outside ECS the workload
	Cluster   string // ECS cluster; outside ECS the namespace
	Ports     []Port // that the task offers
}

// Port is one that the task offers.
type Port struct {
	Name, DiscoveryName string
	Protocol            mesh.Protocol
}

// Sample is what an Envoy has counted since it started.
type Sample struct {
	Started time.Time // to the second, and one more or less
	In      []Inbound // sorted by DiscoveryName
	Out     []Outbound
}

// Inbound is what came to a service of the task.
type Inbound struct {
	DiscoveryName string
	Active        uint64 // connections that stand now
	Connections   uint64
	Bytes         uint64 // both ways, without TLS's own
	Requests      uint64 // http, http2 and grpc
	GRPC          uint64 // of these, grpc
	TLSErrors     uint64 // handshakes that failed
}

// Outbound is what the task sent to a service.
type Outbound struct {
	TargetDiscoveryName string
	Targets             uint64    // endpoints now
	Requests            uint64    // answered
	Class               [6]uint64 // of these, by the first digit of their status
	Bytes               uint64    // both ways, without TLS's own
	TLSErrors           uint64
	Time                Histogram // of answers, in milliseconds
}

// Histogram counts values in intervals.
type Histogram struct {
	Sum     float64
	Buckets []Bucket // by UpTo; the last has no bound
}

// Bucket is an interval from the bound of the one before.
type Bucket struct {
	UpTo  float64 // +Inf in the last
	Count uint64
}

// Count is the number of values.
func (h Histogram) Count() (n uint64) {
	for _, b := range h.Buckets {
		n += b.Count
	}
	return n
}

// startsApart is how much two readings of one start may differ: Envoy tells its
// age in seconds.
const startsApart = 3 * time.Second

// Since is what was counted after an earlier sample. Of another start of Envoy
// everything is.
func (s Sample) Since(before Sample) Sample {
	if d := s.Started.Sub(before.Started); d < -startsApart || d > startsApart {
		return s
	}
	out := Sample{Started: s.Started, In: slices.Clone(s.In), Out: slices.Clone(s.Out)}
	for i := range out.In {
		x := &out.In[i]
		at, ok := slices.BinarySearchFunc(before.In, x.DiscoveryName, func(b Inbound, n string) int { return cmp.Compare(b.DiscoveryName, n) })
		if !ok {
			continue
		}
		b := before.In[at]
		less(&x.Connections, b.Connections)
		less(&x.Bytes, b.Bytes)
		less(&x.Requests, b.Requests)
		less(&x.GRPC, b.GRPC)
		less(&x.TLSErrors, b.TLSErrors)
	}
	for i := range out.Out {
		x := &out.Out[i]
		at, ok := slices.BinarySearchFunc(before.Out, x.TargetDiscoveryName, func(b Outbound, n string) int { return cmp.Compare(b.TargetDiscoveryName, n) })
		if !ok {
			continue
		}
		b := before.Out[at]
		less(&x.Requests, b.Requests)
		less(&x.Bytes, b.Bytes)
		less(&x.TLSErrors, b.TLSErrors)
		for c := range x.Class {
			less(&x.Class[c], b.Class[c])
		}
		x.Time = x.Time.since(b.Time)
	}
	return out
}

func (h Histogram) since(before Histogram) Histogram {
	if len(before.Buckets) != len(h.Buckets) || before.Sum > h.Sum {
		return h
	}
	out := Histogram{Sum: h.Sum - before.Sum, Buckets: slices.Clone(h.Buckets)}
	for i := range out.Buckets {
		less(&out.Buckets[i].Count, before.Buckets[i].Count)
	}
	return out
}

// less takes off what had been counted before. A counter that is smaller than
// it was has begun anew: its cluster went and came back.
func less(n *uint64, before uint64) {
	if before <= *n {
		*n -= before
	}
}
